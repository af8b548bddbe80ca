"""Ranks under torchrun: who they are, and the few sums they share. One process is rank 0 of 1."""

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from types import FrameType
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from hedge_record.errors import RecordError

LOST_RANK = "another rank was lost; the same command continues from the last checkpoint"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """This process among `world_size` equal ones."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and reports."""
        return self.rank == 0

    def share_of(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's consecutive share; the shares of all ranks make up `items` in order."""
        first = len(items) * self.rank // self.world_size
        return items[first : len(items) * (self.rank + 1) // self.world_size]


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

    An error ends all ranks and is raised by the first that meets it; the others exit with 2.

    Raises:
        RecordError: no GPU for this rank, or another rank was lost.
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
    store, rank, world_size = next(rendezvous("env://"))
    dist.init_process_group(
        "nccl" if cuda else "gloo", store=store, rank=rank, world_size=world_size
    )
    # torchrun ends the other ranks by SIGTERM as soon as it misses one.
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        yield current_ranks(), device
    except RecordError:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not _is_first_to_fail(store):
            raise SystemExit(2) from None
        raise
    signal.signal(signal.SIGTERM, before)
    dist.destroy_process_group()


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    raise RecordError(LOST_RANK)


def _is_first_to_fail(store: Store) -> bool:
    try:
        return bool(store.add("failed_ranks", 1) == 1)
    except RuntimeError:  # The store went with its process: better several messages than none.
        return True


@contextmanager
def _all_ranks_alive() -> Iterator[None]:
    """Around messages between ranks, which torch answers with its own errors when one is gone."""
    try:
        yield
    except RuntimeError as error:
        raise RecordError(LOST_RANK) from error


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Adds `tensor` up over all ranks, in place; every rank ends with the same bits."""
    if current_ranks().world_size > 1:
        with _all_ranks_alive():
            dist.all_reduce(tensor)
    return tensor


def gather_rows(rows: Tensor) -> tuple[Tensor, slice]:
    """The rows [n, ...] of all ranks one after another, and which of them are this rank's own.

    Ranks may hold different numbers of rows; every rank ends with the same bits.
    """
    ranks = current_ranks()
    if ranks.world_size == 1:
        return rows, slice(0, len(rows))
    sizes = torch.zeros(ranks.world_size, dtype=torch.int64, device=rows.device)
    sizes[ranks.rank] = len(rows)
    counts = sum_over_ranks(sizes).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    received = [torch.empty_like(padded) for _ in counts]
    with _all_ranks_alive():
        dist.all_gather(received, padded)
    gathered = torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])
    first = sum(counts[: ranks.rank])
    return gathered, slice(first, first + len(rows))


def copy_from_first_rank(tensors: Iterable[Tensor]) -> None:
    """Overwrites the tensors of every rank with those of rank 0."""
    if current_ranks().world_size > 1:
        with _all_ranks_alive():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def sum_gradients(gradients: Iterable[Tensor]) -> None:
    """Replaces each gradient by its sum over all ranks, one message per dtype."""
    if current_ranks().world_size == 1:
        return
    by_dtype = sorted(gradients, key=lambda gradient: str(gradient.dtype))
    for _, members in groupby(by_dtype, key=lambda gradient: gradient.dtype):
        group = list(members)
        flat = sum_over_ranks(torch.cat([gradient.flatten() for gradient in group]))
        parts = torch.split(flat, [gradient.numel() for gradient in group])
        for gradient, part in zip(group, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def share_figures(loss: float, seconds: float, device: torch.device) -> tuple[float, float]:
    """The sum of the ranks' parts of a loss, and the clock of rank 0.

    Every rank must act on one clock: the learning rate depends on it, and the last step too.
    """
    ranks = current_ranks()
    if ranks.world_size == 1:
        return loss, seconds
    own = (loss, seconds if ranks.is_first else 0.0)
    whole_loss, first_seconds = sum_over_ranks(
        torch.tensor(own, dtype=torch.float64, device=device)
    ).tolist()
    return whole_loss, first_seconds
