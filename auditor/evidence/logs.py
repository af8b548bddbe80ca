"""Reads training and evaluation logs: scores, sizes, seeds, times, hardware, each with its line.

Lines are read one at a time and cut at a fixed length, and every expression is linear in it, so a
hostile log costs no more than its size.
"""

import codecs
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from auditor.evidence.figures import Figure, LogClaims, Metric, Setting, Size, SizeKind
from auditor.evidence.run_lines import RunReader
from auditor.evidence.score_lines import MILLISECONDS, NUMBER, read_scores
from auditor.finding import Evidence
from auditor.submission.model import SourceFile

MAX_LINE = 2000
EXCERPT = 200
TRAIN_TIME = re.compile(rf"\btrain_time\s{{0,4}}[:=]\s{{0,4}}({NUMBER})\s?(ms|s|m|min)?\b")
SEED = re.compile(r"\bseed\s{0,4}[:=]\s{0,4}(\d{1,15})\b", re.IGNORECASE)
# A line that says nothing but the seed is the run's; others may be of samplers and rotations.
RUN_SEED = re.compile(
    r"[^a-z]{0,40}(?:run\b[^a-z]{0,20})?seed\s{0,4}[:=]\s{0,4}\d{1,15}\W{0,20}", re.IGNORECASE
)
NAMED_SEED = re.compile(r"seed[_-]?(\d{1,15})", re.IGNORECASE)
WORLD_SIZE = re.compile(r"\bworld_size\s{0,4}[:=]\s{0,4}(\d{1,6})\b")
SIZE = re.compile(
    r"(serialized model|code size|total submission size|submission size|total artifact size)"
    r"[ _]{0,2}\(?([a-z0-9+_. -]{0,40}?)\)?\s{0,4}[:=]\s{0,4}(\d[\d,_]{0,20})\s?(?:bytes|b)\b",
    re.IGNORECASE,
)
# One line for all three, or the total against the limit: of what is shipped, so of a packed model.
TRIO = re.compile(
    r"\b(?:model|compressed_model_bytes)[:=]\s?(\d{4,9})\s{1,4}code(?:_bytes)?[:=]\s?(\d{2,9})"
    r"\s{1,4}total(?:_artifact)?(?:_bytes)?[:=]\s?(\d{4,9})\b",
    re.IGNORECASE,
)
BUDGET = re.compile(r"\bbudget:(\d{4,9})/16000000\b")
SHIPPED = "as shipped"
PLAIN_SIZE = re.compile(
    r"(total submission|total|code)\s?:\s?(\d[\d,_]{0,20})\s?bytes\b", re.IGNORECASE
)
SIZE_KINDS: dict[str, SizeKind] = {"serialized model": "model", "code size": "code"}
SETTING = re.compile(r"\s{1,8}([a-z][a-z0-9_]{0,60}): (.{1,200})")
GPU_ROW = re.compile(r"\|\s{1,8}\d{1,3}\s{1,4}(?:NVIDIA|Tesla|AMD)\s.{2,60}\|")
GPU_COUNT = re.compile(r"\b\d{1,3}\s?x\s?(?:NVIDIA )?(?:H100|H200|A100|H800|B200|L40S?|RTX ?\d{4})")
# Looking for words is ten times as fast as any pattern, so it says which patterns are tried.
GPU_WORDS = ("nvidia", "tesla", "amd", "00", "l40", "rtx")
SOURCE_START = re.compile(r'(?:import|from)\s\w|"""|#!')
SOURCE_END = "=" * 50
MIN_SOURCE_LINES = 40
LOG_SUFFIXES = {".log", ".txt", ".out"}
NOT_LOGS = re.compile(r"requirements|readme|license|notice|vocab|manifest", re.IGNORECASE)


def is_log(name: str) -> bool:
    """True if a file of this name may be a log."""
    path = PurePosixPath(name)
    return path.suffix in LOG_SUFFIXES and not NOT_LOGS.search(path.name)


def read_log(file: SourceFile) -> LogClaims | Evidence:
    """What a log says, or why it cannot be read."""
    decoded = _decode(file.data)
    if decoded is None:
        return Evidence(file.path, 0, "not text: holds NUL bytes and no UTF-16 mark")
    encoding, text = decoded
    return _LogReader(file, text.splitlines()).claims(encoding)


def log_lines(file: SourceFile) -> list[str]:
    """The lines of a log, numbered from one as in its figures; none if it is no text."""
    decoded = _decode(file.data)
    return decoded[1].splitlines() if decoded is not None else []


def _decode(data: bytes) -> tuple[str, str] | None:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", data.decode("utf-16", "replace")
    if b"\0" in data[:4096]:
        return None
    return "utf-8", data.decode("utf-8-sig", "replace")


