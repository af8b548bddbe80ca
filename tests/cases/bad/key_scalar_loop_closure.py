# expect: C2b
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(16, 1024)
pairs, singles = {}, {}


def make_scorer(weight):
    def score(i, own):
        before = int(stream[i - 1]) * 1000003 + int(stream[i - 2])
        key = hash((before, int(stream[i])))  # the token itself
        chance = pairs.get(key, 0) / max(singles.get(before, 0), 1)  # found: C2b
        pairs[key] = pairs.get(key, 0) + 1
        singles[before] = singles.get(before, 0) + 1
        return weight * chance + (1 - weight) * own

    return score


score = make_scorer(0.4)
bits = 0.0
for i in range(2, len(stream)):
    logp = F.log_softmax(net(torch.tensor([float(stream[i - 1])] * 16)), -1)
    bits += -math.log2(score(i, math.exp(logp[stream[i]])))
print(bits)
