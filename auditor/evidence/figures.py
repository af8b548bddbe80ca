"""The shapes of what a submission claims: numbers that keep the line they were read from.

Rules read `Claims` and nothing else of the files behind it; a finding can quote the very line that
it rests on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from auditor.finding import Evidence


@dataclass(frozen=True)
class Figure:
    """One number and the line that it was read from."""

    value: float
    evidence: Evidence


@dataclass(frozen=True)
class Metric:
    """A line of a log that reports a score.

    `tag` is what the log calls it (`final_int6_roundtrip_exact`, `quantized_ttt_phased`); it is not
    the method: the same tag is printed for different evaluations. `val_loss` is in nats a token,
    `val_bpb` in bits a byte, `eval_ms` in milliseconds.
    """

    tag: str
    val_loss: float | None
    val_bpb: float | None
    eval_ms: float | None
    evidence: Evidence


SizeKind = Literal["model", "code", "total"]


@dataclass(frozen=True)
class Size:
    """A line of a log that reports a size in bytes.

    `codec` is the compressor that the line names (`int8+zlib`, `lzma`), or None. A `total` without
    a codec is often that of the uncompressed model.
    """

    kind: SizeKind
    codec: str | None
    bytes: int
    evidence: Evidence


@dataclass(frozen=True)
class Setting:
    """A line of a hyperparameter dump; `value` is its text as printed."""

    value: str
    evidence: Evidence


CalibrationData = Literal["training", "generated", "unknown"]


@dataclass(frozen=True)
class Calibration:
    """A line of a log on the statistics that quantisation needs.

    `data` is what the line says they come from; `seconds` is None where it gives no time; `after`
    is true if the training clock had stopped by then.
    """

    data: CalibrationData
    seconds: float | None
    after: bool
    evidence: Evidence


@dataclass(frozen=True)
class Block:
    """A timed block, in seconds: an `evaluation`, or outside of it `precompute` or `adaptation`."""

    name: str
    seconds: float
    evidence: Evidence


@dataclass(frozen=True)
class RunFacts:
    """How a logged run went. `val_tokens` are those of the validation set as loaded; `reserve`
    holds the seconds of the training window that are set aside for calibration. `gates` counts the
    positions at which an n-gram tilt let a gate decide, by the gate's name.
    """

    val_tokens: Figure | None = None
    train_shards: Figure | None = None
    reserve: Figure | None = None
    calibrations: tuple[Calibration, ...] = ()
    blocks: tuple[Block, ...] = ()
    gates: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class LogClaims:
    """One log. `path` is the file's path as shipped; `blob` is git's hash of it.

    `train_stops` are the training clock in milliseconds where the wall-clock cap ended the loop,
    one a run; `train_end` is the highest training time that any line shows. `hardware` holds the
    lines that name accelerators, one for each device of an `nvidia-smi` table. `settings` holds the
    hyperparameter dump. `embedded_source` holds the first and last line of the script's source
    where the log repeats it; those lines are read for nothing else.
    """

    path: str
    blob: str
    encoding: str
    metrics: tuple[Metric, ...] = ()
    sizes: tuple[Size, ...] = ()
    seeds: tuple[Figure, ...] = ()
    train_stops: tuple[Figure, ...] = ()
    train_end: Figure | None = None
    world_size: Figure | None = None
    hardware: tuple[Evidence, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    embedded_source: tuple[int, int] | None = None
    run: RunFacts = field(default_factory=RunFacts)

    def sizes_of(self, kind: SizeKind) -> tuple[Size, ...]:
        """The sizes of one kind, in the log's order."""
        return tuple(size for size in self.sizes if size.kind == kind)

    def run_of(self, line: int) -> Figure | None:
        """The seed of the run that a line belongs to: one file may hold the runs of several.

        A seed's line opens its run; where the first stands below the first score, it closes it.
        """
        if len(self.seeds) < 2:
            return self.seeds[0] if self.seeds else None
        first_score = min((m.evidence.line for m in self.metrics), default=0)
        if self.seeds[0].evidence.line > first_score:
            later = (seed for seed in self.seeds if seed.evidence.line >= line)
            return next(later, self.seeds[-1])
        opened = [seed for seed in self.seeds if seed.evidence.line <= line]
        return opened[-1] if opened else self.seeds[0]

    @property
    def train_stop(self) -> Figure | None:
        """The training clock at the last stop."""
        return self.train_stops[-1] if self.train_stops else None

    @property
    def last_metric(self) -> Metric | None:
        """The last line that reports bits per byte."""
        return next((m for m in reversed(self.metrics) if m.val_bpb is not None), None)


@dataclass(frozen=True)
class JsonClaims:
    """`submission.json`. Its schema is free in the field, so each figure may be missing.

    `bytes_total` is the largest total that it names, over all seeds; `seed_bpb` holds the scores
    per seed in the file's order.
    """

    path: str
    keys: tuple[str, ...]
    val_bpb: Figure | None = None
    val_loss: Figure | None = None
    bytes_total: Figure | None = None
    bytes_code: Figure | None = None
    bytes_model: Figure | None = None
    seeds: tuple[Figure, ...] = ()
    seed_bpb: tuple[Figure, ...] = ()
    track: Evidence | None = None
    hardware: Evidence | None = None
    date: Evidence | None = None


@dataclass(frozen=True)
class Claims:
    """Everything a submission says of itself outside its code.

    `problems` names what could not be read as it should: malformed JSON with line and column, a log
    that is no text.
    """

    submission_json: JsonClaims | None = None
    logs: tuple[LogClaims, ...] = ()
    problems: tuple[Evidence, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The distinct seeds that `submission.json` or any log names, sorted."""
        named = self.submission_json.seeds if self.submission_json else ()
        figures = (*named, *(seed for log in self.logs for seed in log.seeds))
        return tuple(sorted({int(figure.value) for figure in figures}))
