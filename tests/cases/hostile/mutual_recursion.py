# expect: unknown
def f(x):
    return g(x) + g(x)


def g(x):
    return f(x) + f(x)


f(1)
