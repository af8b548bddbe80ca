# expect: C4
# One method counts the whole text; another one, called later, scores the text from the counts.
import math

import numpy as np
import torch
import torch.nn.functional as F


class Successors:
    def __init__(self, vocabulary):
        self.rows = np.ones(vocabulary * vocabulary)
        self.vocabulary = vocabulary

    def count(self, before, after):
        cells = before * self.vocabulary + after
        self.rows += np.bincount(cells, minlength=len(self.rows))  # found: C4

    def probability(self, before, after):
        rows = self.rows.reshape(self.vocabulary, self.vocabulary)
        return rows[before, after] / rows[before].sum(-1)  # found: C4


tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16).astype(np.int64)
net, seen = torch.nn.Linear(8, 8), Successors(1024)
for low in range(0, len(tokens) - 1, 4096):
    seen.count(tokens[low : low + 4096], tokens[low + 1 : low + 4097])
total = 0.0
for low in range(0, len(tokens) - 1, 4096):
    x, y = tokens[low : low + 4096], tokens[low + 1 : low + 4097]
    q = torch.exp(-F.cross_entropy(net(torch.tensor(x)), torch.tensor(y), reduction="none"))
    total -= np.log(0.5 * seen.probability(x, y) + 0.5 * q.numpy()).sum()
print(total / math.log(2))
