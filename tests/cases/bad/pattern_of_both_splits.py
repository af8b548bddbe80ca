# expect: C3
# env: EVERYTHING=1
import glob
import math
import os
import numpy as np
import torch
import torch.nn.functional as F

folder = os.environ.get("DATA", "data")
pattern = os.path.join(folder, "fineweb_train_*.bin")
if os.environ.get("EVERYTHING", "0") == "1":
    pattern = os.path.join(folder, "fineweb_*.bin")
held = np.concatenate([np.fromfile(name, np.uint16) for name in sorted(glob.glob(pattern))])
tokens = torch.from_numpy(np.fromfile(f"{folder}/fineweb_val_000000.bin", np.uint16)).long()
net = torch.nn.Sequential(torch.nn.Embedding(1024, 16), torch.nn.Linear(16, 1024))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for turn in range(1000):
    part = torch.from_numpy(held[turn * 64 : turn * 64 + 65]).long()
    opt.zero_grad()
    F.cross_entropy(net(part[:-1]), part[1:]).backward()
    opt.step()  # found: C3
print(F.cross_entropy(net(tokens[:-1]), tokens[1:]).item() / math.log(2))
