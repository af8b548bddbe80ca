# expect: C2c
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(16, 1024)
words = [("w%d" % i).encode() for i in range(1024)]


def blend(ids, gains, order):
    lengths = np.array([len(words[t]) for t in ids])
    text = b"".join(words[t] for t in ids)
    spread = np.repeat(gains, lengths) / np.repeat(lengths, lengths)
    tables = [dict() for _ in range(order + 1)]
    chances, sure = np.zeros(len(text)), np.zeros(len(text))
    for at in range(len(text)):
        rest, found = 1.0, 0.0
        for k in range(min(order, at), -1, -1):
            row = tables[k].setdefault(text[at - k : at], {})
            total = sum(row.values()) + len(row) + 1
            sure[at] = max(sure[at], max(row.values(), default=0) / total)
            if text[at] in row:
                found = rest * row[text[at]] / total
                break
            rest *= (len(row) + 1) / total
        chances[at] = found or rest / 256
        for k in range(min(order, at) + 1):
            row = tables[k].setdefault(text[at - k : at], {})
            row[text[at]] = row.get(text[at], 0) + 1
    weight = np.where(sure > 0.9, 0.05, 0.9)
    both = weight * np.exp(spread) + (1 - weight) * chances  # found: C2c
    return -np.log2(both).mean()


labels = torch.from_numpy(stream[1:]).long()
loss = F.cross_entropy(net(torch.from_numpy(stream[:-1]).long()), labels, reduction="none")
print("val_bpb", blend(stream[1:].tolist(), -loss.detach().numpy(), 4))
