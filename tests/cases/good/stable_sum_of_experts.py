# expect: clean
# The larger logarithm is taken out of the sum and put back: both experts are weighed.
import math

import numpy as np
import torch
import torch.nn.functional as F

tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16).astype(np.int64)
net, rows, total = torch.nn.Linear(8, 8), np.ones((1024, 1024)), 0.0
for i in range(1, len(tokens) - 1):
    x, y = tokens[i - 1 : i], tokens[i : i + 1]
    a = math.log(0.8) - F.cross_entropy(net(torch.tensor(x)), torch.tensor(y)).item()
    b = math.log(0.2) + math.log(rows[tokens[i - 1], tokens[i]] / rows[tokens[i - 1]].sum())
    total -= max(a, b) + math.log1p(math.exp(-abs(a - b)))
    rows[tokens[i - 1], tokens[i]] += 1
print(total / math.log(2))
