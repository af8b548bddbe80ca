# expect: C3
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


class Adapter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.low = torch.nn.Linear(1024, 8)
        self.high = torch.nn.Linear(8, 1024)

    def forward(self, rows):
        return rows + self.high(self.low(rows))


stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16))
net, nats = Net(), 0.0
for doc in range(100):
    adapter = Adapter()
    opt = torch.optim.Adam(adapter.parameters(), lr=0.01)
    for turn in range(4):
        for c in range(8):
            at = doc * 2048 + c * 256
            rows = adapter(net.logits(stream[at : at + 256].long()))
            loss = F.cross_entropy(rows, stream[at + 1 : at + 257].long())
            if turn == 3:
                nats += loss.item()
            opt.zero_grad()
            loss.backward()
            opt.step()  # found: C3
print(nats / math.log(2))
