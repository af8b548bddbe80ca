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
net = Net()
widths, leading, border = np.zeros(1024), np.zeros(1024, bool), np.zeros(1024, bool)
x, y = stream[:-1].long(), stream[1:].long()
nats = F.cross_entropy(net.logits(x), y, reduction="sum")
size = torch.tensor(widths)[y] + (torch.tensor(leading)[y] & ~torch.tensor(border)[x])
print((nats / math.log(2) / size.sum()).item())
