"""Dividing an evaluation among the ranks of torch.distributed."""

from collections.abc import Sequence
from typing import TypeVar

import torch

from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.training.distributed import current_ranks, sum_over_ranks

Item = TypeVar("Item")


def share_of_rank(items: Sequence[Item]) -> Sequence[Item]:
    """This rank's consecutive share; the shares of all ranks make up `items` in order."""
    ranks = current_ranks()
    first = len(items) * ranks.rank // ranks.world_size
    return items[first : len(items) * (ranks.rank + 1) // ranks.world_size]


def score_over_ranks(score: Score, device: torch.device) -> Score:
    """The sum of the ranks' scores; counts stay exact, float64 holds integers up to 2^53."""
    parts = torch.tensor(
        [score.nats, score.tokens, score.bytes], dtype=torch.float64, device=device
    )
    nats, scored, counted = sum_over_ranks(parts).tolist()
    return Score(nats, int(scored), int(counted))
