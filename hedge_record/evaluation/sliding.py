"""The sliding-window score of a fixed model."""

import torch
from torch import Tensor

from hedge_record.config import EvaluationConfig
from hedge_record.data.byte_table import ByteTable
from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.evaluation.ranks import score_over_ranks
from hedge_record.evaluation.windows import plan_windows, window_batches
from hedge_record.model.gpt import GPT
from hedge_record.progress import Reporter
from hedge_record.training.distributed import current_ranks


def score_sliding(
    model: GPT,
    tokens: Tensor,
    table: ByteTable,
    config: EvaluationConfig,
    *,
    device: torch.device,
    reporter: Reporter,
) -> Score:
    """Scores the N targets of `tokens` [N + 1] int64 under the model as it is.

    Ranks of torch.distributed divide the windows; each returns the score of the whole stream.
    The model is evaluated in its own precision and left in evaluation mode.
    """
    tokens, table = tokens.to(device), table.to(device)
    windows = plan_windows(tokens.numel() - 1, config)
    model.eval()
    reporter.start("sliding window", sum(w.length - w.scored_from for w in windows), "tokens")
    score = Score()
    with torch.inference_mode():
        for batch in window_batches(model, tokens, windows, config):
            if not batch.windows:  # a rank that the last run of windows had none for
                continue
            nll = target_nll(batch.scored_logits(), batch.scored(batch.targets))
            counted = batch.scored(table.target_bytes(batch.inputs, batch.targets))
            part = Score.of(nll, counted)
            score += part
            reporter.advance(part.tokens * current_ranks().world_size, bpb=score.bpb)
    reporter.finish()
    return score_over_ranks(score, device)


def target_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """NLL in nats [n] of `targets` [n] under the softmax of `logits` [n, V]."""
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")
