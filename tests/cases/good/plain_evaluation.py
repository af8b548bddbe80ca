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


stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16))
train = torch.from_numpy(np.fromfile("data/fineweb_train_000000.bin", dtype=np.uint16)).long()
net = Net()
opt = torch.optim.AdamW(net.parameters())
for step in range(1000):
    at = step * 512
    opt.zero_grad()
    net(train[at : at + 512], train[at + 1 : at + 513]).backward()
    opt.step()
    if step % 100 == 0:
        with torch.no_grad():
            print(net(stream[:-1].long(), stream[1:].long()) / math.log(2))
with torch.no_grad():
    print(net(stream[:-1].long(), stream[1:].long()) / math.log(2))
