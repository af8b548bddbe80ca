"""One row a logged run: seed, bytes by three conventions, and the seconds of training and after."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from auditor.evidence.embedded import EmbeddedSource, embedded_source
from auditor.evidence.figures import Block, Figure, LogClaims, Metric, Size
from auditor.evidence.ledger import SAME, TagScores, plain_tag
from auditor.evidence.packing import packed_bytes
from auditor.submission.model import Submission

_NOT_FOR_THE_SCORE = re.compile(
    r"diagnostic|pre.?quant\w* post|post.?ema|warm|compil", re.IGNORECASE
)
_NO_VALIDATION = re.compile(r"warm|compil|random", re.IGNORECASE)
_NESTED = 1.1  # times the seconds of an adaptation: the evaluation that it is a part of


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
    """One run of a log. `codes` are the sizes of code that it prints; `stop` is the training clock
    in milliseconds at the stop, else the most that any line shows; `calibration` the seconds after
    the stop. `source` is the script that the log repeats, held against the shipped one.
    """

    log: LogClaims
    seed: Figure | None
    model: Size | None
    codes: tuple[Size, ...]
    totals: Totals
    stop: Figure | None
    calibration: float | None
    blocks: tuple[TimedBlock, ...]
    source: EmbeddedSource | None = None

    @property
    def code(self) -> int | None:
        """Bytes of code that the logged total holds beside the model."""
        if self.totals.logged is not None and self.model is not None:
            counted = self.totals.logged.bytes - self.model.bytes
            if 0 < counted < self.totals.logged.bytes:
                return counted
        return self.codes[-1].bytes if self.codes else None

    @property
    def trained(self) -> float | None:
        """Seconds of training."""
        return self.stop.value / 1000 if self.stop is not None else None

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
    submission: Submission, logs: Iterable[LogClaims], claimed: TagScores | None = None
) -> list[RunRow]:
    """A row for each run that reports a score, a size or the end of training.

    `claimed` are the scores that the claim rests on: what was timed for another score, the claim
    does not need.
    """
    told = [log for log in logs if log.metrics or log.sizes or log.train_end]
    if not told:
        return []
    shipped = len(submission.main.data)
    packed = min(shipped, packed_bytes(submission.main.data))
    found = []
    for log in told:
        source = embedded_source(submission, log)
        found += [_row(log, seed, shipped, packed, claimed, source) for seed in _seeds(log)]
    return found


def _seeds(log: LogClaims) -> Iterable[Figure | None]:
    """The seeds whose runs print a score; one entry for a log of one run."""
    ran = {
        seed.value: seed
        for metric in log.metrics
        if (seed := log.run_of(metric.evidence.line)) is not None
    }
    return ran.values() if len(ran) > 1 else (log.seeds[0] if log.seeds else None,)


def _row(
    log: LogClaims,
    seed: Figure | None,
    shipped: int,
    packed: int,
    claimed: TagScores | None,
    source: EmbeddedSource | None,
) -> RunRow:
    several = len(list(_seeds(log))) > 1

    def own(line: int) -> bool:
        return not several or log.run_of(line) == seed

    sizes = [size for size in log.sizes if own(size.evidence.line)]
    model = _last(size for size in sizes if size.kind == "model")
    after = [
        c.seconds
        for c in log.run.calibrations
        if c.after and c.seconds is not None and own(c.evidence.line)
    ]
    stops = [stop for stop in log.train_stops if own(stop.evidence.line)]
    end = log.train_end if log.train_end is not None and own(log.train_end.evidence.line) else None
    blocks = [block for block in log.run.blocks if own(block.evidence.line)]
    return RunRow(
        log=log,
        seed=seed,
        model=model,
        codes=tuple(size for size in sizes if size.kind == "code"),
        totals=Totals(
            _last(size for size in sizes if size.kind == "total"),
            model.bytes + shipped if model is not None else None,
            model.bytes + packed if model is not None else None,
        ),
        stop=stops[-1] if stops else end,
        calibration=max(after, default=None),
        blocks=tuple(_timed(log, blocks, claimed)),
        source=source,
    )


def _last(sizes: Iterable[Size]) -> Size | None:
    """The last that names a codec: one without is often that of the uncompressed model."""
    named = [size for size in sizes if size.codec]
    return named[-1] if named else None


def _timed(log: LogClaims, blocks: list[Block], claimed: TagScores | None) -> Iterator[TimedBlock]:
    """Every timed block once: the same seconds are often printed on two lines."""
    metrics = {metric.evidence.line: metric for metric in log.metrics}
    wanted = _wanted(log, metrics, blocks, claimed)
    seen: list[float] = []
    for block in blocks:
        line, text = block.evidence.line, block.evidence.text
        if within_evaluation(block, blocks) or any(
            abs(seconds - block.seconds) < 0.05 for seconds in seen
        ):
            continue
        seen.append(block.seconds)
        scored = line not in metrics or line in wanted
        needed = scored and _NOT_FOR_THE_SCORE.search(text) is None
        yield TimedBlock(block, _NO_VALIDATION.search(text) is None, needed)


def within_evaluation(block: Block, blocks: Iterable[Block]) -> bool:
    """Whether an adaptation's seconds are a part of those of an evaluation that ends after it."""
    return block.name == "adaptation" and any(
        block.seconds <= other.seconds <= _NESTED * block.seconds
        for other in blocks
        if other.name == "evaluation" and other.evidence.line > block.evidence.line
    )


def _wanted(
    log: LogClaims,
    metrics: dict[int, Metric],
    blocks: list[Block],
    claimed: TagScores | None,
) -> set[int]:
    """The lines whose timed scores are those of the claim: by tag and score, else by score, for
    one evaluation may be printed under two tags."""
    timed = [line for b in blocks if (line := b.evidence.line) in metrics]
    if claimed is None:
        return set(timed)
    found = set()
    for own in claimed.metrics:
        if own.evidence.path == log.path:
            same = [line for line in timed if _same_score(metrics[line], own)]
            tagged = [line for line in same if plain_tag(metrics[line].tag) == claimed.tag]
            found.update(tagged[-1:] or same[:1])
    return found or {line for line in timed if plain_tag(metrics[line].tag) == claimed.tag}


def _same_score(metric: Metric, other: Metric) -> bool:
    if metric.val_bpb is None or other.val_bpb is None:
        return False
    return abs(metric.val_bpb - other.val_bpb) <= SAME
