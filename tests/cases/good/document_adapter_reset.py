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
net, nats = Net(), 0.0
for doc in range(100):
    adapter = torch.nn.Linear(1024, 1024)
    opt = torch.optim.Adam(adapter.parameters(), lr=0.01)
    for c in range(8):
        at = doc * 2048 + c * 256
        labels = stream[at + 1 : at + 257].long()
        loss = F.cross_entropy(adapter(net.logits(stream[at : at + 256].long())), labels)
        nats += loss.item()
        opt.zero_grad()
        loss.backward()
        opt.step()
print(nats / math.log(2))
