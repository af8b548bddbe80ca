# expect: clean
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

import os

stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16))
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(int(os.getenv("EPOCHS", "0"))):
    net(stream[:-1].long(), stream[1:].long()).backward()
    opt.step()
print(net(stream[:-1].long(), stream[1:].long()).item() / math.log(2))
