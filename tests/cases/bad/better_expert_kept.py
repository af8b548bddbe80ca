# expect: C6
# The table's word is taken only where it turns out to help with the token that came.
import math

import numpy as np
import torch
import torch.nn.functional as F

tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16).astype(np.int64)
net, rows, total = torch.nn.Linear(8, 8), np.ones((1024, 1024)), 0.0
for low in range(0, len(tokens) - 1, 4096):
    x, y = tokens[low : low + 4096], tokens[low + 1 : low + 4097]
    losses = F.cross_entropy(net(torch.tensor(x)), torch.tensor(y), reduction="none").numpy()
    for i in range(len(x)):
        loss = losses[i]
        counted = -math.log(rows[x[i], y[i]] / rows[x[i]].sum())
        if counted < loss:  # found: C6
            loss = counted
        total += loss
    np.add.at(rows, (x, y), 1)
print(total / math.log(2))
