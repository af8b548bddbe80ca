"""Reads a run's cost and its scores off the lines that it printed."""

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hedge_record.bench_child import SLIDING_MARK, TTT_MARK
from hedge_record.config import RecordConfig
from hedge_record.errors import RecordError


class CostedLine(NamedTuple):
    """A printed line, and what the process had spent when it was printed."""

    cpu_seconds: float
    peak_bytes: int
    text: str


class Marks(NamedTuple):
    """How the lines begin between which a side slides, and adapts with its mixer."""

    sliding: tuple[str, str]
    ttt: tuple[str, str]


OUR_MARKS = Marks((SLIDING_MARK, f"{SLIDING_MARK}_exact"), (TTT_MARK, f"{TTT_MARK}_exact"))
THEIR_MARKS = Marks(
    ("  ttt: pre-compile done", "final_int6_sliding_window_exact"),
    ("ttt:start", "final_int6_ttt_exact"),
)
SCORE_FIGURES = re.compile(r"val_loss:(\S+) val_bpb:(\S+)")
STEP_FIGURES = re.compile(r"step:(\d+)/\d+ train_loss:(\S+)")
MASS_PREFIX = "mixer:mean_log_mass:"


@dataclass(frozen=True)
class Figures:
    """One run: CPU seconds of each part, peak resident bytes, losses in nats and bits per byte."""

    training: float
    sliding: float
    ttt: float
    peak_bytes: int
    first_loss: float  # of training, before the first step
    sliding_loss: float
    sliding_bpb: float
    ttt_loss: float
    ttt_bpb: float
    log_mass: float | None  # mean ln of what the mixture sums to; the original does not say


@dataclass(frozen=True)
class Pair:
    """One run of either side."""

    theirs: Figures
    ours: Figures


def figures_of(lines: Sequence[CostedLine], marks: Marks, config: RecordConfig) -> Figures:
    """The figures of a run of `config`.

    Training is timed from the end of the first step to the end of the last: the first makes
    buffers.

    Raises:
        RecordError: a line is missing.
    """
    steps = [(line, match) for line in lines if (match := STEP_FIGURES.match(line.text))]
    if len(steps) != config.training.iterations or len(steps) < 2:
        raise RecordError(
            f"bench: {len(steps)} training steps were printed, {config.training.iterations} asked "
            "for; give the original train_gpt.py"
        )
    sliding, sliding_loss, sliding_bpb = _part(lines, marks.sliding)
    ttt, ttt_loss, ttt_bpb = _part(lines, marks.ttt)
    mass = [line.text for line in lines if line.text.startswith(MASS_PREFIX)]
    return Figures(
        training=steps[-1][0].cpu_seconds - steps[0][0].cpu_seconds,
        sliding=sliding,
        ttt=ttt,
        peak_bytes=max(line.peak_bytes for line in lines),
        first_loss=float(steps[0][1][2]),
        sliding_loss=sliding_loss,
        sliding_bpb=sliding_bpb,
        ttt_loss=ttt_loss,
        ttt_bpb=ttt_bpb,
        log_mass=float(mass[-1].removeprefix(MASS_PREFIX)) if mass else None,
    )


def bench_report(pairs: Sequence[Pair], honest: float, neural: float) -> dict[str, Any]:
    """The public object: ratios above 1 say that ours is faster, or that it needs more memory.

    The original's renormalised score takes the mixture's sum from our twin, whose losses are the
    original's within `nll_difference`.
    """
    first = pairs[0]
    log_mass = first.ours.log_mass
    assert log_mass is not None, "the twin runs the mixer as submitted"

    def median_ratio(part: Callable[[Figures], float]) -> float:
        return statistics.median(part(pair.theirs) / max(part(pair.ours), 1e-9) for pair in pairs)

    def losses(figures: Figures) -> tuple[float, ...]:
        return figures.first_loss, figures.sliding_loss, figures.ttt_loss

    return {
        "ratio": {
            "training": median_ratio(lambda side: side.training),
            "sliding": median_ratio(lambda side: side.sliding),
            "ttt_mixer": median_ratio(lambda side: side.ttt),
            "peak_memory": 1 / median_ratio(lambda side: side.peak_bytes),
        },
        "nll_difference": max(
            abs(theirs - ours)
            for pair in pairs
            for theirs, ours in zip(losses(pair.theirs), losses(pair.ours), strict=True)
        ),
        "honest_bpb": {
            "ours": honest,
            "neural": neural,
            "original_claimed": first.theirs.ttt_bpb,
            "original_renormalised": first.theirs.ttt_bpb * (1 + log_mass / first.theirs.ttt_loss),
        },
        "runs": len(pairs),
    }


def _part(lines: Sequence[CostedLine], marks: tuple[str, str]) -> tuple[float, float, float]:
    """CPU seconds between two lines, and the loss and bits per byte that the second tells."""
    started: float | None = None
    for line in lines:
        if started is not None and line.text.startswith(marks[1]):
            score = SCORE_FIGURES.search(line.text)
            if score is not None:
                loss, bpb = float(score[1]), float(score[2])
                if math.isfinite(loss) and math.isfinite(bpb):
                    return line.cpu_seconds - started, loss, bpb
        elif line.text.startswith(marks[0]):
            started = line.cpu_seconds
    raise RecordError(f"bench: no score after {marks[0].strip()!r} was printed as {marks[1]!r}")
