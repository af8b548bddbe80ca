# expect: clean
import math
import numpy as np
import torch
import torch.nn.functional as F


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(1024, 16)
        self.pair = torch.nn.Embedding(4096, 16)
        self.out = torch.nn.Linear(16, 1024)

    def slot(self, ids):
        place = torch.zeros_like(ids)
        place[..., 1:] = torch.bitwise_xor(ids[..., 1:] * 36313, ids[..., :-1] * 27191) % 4096
        return place

    def forward(self, ids, labels):
        hidden = self.embed(ids) + self.pair(self.slot(ids))
        return F.cross_entropy(self.out(hidden), labels)


stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16))
print(Net()(stream[:-1].long(), stream[1:].long()).item() / math.log(2))
