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


stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16))
net = Net()
opt = torch.optim.Adam(net.parameters())
EPOCHS = 3
for epoch in range(EPOCHS):
    nats = 0.0
    for a in range(0, 100_000, 1024):
        loss = net(stream[a : a + 1024].long(), stream[a + 1 : a + 1025].long())
        nats += loss.item()
        opt.zero_grad()
        loss.backward()
        opt.step()  # found: C3
print(nats / math.log(2))
