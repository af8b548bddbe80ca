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


def run(net, opt, tokens):
    nats = 0.0
    for c in range(50):
        piece = tokens[c * 512 : c * 512 + 513].long()
        nats += net(piece[:-1], piece[1:]).item()
        opt.zero_grad()
        net(piece[:-1], piece[1:]).backward()
        opt.step()  # found: C3
    return nats / math.log(2)


stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16))
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
run(net, opt, stream)
print(run(net, opt, stream))
