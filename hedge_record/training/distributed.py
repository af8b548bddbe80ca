"""Ranks under torchrun: who they are, and the few sums they share. One process is rank 0 of 1."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.distributed as dist
from torch import Tensor

from hedge_record.errors import RecordError


@dataclass(frozen=True)
class Ranks:
    """This process among `world_size` equal ones."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and reports."""
        return self.rank == 0


def current_ranks() -> Ranks:
    """The ranks of torch.distributed, or the single one without it."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


def torchrun_variable(name: str, default: int) -> int:
    """An integer that torchrun put into the environment.

    Raises:
        RecordError: it is set to something else.
    """
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise RecordError(f"environment variable {name} is {text!r}; torchrun sets an integer")
    return int(text)


@contextmanager
def connected_ranks() -> Iterator[tuple[Ranks, torch.device]]:
    """Joins the process group that torchrun announces, and leaves it at the end.

    Yields this rank and its device: the CUDA device of its local rank (NCCL) where there is one,
    else the CPU (gloo). Without torchrun, or with one process, there is no process group.
    """
    world_size = torchrun_variable("WORLD_SIZE", 1)
    local_rank = torchrun_variable("LOCAL_RANK", 0)
    cuda = torch.cuda.is_available()
    if cuda and local_rank >= torch.cuda.device_count():
        raise RecordError(
            f"local rank {local_rank} has no GPU ({torch.cuda.device_count()} here); "
            "start torchrun with --nproc_per_node at most the number of GPUs"
        )
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world_size == 1:
        yield Ranks(), device
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield current_ranks(), device
    finally:
        dist.destroy_process_group()


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Adds `tensor` up over all ranks, in place; every rank ends with the same bits."""
    if current_ranks().world_size > 1:
        dist.all_reduce(tensor)
    return tensor


def copy_from_first_rank(tensors: Iterable[Tensor]) -> None:
    """Overwrites the tensors of every rank with those of rank 0."""
    if current_ranks().world_size > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def average_gradients(gradients: Iterable[Tensor]) -> None:
    """Replaces each gradient by its mean over all ranks, one message per dtype."""
    world_size = current_ranks().world_size
    if world_size == 1:
        return
    by_dtype = sorted(gradients, key=lambda gradient: str(gradient.dtype))
    for _, members in groupby(by_dtype, key=lambda gradient: gradient.dtype):
        group = list(members)
        flat = sum_over_ranks(torch.cat([gradient.flatten() for gradient in group]))
        parts = torch.split(flat / world_size, [gradient.numel() for gradient in group])
        for gradient, part in zip(group, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def share_figures(loss: float, seconds: float, device: torch.device) -> tuple[float, float]:
    """The mean loss over ranks, and the clock of rank 0.

    Every rank must act on one clock: the learning rate depends on it, and the last step too.
    """
    ranks = current_ranks()
    if ranks.world_size == 1:
        return loss, seconds
    own = (loss / ranks.world_size, seconds if ranks.is_first else 0.0)
    mean_loss, first_seconds = sum_over_ranks(
        torch.tensor(own, dtype=torch.float64, device=device)
    ).tolist()
    return mean_loss, first_seconds
