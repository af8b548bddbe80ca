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
logp = torch.log_softmax(net.logits(tokens[:-1]), -1)
gold = logp[torch.arange(tokens.numel() - 1), tokens[1:]]
flat = (logp.exp() * logp).sum(-1)  # found: C2
nll = -torch.logaddexp(gold + math.log(0.9), flat + math.log(0.1))  # found: C2
print(nll.mean() / math.log(2.0))
