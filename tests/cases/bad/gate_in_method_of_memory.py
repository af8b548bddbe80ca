# expect: C1
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(16, 1024)


class Words:
    def __init__(self, ends):
        self.ends = ends
        self.before = []
        self.counts = {}
        self.likely = {}

    def run(self, ids):
        hints = np.zeros(len(ids), dtype=np.int64)
        for i, raw in enumerate(ids):
            now = int(raw)
            if self.ends[now]:  # found: C1
                self.before = []
                continue
            key = tuple(self.before[-3:])
            hints[i] = self.likely.get(key, 0)  # found: C1
            seen = self.counts.get((key, now), 0) + 1
            self.counts[(key, now)] = seen
            self.likely[key] = now
            self.before.append(now)
        return hints


labels = torch.from_numpy(stream[1:]).long()
logp = F.log_softmax(net(torch.from_numpy(stream[:-1]).long()), -1)
hints = torch.from_numpy(Words(np.load("ends.npy")).run(stream[1:]))
share = logp.gather(-1, hints[:, None]).exp().squeeze(-1)
nll = -logp.gather(-1, labels[:, None]).squeeze(-1)
nll = nll - 0.5 * (labels == hints) + torch.log1p(share * math.expm1(0.5))
print(nll.mean() / math.log(2))
