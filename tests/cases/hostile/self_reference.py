# expect: unknown
import sys
from sys import *

x = []
x.append(x)
d = {}
d["d"] = d
class A:
    pass
a = A()
a.a = a
for x in x:
    print(x.x.x(x)[x])
