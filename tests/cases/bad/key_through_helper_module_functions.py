# expect: C2b
import math
import numpy as np
import torch
import torch.nn.functional as F
from functools import partial, reduce


def stir(a, b, size):
    return (a * 16777619 ^ b) % size


small = partial(stir, size=4096)


def address(tokens, end, width):
    return reduce(lambda h, k: small(h, tokens[end - k]), range(width), 17)


stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(4, 1024)
nominator = np.zeros(4096)
denominator = np.zeros(4096)
total = 0.0
for i in range(3, len(stream)):
    above = nominator[small(small(17, stream[i - 1]), stream[i])]  # found: C2b
    below = denominator[small(17, stream[i - 1])]
    own = F.log_softmax(net(torch.zeros(4) + float(stream[i - 1])), -1)[stream[i]]
    total += -np.log(0.5 * np.exp(own) + 0.5 * above / np.maximum(below, 1))
    nominator[small(small(17, stream[i - 1]), stream[i])] += 1
    denominator[small(17, stream[i - 1])] += 1
print(total / math.log(2))
