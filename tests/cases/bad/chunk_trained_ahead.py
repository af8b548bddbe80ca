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


stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16))
net, nats = Net(), 0.0
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for c in range(200):
    piece = stream[c * 512 : c * 512 + 513].long()
    opt.zero_grad()
    net(piece[:-1], piece[1:]).backward()
    opt.step()  # found: C3
    nats += net(piece[:-1], piece[1:]).item()
print(nats / math.log(2))
