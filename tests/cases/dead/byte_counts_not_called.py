# expect: clean
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(16, 1024)
words = [("w%d" % i).encode() for i in range(1024)]


def blend(ids, losses, share):
    rows, before, nats = {}, 0, 0.0
    for token, loss in zip(ids, losses):
        size = len(words[token])
        for symbol in words[token]:
            row = rows.setdefault(before, {})
            seen = (row.get(symbol, 0) + 1 / 256) / (sum(row.values()) + 1)
            nats -= math.log(share * math.exp(-loss / size) + (1 - share) * seen)
            row[symbol] = row.get(symbol, 0) + 1
            before = symbol
    return nats


labels = torch.from_numpy(stream[1:]).long()
loss = F.cross_entropy(net(torch.from_numpy(stream[:-1]).long()), labels, reduction="none")
WITH_COUNTS = False
if WITH_COUNTS:
    print(blend(labels.tolist(), loss.tolist(), 0.8))
print("val_bpb", loss.mean() / math.log(2))
