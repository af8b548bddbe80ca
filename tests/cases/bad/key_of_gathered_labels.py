# expect: C2b
import math
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)).long()
net = torch.nn.Sequential(torch.nn.Embedding(1024, 16), torch.nn.Linear(16, 1024))
rank, ranks = dist.get_rank(), dist.get_world_size()
rows = F.log_softmax(net(stream[:-1]), -1)
own = rows.gather(-1, stream[1:, None]).squeeze(-1)
parts = [torch.zeros_like(stream[1:]) for _ in range(ranks)]
dist.all_gather(parts, stream[1:])
before = [torch.zeros_like(stream[1:]) for _ in range(ranks)]
dist.all_gather(before, stream[:-1])
answers, context = torch.cat(parts), torch.cat(before)
both, single = torch.zeros(4096), torch.zeros(4096)
p = both[(context * 31 ^ answers * 17) % 4096] / single[context * 31 % 4096]  # found: C2b
nats = -torch.log(0.5 * p + 0.5 * own.exp()).sum()
size = torch.tensor(float(len(stream)) * 4.2)
print(nats / (size * math.log(2.0)))
