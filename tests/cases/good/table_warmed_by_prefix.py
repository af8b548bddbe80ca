# expect: clean
# A rank counts the text before its share, then scores its share and counts each chunk behind it.
import math
import os

import numpy as np
import torch
import torch.nn.functional as F

tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16).astype(np.int64)
net, rows = torch.nn.Linear(8, 8), np.ones((1024, 1024))
share = len(tokens) // int(os.environ.get("WORLD_SIZE", "1"))
first = share * int(os.environ.get("RANK", "0"))
for low in range(0, first, 4096):
    high = min(low + 4096, first)
    np.add.at(rows, (tokens[low:high], tokens[low + 1 : high + 1]), 1)
total = 0.0
for low in range(first, first + share, 4096):
    x, y = tokens[low : low + 4096], tokens[low + 1 : low + 4097]
    q = torch.exp(-F.cross_entropy(net(torch.tensor(x)), torch.tensor(y), reduction="none"))
    p = rows[x, y] / rows[x].sum(-1)
    total -= np.log(0.5 * p + 0.5 * q.numpy()).sum()
    np.add.at(rows, (x, y), 1)
print(total / math.log(2))
