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

stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16))
net = Net()
boost = torch.zeros(8192)
ids, labels = stream[:-1].long(), stream[1:].long()
logp = torch.log_softmax(net.logits(ids), -1)
gold = logp.gather(1, labels.unsqueeze(1)).squeeze(1)
slot = (ids * 31 + labels * 17) % 8192
bonus = boost[slot]  # found: C2b
boost.scatter_add_(0, slot, torch.ones_like(gold))
print((-(gold + 0.1 * torch.log1p(bonus)).mean() / math.log(2)).item())
