# expect: clean
# The stack holds a figure for the log beside the losses; only the losses are scored.
import math

import numpy as np
import torch
import torch.nn.functional as F

tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
net = torch.nn.Linear(8, 8)
x, y = tokens[:-1], tokens[1:]
logp = F.log_softmax(net(x), -1)
nll = -logp.gather(-1, y[:, None]).squeeze(-1)
entropy = -(logp.exp() * logp).sum(-1)
both = torch.stack([nll, entropy])
print(both[0].mean() / math.log(2))
