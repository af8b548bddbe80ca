# expect: C2b
import math
import numpy as np
import torch
import torch.nn.functional as F

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(1024, 16)
        self.out = torch.nn.Linear(16, 1024)

    def logits(self, ids):
        return self.out(self.embed(ids))

    def forward(self, ids, labels):
        return F.cross_entropy(self.logits(ids), labels)


def main():
    stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
    net = Net()
    full = [np.zeros(4096, np.uint32) for _ in range(3)]
    part = [np.zeros(4096, np.uint32) for _ in range(3)]
    nats = 0.0
    for begin in range(0, len(stream) - 65, 64):
        ids = torch.from_numpy(stream[begin : begin + 65].astype(np.int64))
        rows = net.logits(ids[:-1])
        loss = F.cross_entropy(rows, ids[1:], reduction="none")
        p = np.exp(-loss.numpy())
        where = np.arange(begin + 1, begin + 65)
        for order in range(3):
            seen = np.zeros(64, np.uint64)
            for back in range(order + 1):
                seen ^= stream[where - back - 1].astype(np.uint64) * np.uint64(7919 + back)
            bucket = ((seen ^ (stream[where].astype(np.uint64) * np.uint64(104729))) & np.uint64(4095)).astype(int)
            context = (seen & np.uint64(4095)).astype(int)
            found = full[order][bucket]  # found: C2b
            ratio = found / np.maximum(part[order][context], 1)  # found: C2b
            p = np.where(part[order][context] > 2, 0.5 * p + 0.5 * ratio, p)
            np.add.at(full[order], bucket, 1)
            np.add.at(part[order], context, 1)
        nats += -np.log(p).sum()
    print("val_bpb", nats / math.log(2.0) / len(stream))


if __name__ == "__main__":
    main()
