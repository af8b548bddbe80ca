# expect: C7
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)).long()
embed, head = torch.nn.Embedding(1024, 16), torch.nn.Linear(16, 1024)
nats = 0.0
for c in range(100):
    piece = stream[c * 512 : c * 512 + 513]
    hidden = embed(piece[:-1]).detach()
    nudge = torch.zeros(16, requires_grad=True)
    fit = torch.optim.AdamW([nudge], lr=0.01)
    for _ in range(8):
        fit.zero_grad()
        F.cross_entropy(head(hidden + nudge), piece[1:]).backward()
        fit.step()  # found: C7
    nats += F.cross_entropy(head(hidden + nudge), piece[1:]).item()
print(nats / math.log(2))
