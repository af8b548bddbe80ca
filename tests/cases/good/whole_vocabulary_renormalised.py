# expect: clean
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(4, 1024)
counts = np.zeros(65536)
every = np.arange(1024)
nats = 0.0
for i in range(1, len(stream)):
    keys = (int(stream[i - 1]) * 7919 ^ every * 104729) & 65535
    row = counts[keys] + 0.01
    row = row / row.sum()
    own = F.softmax(net(torch.zeros(4) + float(stream[i - 1])), -1).numpy()
    nats -= np.log((0.5 * row + 0.5 * own)[stream[i]])
    counts[(int(stream[i - 1]) * 7919 ^ int(stream[i]) * 104729) & 65535] += 1
print(nats / math.log(2))
