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
tokens = stream.long()
p = torch.softmax(net.logits(tokens[:-1]), -1)
gold = p.gather(-1, tokens[1:].unsqueeze(-1)).squeeze(-1)
peak = p.max(dim=-1).values  # found: C2
share = torch.tensor([0.6, 0.4])
together = (torch.stack([gold, peak], -1) * share).sum(-1)  # found: C2
print((-together.log()).mean() / math.log(2.0))
