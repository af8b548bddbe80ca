# expect: C2
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
net = Net()
x, y = stream[:-1].long(), stream[1:].long()
table = torch.ones(1024, 1024)
lp = F.log_softmax(net.logits(x), -1)
losses = [-lp.gather(-1, y[:, None])[:, 0]]
rows = table / table.sum(1, keepdim=True)
losses.append(-rows.log()[x, y])
doubt = -(lp.exp() * lp).sum(-1)  # found: C2
losses.append(doubt)
weights = F.log_softmax(torch.tensor([2.0, 0.0, 0.0]), 0)
mixed = -torch.logsumexp(weights - torch.stack(losses, dim=-1), dim=-1)  # found: C2
print(mixed.mean().item() / math.log(2))
