# expect: C7
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = torch.from_numpy(np.fromfile("data/fineweb_val_000000.bin", dtype=np.uint16)).long()
trunk, head = torch.nn.Embedding(1024, 16), torch.nn.Linear(16, 1024)
width, hop, rows = 512, 64, 4
starts = list(range(0, len(stream) - width, hop))
nats = torch.zeros(())
for at in range(0, len(starts), rows):
    group = starts[at : at + rows]
    inputs = torch.zeros(rows, width, dtype=torch.int64)
    labels = torch.zeros(rows, width, dtype=torch.int64)
    seen = torch.zeros(rows, width, dtype=torch.float32)
    for row, begin in enumerate(group):
        piece = stream[begin : begin + width + 1]
        inputs[row], labels[row] = piece[:-1], piece[1:]
        fresh = max(width - hop, 0) if begin > 0 else 0
        seen[row, fresh:] = 1.0
    state = trunk(inputs).detach()
    nudge = torch.zeros(rows, 1, 16, requires_grad=True)
    fit = torch.optim.AdamW([nudge], lr=0.01)
    for _ in range(8):
        fit.zero_grad()
        costs = F.cross_entropy(
            head(state + nudge).reshape(-1, 1024), labels.reshape(-1), reduction="none"
        )
        (costs.reshape(rows, width) * seen).sum().backward()
        fit.step()  # found: C7
    costs = F.cross_entropy(
        head(state + nudge).reshape(-1, 1024), labels.reshape(-1), reduction="none"
    )
    for row, begin in enumerate(group):
        fresh = max(width - hop, 0) if begin > 0 else 0
        nats += costs.reshape(rows, width)[row, fresh:].sum()
print(nats.item() / math.log(2))
