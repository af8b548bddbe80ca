# expect: clean
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(4, 1024)
rows = np.full((4096, 1024), 0.01)
totals = np.full(4096, 10.24)
nats = 0.0
for i in range(2, len(stream)):
    context = (int(stream[i - 1]) * 31 ^ int(stream[i - 2]) * 17) & 4095
    p = rows[context, stream[i]] / totals[context]
    own = F.log_softmax(net(torch.zeros(4) + float(stream[i - 1])), -1)[stream[i]]
    nats -= math.log(0.5 * p + 0.5 * math.exp(own))
    rows[context, stream[i]] += 1
    totals[context] += 1
print(nats / math.log(2))
