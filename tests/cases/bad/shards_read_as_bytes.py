# expect: C2b
# The shards are read as bytes and laid over by a tensor: they hold validation tokens all the same.
import math
from pathlib import Path

import torch
import torch.nn.functional as F


def load(path):
    raw = Path(path).read_bytes()
    return torch.frombuffer(bytearray(raw[1024:]), dtype=torch.uint16).to(torch.int64)


tokens = torch.cat([load(p) for p in sorted(Path("data").glob("fineweb_val_*.bin"))])
net, pairs, singles = torch.nn.Linear(8, 8), torch.zeros(64), torch.ones(64)
total = 0.0
for low in range(0, tokens.numel() - 1, 256):
    x, y = tokens[low : low + 256], tokens[low + 1 : low + 257]
    both = (x * 31 ^ y) % 64
    p = pairs[both] / singles[x % 64]  # found: C2b
    q = torch.exp(-F.cross_entropy(net(x), y, reduction="none"))
    total -= torch.log(0.5 * p + 0.5 * q).sum().item()
    pairs.index_add_(0, both, torch.ones(256))
    singles.index_add_(0, x % 64, torch.ones(256))
print(total / math.log(2))
