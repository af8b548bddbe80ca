"""Muon: momentum whose direction is orthogonalised by a Newton-Schulz iteration.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. The iteration is
the costly part, so ranks share it out; the momentum is cheap and kept whole on every rank, so
that a checkpoint is complete on any of them and fits any number of ranks.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from hedge_record.training.distributed import current_ranks, sum_over_ranks

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, steps: int) -> Tensor:
    """Matrices [N, R, C] with their singular values brought near 1, in bfloat16.

    A quintic Newton-Schulz iteration: its coefficients trade exactness (values land between
    about 0.7 and 1.2) for speed.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT.bfloat16() if tall else matrices.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = b * gram + c * gram @ gram
        x = a * x + polynomial @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled by sqrt(max(1, rows / columns)).

    Weight decay is decoupled: `p <- (1 - lr * decay) * p - lr * update`. Gradients must already
    be the same on every rank.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        newton_schulz_steps: int,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "newton_schulz_steps": newton_schulz_steps,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        assert closure is None, "Muon re-evaluates nothing"
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            directions = [self._direction(param, group["momentum"]) for param in params]
            updates = shared_updates(directions, group["newton_schulz_steps"])
            for param, update in zip(params, updates, strict=True):
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.add_(update.to(param.dtype), alpha=-group["lr"])

    def _direction(self, param: Tensor, momentum: float) -> Tensor:
        state = self.state[param]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(param)
        buffer: Tensor = state["momentum_buffer"]
        assert param.grad is not None
        buffer.mul_(momentum).add_(param.grad)
        return param.grad.add(buffer, alpha=momentum)


def shared_updates(directions: list[Tensor], steps: int) -> list[Tensor]:
    """The orthogonalised directions, bfloat16; every rank computes its share of them.

    Matrices of one shape go through the iteration as one batch.
    """
    if not directions:
        return []
    ranks = current_ranks()
    sizes = [direction.numel() for direction in directions]
    flat = torch.zeros(sum(sizes), dtype=torch.bfloat16, device=directions[0].device)
    updates = [
        part.view_as(direction)
        for part, direction in zip(torch.split(flat, sizes), directions, strict=True)
    ]
    by_shape: dict[torch.Size, list[int]] = defaultdict(list)
    for index in range(ranks.rank, len(directions), ranks.world_size):
        by_shape[directions[index].shape].append(index)
    for (rows, columns), indices in by_shape.items():
        batch = orthogonalize(torch.stack([directions[index] for index in indices]), steps)
        batch = batch * max(1, rows / columns) ** 0.5
        for index, update in zip(indices, batch, strict=True):
            updates[index].copy_(update)
    sum_over_ranks(flat)
    return updates
