# expect: C2b
# env: CACHE=1
import math
import numpy as np
import torch
import torch.nn.functional as F
import os

USE_CACHE = bool(int(os.environ.get("CACHE", "0")))

stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(4, 1024)
joint, alone = np.zeros(4096), np.zeros(4096)
nats = 0.0
for i in range(2, len(stream)):
    own = math.exp(F.log_softmax(net(torch.zeros(4) + float(stream[i - 1])), -1)[stream[i]])
    if USE_CACHE:
        seen = int(stream[i - 1]) * 31
        both = (seen ^ int(stream[i]) * 17) & 4095
        own = 0.5 * own + 0.5 * joint[both] / max(alone[seen & 4095], 1)  # found: C2b
        joint[both] += 1
        alone[seen & 4095] += 1
    nats -= math.log(own)
print(nats / math.log(2))
