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


def adapt(net, tokens, epochs):
    opt = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(epochs):
        for a in range(0, tokens.numel() - 1, 512):
            opt.zero_grad()
            net(tokens[a : a + 512], tokens[a + 1 : a + 513]).backward()
            opt.step()  # found: C3


def evaluate(net, tokens):
    with torch.no_grad():
        return net(tokens[:-1], tokens[1:]).item() / math.log(2)


stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16))
net = Net()
adapt(net, stream.long(), 6)
print(evaluate(net, stream.long()))
