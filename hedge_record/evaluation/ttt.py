"""Score-first test-time training: the score of a model that learns from what it has scored.

The stream is cut into chunks, and every chunk goes through two steps in this order:
1. SCORE  its targets, under inference mode, with the Polyak-averaged weights;
2. TRAIN  on its tokens (not after the last chunk: nothing is left to gain by it).
Each target is scored once, before anything has learned from it, and that first score is the one
that counts. A mixer learns inside step 1, block by block, each block after all of it is scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor

from hedge_record.config import EvaluationConfig
from hedge_record.data.byte_table import ByteTable
from hedge_record.errors import RecordError
from hedge_record.evaluation.adaptation import Adaptation, chunk_learning_rate
from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.evaluation.ranks import score_over_ranks
from hedge_record.evaluation.sliding import target_nll
from hedge_record.evaluation.temperature import adaptive_temperature
from hedge_record.evaluation.windows import Window, WindowBatch, plan_windows, window_batches
from hedge_record.model.gpt import GPT
from hedge_record.progress import Reporter


class Mixer(Protocol):
    """Blends the model with experts that learn from scored tokens."""

    def take(self, batch: WindowBatch, logits: Tensor) -> None:
        """The next batch of a chunk, with the model's `logits` [n, V] at its scored positions.

        Their temperature is applied. Every rank calls this equally often.
        """

    def finish_chunk(self, tokens: Tensor, end: int) -> Tensor:
        """NLL [n] of what this rank took of the chunk that ends before position `end`.

        All targets of the chunk are scored then, and may be learned from.
        """

    def figures(self) -> dict[str, float]:
        """What the mixer learned: expert weights and the like."""


@dataclass(frozen=True)
class AdaptiveScore:
    """What one pass of test-time training scored."""

    score: Score
    per_chunk: tuple[Score, ...]
    neural: Score  # the adapted model alone, in the same pass: the mixer's gain is the difference
    mixer_figures: dict[str, float] = field(default_factory=dict)


def score_first_ttt(
    model: GPT,
    tokens: Tensor,
    table: ByteTable,
    config: EvaluationConfig,
    *,
    device: torch.device,
    reporter: Reporter,
    mixer: Mixer | None,
) -> AdaptiveScore:
    """Scores the N targets of `tokens` [N + 1] int64, adapting `model` chunk by chunk.

    `model` is in evaluation mode afterwards and otherwise as it was. Ranks of torch.distributed
    divide each chunk's windows and each batch's rows; all return the score of the whole stream.

    Raises:
        RecordError: an impossible configuration.
    """
    tokens, table = tokens.to(device), table.to(device)
    chunks = plan_chunks(tokens.numel() - 1, config)
    model.eval()
    adaptation = Adaptation(model, table, config)
    mixed: list[Score] = []
    neural: list[Score] = []
    reporter.start("test-time training", tokens.numel() - 1, "tokens")
    try:
        for index, (begin, end, windows) in enumerate(chunks):
            with adaptation.averaged_weights(), torch.inference_mode():
                scored = _score_chunk(model, tokens, end, windows, table, config, mixer)
            if index < len(chunks) - 1:
                rate = chunk_learning_rate(index, len(chunks), config)
                adaptation.train(tokens[begin : end + 1], rate)
            for scores, part in zip((mixed, neural), scored, strict=True):
                scores.append(score_over_ranks(part, device))
            so_far = sum(mixed, Score())
            reporter.advance(end - begin, bpb=so_far.bpb)
            reporter.log(f"ttt_chunk [{index + 1}/{len(chunks)}] bpb={so_far.bpb:.6f}")
    finally:
        adaptation.finish()
    reporter.finish()
    return AdaptiveScore(
        score=sum(mixed, Score()),
        per_chunk=tuple(mixed),
        neural=sum(neural, Score()),
        mixer_figures={} if mixer is None else mixer.figures(),
    )


def plan_chunks(
    position_count: int, config: EvaluationConfig
) -> list[tuple[int, int, list[Window]]]:
    """(begin, end, windows) of each chunk: positions begin..end, and the windows to score first.

    A window belongs to the chunk of the first position it scores, so a chunk's targets are all
    scored once its windows are.

    Raises:
        RecordError: no position, or a chunk of no tokens.
    """
    size = config.ttt_chunk_tokens
    if position_count < 1 or size < 1:
        raise RecordError("test-time training needs a validation target and ttt_chunk_tokens >= 1")
    windows = {
        chunk: list(group)
        for chunk, group in groupby(
            plan_windows(position_count, config, shortest_tail=config.stride),
            key=lambda window: window.first_scored // size,
        )
    }
    return [
        (begin, min(begin + size, position_count), windows.get(begin // size, []))
        for begin in range(0, position_count, size)
    ]


def _score_chunk(
    model: GPT,
    tokens: Tensor,
    end: int,
    windows: Sequence[Window],
    table: ByteTable,
    config: EvaluationConfig,
    mixer: Mixer | None,
) -> tuple[Score, Score]:
    """This rank's part of a chunk: the claimed score, and that of the model alone."""
    # A window before this chunk may have scored all of it.
    neural = [tokens.new_zeros(0, dtype=torch.float32)]
    target_bytes = [tokens.new_zeros(0)]
    for batch in window_batches(model, tokens, windows, config):
        logits = adaptive_temperature(batch.scored_logits(), config.temperature)
        neural.append(target_nll(logits, batch.scored(batch.targets)))
        target_bytes.append(batch.scored(table.target_bytes(batch.inputs, batch.targets)))
        if mixer is not None:
            mixer.take(batch, logits)
    alone = Score.of(torch.cat(neural), torch.cat(target_bytes))
    if mixer is None:
        return alone, alone
    return Score.of(mixer.finish_chunk(tokens, end), torch.cat(target_bytes)), alone