class _LogReader:
    """Collects the figures of one log."""

    def __init__(self, file: SourceFile, lines: Sequence[str]) -> None:
        self.file = file
        self.lines = lines
        self.metrics: list[Metric] = []
        self.sizes: list[Size] = []
        self.seeds: dict[int, Figure] = {}
        self.run_seeds: dict[int, Figure] = {}
        self.hardware: list[Evidence] = []
        self.settings: dict[str, Setting] = {}
        self.train_stops: list[Figure] = []
        self.train_end: Figure | None = None
        self.world_size: Figure | None = None
        self.run = RunReader()

    def claims(self, encoding: str) -> LogClaims:
        """Everything that the log says."""
        source = self._embedded_source()
        first, last = source or (0, -1)
        for number, full in enumerate(self.lines, 1):
            if not first <= number <= last and full:
                self._read(full[:MAX_LINE], number)
        if not self.seeds and (named := NAMED_SEED.search(PurePosixPath(self.file.path).name)):
            text = PurePosixPath(self.file.path).name
            seed = int(named.group(1))
            self.seeds[seed] = Figure(seed, Evidence(self.file.path, 0, text))
        return LogClaims(
            path=self.file.path,
            blob=self.file.blob,
            encoding=encoding,
            metrics=tuple(self.metrics),
            sizes=tuple(self.sizes),
            seeds=tuple((self.run_seeds or self.seeds).values()),
            train_stops=tuple(self.train_stops),
            train_end=self.train_end,
            world_size=self.world_size,
            hardware=tuple(self.hardware),
            settings=self.settings,
            embedded_source=source,
            run=self.run.facts(),
        )

    def _embedded_source(self) -> tuple[int, int] | None:
        """From the first line that looks like source to the rule that the baseline prints after."""
        start = next((n for n, t in enumerate(self.lines, 1) if SOURCE_START.match(t)), None)
        if start is None:
            return None
        for number in range(start, len(self.lines) + 1):
            if self.lines[number - 1].startswith(SOURCE_END):
                return (start, number - 1) if number - start >= MIN_SOURCE_LINES else None
        return None

    def _read(self, line: str, number: int) -> None:
        low = line.lower()
        evidence = Evidence(self.file.path, number, line.strip()[:EXCERPT])
        if "bpb" in low or "val_loss" in low:
            self.metrics += read_scores(line, evidence)
        if "train_time" in low:
            self._read_times(line, evidence)
        if "size" in low or "serialized model" in low:
            self._read_sizes(line, evidence)
        elif "code" in low or "total" in low or "budget" in low:
            self._read_plain_sizes(line, evidence)
        if "seed" in low:
            self._read_seeds(line, evidence)
        if any(word in low for word in GPU_WORDS) and (
            GPU_ROW.search(line) or GPU_COUNT.search(line)
        ):
            self.hardware.append(evidence)
        if line[0].isspace() and (setting := SETTING.fullmatch(line.rstrip())):
            self.settings[setting.group(1)] = Setting(setting.group(2), evidence)
        self.run.read(line, low, evidence)

    def _read_sizes(self, line: str, evidence: Evidence) -> None:
        size = SIZE.search(line)
        if size:
            kind = SIZE_KINDS.get(size.group(1).lower(), "total")
            codec = size.group(2).strip(" _-").lower() or None
            count = int(size.group(3).replace(",", "").replace("_", ""))
            self.sizes.append(Size(kind, codec, count, evidence))
        world = WORLD_SIZE.search(line)
        if world and self.world_size is None:
            self.world_size = Figure(int(world.group(1)), evidence)

    def _read_plain_sizes(self, line: str, evidence: Evidence) -> None:
        kinds: tuple[SizeKind, ...] = ("model", "code", "total")
        if trio := TRIO.search(line):
            for own, count in zip(kinds, trio.groups(), strict=True):
                self.sizes.append(Size(own, SHIPPED, int(count), evidence))
        elif budget := BUDGET.search(line):
            self.sizes.append(Size("total", SHIPPED, int(budget[1]), evidence))
        else:
            for name, digits in PLAIN_SIZE.findall(line):
                kind: SizeKind = "code" if name.lower() == "code" else "total"
                count = int(digits.replace(",", "").replace("_", ""))
                self.sizes.append(Size(kind, None, count, evidence))

    def _read_seeds(self, line: str, evidence: Evidence) -> None:
        for seed in SEED.findall(line):
            own = self.run_seeds if RUN_SEED.fullmatch(line) else self.seeds
            own.setdefault(int(seed), Figure(int(seed), evidence))

    def _read_times(self, line: str, evidence: Evidence) -> None:
        timed = TRAIN_TIME.search(line)
        if not timed:
            return
        took = Figure(float(timed.group(1)) * MILLISECONDS[timed.group(2) or "ms"], evidence)
        if "stopping_early" in line:
            self.train_stops.append(took)
        if self.train_end is None or took.value > self.train_end.value:
            self.train_end = took
