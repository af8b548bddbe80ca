# expect: C2
# A batch of windows is mixed at once; of the result, the row of each window is taken by index.
import math

import numpy as np
import torch
import torch.nn.functional as F

tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
net, stride, total = torch.nn.Linear(8, 8), 64, 0.0
weights = torch.tensor([0.7, 0.3])
for low in range(0, tokens.numel() - 1025, stride):
    window = tokens[low : low + 1025]
    x, y = window[:-1], window[1:]
    logp = F.log_softmax(net(x), -1)[None]
    model = logp.gather(-1, y[None, :, None]).squeeze(-1).exp()
    spread = torch.exp((logp.exp() * logp).sum(-1))  # found: C2
    mixed = torch.stack([model, spread], -1) @ weights
    total += -torch.log(mixed)[0, -stride:].sum().item()
print(total / math.log(2))
