"""One row a logged run: seed, bytes by three conventions, and the seconds of training and after."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from auditor.evidence.figures import Block, Figure, LogClaims, Size
from auditor.evidence.ledger import plain_tag
from auditor.evidence.packing import packed_bytes
from auditor.submission.model import Submission

_NOT_FOR_THE_SCORE = re.compile(r"diagnostic|pre.?quant|post.?ema|warm|compil", re.IGNORECASE)
_NO_VALIDATION = re.compile(r"warm|compil|random", re.IGNORECASE)


@dataclass(frozen=True)
class Totals:
    """Bytes of code and model together, as three conventions count them: what the log prints;
    the model with the script as shipped; the model with the script as it would be if packed.
    """

    logged: Size | None
    shipped: int | None
    packed: int | None


@dataclass(frozen=True)
class TimedBlock:
    """A block of the evaluation. `validation` is false if it reads no validation token, `needed`
    if the final score does not depend on it.
    """

    block: Block
    validation: bool
    needed: bool


@dataclass(frozen=True)
class RunRow:
    """One log. `code` is what it counts as code; `calibration` the seconds after the stop."""

    log: LogClaims
    seeds: tuple[Figure, ...]
    model: Size | None
    code: Size | None
    totals: Totals
    calibration: float | None
    blocks: tuple[TimedBlock, ...]

    @property
    def trained(self) -> float | None:
        """Seconds of the training clock at the stop, else the most that any line shows."""
        figure = self.log.train_stop or self.log.train_end
        return figure.value / 1000 if figure is not None else None

    @property
    def evaluated(self) -> float | None:
        """Seconds of the blocks that read validation tokens and that the score needs."""
        needed = [b.block.seconds for b in self.blocks if b.validation and b.needed]
        return sum(needed) if needed else None

    @property
    def evaluated_with_all(self) -> float | None:
        """Seconds of every timed block after training."""
        return sum(b.block.seconds for b in self.blocks) if self.blocks else None


def rows(
    submission: Submission, logs: Iterable[LogClaims], claimed: str | None = None
) -> list[RunRow]:
    """A row for each log that reports a score, a size or the end of training.

    `claimed` is the tag that the claimed score stands under: what was timed for a score under
    another tag, the claim does not need.
    """
    told = [log for log in logs if log.metrics or log.sizes or log.train_end]
    if not told:
        return []
    shipped = len(submission.main.data)
    packed = min(shipped, packed_bytes(submission.main.data))
    return [_row(log, shipped, packed, claimed) for log in told]


def _row(log: LogClaims, shipped: int, packed: int, claimed: str | None) -> RunRow:
    model = _last(log.sizes_of("model"))
    after = [c.seconds for c in log.run.calibrations if c.after and c.seconds is not None]
    return RunRow(
        log=log,
        seeds=log.seeds,
        model=model,
        code=next(iter(log.sizes_of("code")), None),
        totals=Totals(
            _last(log.sizes_of("total")),
            model.bytes + shipped if model is not None else None,
            model.bytes + packed if model is not None else None,
        ),
        calibration=max(after, default=None),
        blocks=tuple(_timed(log, claimed)),
    )


def _last(sizes: tuple[Size, ...]) -> Size | None:
    """The last that names a codec: one without is often that of the uncompressed model."""
    named = [size for size in sizes if size.codec]
    return named[-1] if named else None


def _timed(log: LogClaims, claimed: str | None) -> list[TimedBlock]:
    """Every timed block once: the same seconds are often printed on two lines."""
    tags = {metric.evidence.line: plain_tag(metric.tag) for metric in log.metrics}
    found: list[TimedBlock] = []
    for block in log.run.blocks:
        text = block.evidence.text
        if not any(abs(b.block.seconds - block.seconds) < 0.05 for b in found):
            other = claimed is not None and tags.get(block.evidence.line, claimed) != claimed
            needed = not other and _NOT_FOR_THE_SCORE.search(text) is None
            found.append(TimedBlock(block, _NO_VALIDATION.search(text) is None, needed))
    return found
