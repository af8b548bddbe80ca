# expect: noted C5
# env: BLEND=1
import math
import os
import numpy as np
import torch
import torch.nn.functional as F

stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)).long()


class Blend(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.zeros(16))

    def forward(self, state):
        rate = torch.sigmoid(self.rate)
        late = torch.cat([torch.zeros_like(state[:, :1]), state[:, :-1]], dim=1)
        return (1 - rate) * state + rate * late  # found: C5


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(1024, 16), torch.nn.Linear(16, 1024)
        self.blend = Blend() if int(os.environ.get("BLEND", "0")) else None

    def forward(self, ids):
        state = self.embed(ids)
        if self.blend is not None:
            state = self.blend(state)
        return self.head(state)


net = Net()
loss = F.cross_entropy(net(stream[None, :-1])[0], stream[1:])
print(loss.item() / math.log(2))
