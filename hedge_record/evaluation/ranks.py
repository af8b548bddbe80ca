"""The score of a stream that the ranks of torch.distributed divided."""

import torch

from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.training.distributed import sum_over_ranks


def score_over_ranks(score: Score, device: torch.device) -> Score:
    """The sum of the ranks' scores; counts stay exact, float64 holds integers up to 2^53."""
    parts = torch.tensor(
        [score.nats, score.tokens, score.bytes], dtype=torch.float64, device=device
    )
    nats, scored, counted = sum_over_ranks(parts).tolist()
    return Score(nats, int(scored), int(counted))
