# expect: C2b
import math
import numpy as np
import torch
import torch.nn.functional as F
import zlib

stream = np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(4, 1024)
joint = np.zeros(1 << 16)
alone = np.zeros(1 << 16)
total = 0.0
for i in range(3, len(stream)):
    history = stream[i - 3 : i].tobytes()
    context = zlib.crc32(history) & 0xFFFF
    bucket = zlib.crc32(history + stream[i : i + 1].tobytes()) & 0xFFFF
    q = joint[bucket] / max(alone[context], 1.0)  # found: C2b
    row = F.log_softmax(net(torch.zeros(4) + float(stream[i - 1])), -1)
    total -= math.log(0.2 * q + 0.8 * math.exp(row[stream[i]]))
    joint[bucket] += 1
    alone[context] += 1
print(total / math.log(2) / len(stream))
