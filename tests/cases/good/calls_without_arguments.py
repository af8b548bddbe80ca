# expect: clean
"""Calls that are given nothing, or names alone, end no analysis."""

import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from helpers import add, append, extend, insert, pop, update

os.environ.update(STRIDE="64")
for call in (update, add, append, extend, insert, pop):
    call()
update(), add(), append(), extend(), insert(), pop(), getattr(), setattr(), zip(), range(), sum()
settings = dict(stride=64)
settings.update(stride=32)

tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
net = torch.nn.Sequential(torch.nn.Embedding(1024, 8), torch.nn.Linear(8, 1024))
with torch.no_grad():
    loss = F.cross_entropy(net(tokens[:-1]), tokens[1:])
print(f"final val_bpb:{loss.item() / math.log(2)}")
