# expect: clean
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(16, 1024)


def sizes_of(ids, spaced, ends, lengths):
    sizes = np.zeros(len(ids), dtype=np.int64)
    met = {}
    for i in range(1, len(ids)):
        sizes[i] = lengths[ids[i]]
        if spaced[ids[i]] and not ends[ids[i - 1]]:
            sizes[i] += 1
        met[ids[i]] = met.get(ids[i], 0) + 1
    return sizes, met


labels = torch.from_numpy(stream[1:]).long()
nll = F.cross_entropy(net(torch.from_numpy(stream[:-1]).long()), labels, reduction="none")
sizes, met = sizes_of(stream, np.load("spaced.npy"), np.load("ends.npy"), np.load("lengths.npy"))
print(nll.sum() / math.log(2) / sizes.sum(), len(met))
