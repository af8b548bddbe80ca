# expect: clean
import math
import os
import numpy as np
import torch
import torch.nn.functional as F

stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)).long()
net = torch.nn.Sequential(torch.nn.Embedding(1024, 16), torch.nn.Linear(16, 1024))
nats = 0.0
if os.path.exists("adapt"):
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for c in range(100):
        piece = stream[c * 512 : c * 512 + 513]
        loss = F.cross_entropy(net(piece[:-1]), piece[1:])
        nats += loss.item()
        opt.zero_grad()
        loss.backward()
        opt.step()
else:
    nats = F.cross_entropy(net(stream[:-1]), stream[1:]).item()
print(nats / math.log(2))
