"""Sliding windows over a token stream: which targets each window scores.

Position p of a stream of N + 1 tokens has the input `tokens[p]` and the target `tokens[p + 1]`.
The first window scores every position; each later one begins `stride` positions after the one
before and scores only those that no window scored yet, so that nearly every target is predicted
from a nearly full context. The last window is shorter where the stream ends inside a stride.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hedge_record.config import EvaluationConfig
from hedge_record.errors import RecordError
from hedge_record.model.gpt import GPT
from hedge_record.training.distributed import current_ranks


class Window(NamedTuple):
    """Positions start..start + length; those from `start + scored_from` on are scored."""

    start: int
    length: int
    scored_from: int

    @property
    def first_scored(self) -> int:
        """The first position that this window scores."""
        return self.start + self.scored_from

    @property
    def end(self) -> int:
        """The position after the last one."""
        return self.start + self.length


class WindowBatch(NamedTuple):
    """Some windows and what the model makes of them; shorter rows are padded with 0.

    Logits take far more memory than anything else, so they are projected where they are asked for.
    """

    model: GPT
    windows: Sequence[Window]
    inputs: Tensor  # int64 [B, T]
    targets: Tensor  # int64 [B, T]
    hidden: Tensor  # [B, T, width]

    def scored(self, values: Tensor) -> Tensor:
        """The entries of `values` [B, T, ...] at scored positions: [n, ...] in stream order."""
        rows = (
            row[window.scored_from : window.length]
            for row, window in zip(values, self.windows, strict=True)
        )
        return torch.cat([values[:0].flatten(0, 1), *rows])

    def scored_logits(self) -> Tensor:
        """Float32 logits [n, V] of the scored positions, in stream order."""
        return self.model.project(self.scored(self.hidden)).float()

    def all_logits(self) -> Tensor:
        """Float32 logits [B, T, V] of every position."""
        return self.model.project(self.hidden).float()

    def lengths(self) -> list[int]:
        """The unpadded length of each window."""
        return [window.length for window in self.windows]


def plan_windows(
    position_count: int, config: EvaluationConfig, shortest_tail: int = 1
) -> list[Window]:
    """The windows over `position_count` positions, in stream order.

    With `score_tail_repeatedly` every window that begins inside the stream and holds at least
    `shortest_tail` positions scores its last `stride`, as the original did: those that reach the
    end score the same final targets over and over.

    Raises:
        RecordError: a window or stride of no positions, or a stride longer than a window.
    """
    length, stride = config.sequence_length, config.stride
    if not 0 < stride <= length:
        raise RecordError(f"evaluation: stride {stride} must lie in 1..{length} (sequence_length)")
    windows = []
    for start in range(0, position_count, stride):
        held = min(length, position_count - start)
        if config.score_tail_repeatedly:
            if start == 0 or held >= shortest_tail:
                windows.append(Window(start, held, max(held - stride, 0) if start else 0))
            continue
        windows.append(Window(start, held, length - stride if start else 0))
        if start + length >= position_count:
            break
    return windows


def window_batches(
    model: GPT, tokens: Tensor, windows: Sequence[Window], config: EvaluationConfig
) -> Iterator[WindowBatch]:
    """Runs `model` over this rank's part of `windows`, `batch_windows` at a time.

    Ranks of torch.distributed share out every run of `batch_windows` times their number, so that
    all of them together advance through the stream in order; each yields equally many batches,
    the last of which may hold no window. Rows always have `sequence_length` positions: the rotary
    base depends on the length of a row, so a score would otherwise depend on which windows share
    a batch. Call it in inference mode.
    """
    ranks = current_ranks()
    together = config.batch_windows * ranks.world_size
    for first in range(0, len(windows), together):
        batch = ranks.share_of(windows[first : first + together])
        rows = tokens.new_zeros(len(batch), config.sequence_length + 1)
        for row, window in zip(rows, batch, strict=True):
            row[: window.length + 1] = tokens[window.start : window.end + 1]
        inputs, targets = rows[:, :-1], rows[:, 1:]
        yield WindowBatch(model, batch, inputs, targets, model.hidden(inputs))
