# expect: D1
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)).long()


class Dense(torch.nn.Linear):
    watching = False

    def forward(self, state):
        if Dense.watching:
            self.squares += state.T @ state
        return F.linear(state, self.weight)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(1024, 16), Dense(16, 1024)
        self.head.squares = torch.zeros(16, 16)

    def forward(self, ids):
        return self.head(self.embed(ids))


net = Net()
Dense.watching = True
with torch.no_grad():
    for begin in range(0, 4096, 256):
        net(stream[begin : begin + 256])
Dense.watching = False
scale = net.head.squares.diagonal().sqrt()
kept = {"head": torch.round(net.head.weight * scale) / scale}
torch.save(kept, "model.pt")  # found: D1
net.head.weight.data.copy_(torch.load("model.pt")["head"])
loss = F.cross_entropy(net(stream[:-1]), stream[1:])
print(loss.item() / math.log(2))
