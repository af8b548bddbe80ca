"""What one process of a run told, as data. Any of it may be false: it is read, not believed."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from auditor.dynamic.capture.record import Floats, Reduced, Site, unpack
from auditor.dynamic.rehearsal import Rehearsal
from auditor.errors import AuditError
from auditor.evidence.figures import LogClaims, Metric
from auditor.evidence.logs import read_log
from auditor.submission.model import SourceFile

_NAME = "printed"


@dataclass(frozen=True)
class Written:
    """A file that the script wrote; `read_back` is its digest when it was first opened for
    reading, or None where it never was."""

    path: str
    bytes: int
    sha256: str
    read_back: str | None


@dataclass(frozen=True)
class Trace:
    """One process. `printed`, `steps` and `files` start with the event's number; `lines` are those
    of the script that ran, by base name."""

    sites: Mapping[Site, list[Reduced]]
    printed: tuple[tuple[int, str], ...]
    steps: tuple[tuple[int, str, str], ...]
    files: tuple[tuple[int, str, str], ...]
    artifacts: tuple[Written, ...] = ()
    notes: tuple[str, ...] = ()
    lines: frozenset[tuple[str, int]] = frozenset()
    problem: str | None = None

    @cached_property
    def log(self) -> LogClaims:
        """The printed lines, read as a submitted log is."""
        text = "\n".join(line for _, line in self.printed)
        read = read_log(SourceFile.of(_NAME, text.encode("utf-8", "replace")))
        if not isinstance(read, LogClaims):
            raise AuditError(f"the output cannot be read: {read.text}")
        return read

    def when(self, metric: Metric) -> int:
        """The number of the event that printed a metric of `log`."""
        return self.printed[metric.evidence.line - 1][0]

    @property
    def artifact(self) -> Written | None:
        """The largest file that the script wrote and read back."""
        return max((w for w in self.artifacts if w.read_back), key=lambda w: w.bytes, default=None)


def read_trace(run: Rehearsal, variant: str = "") -> Trace:
    """One process of a run. Raises `AuditError` where it left no trace that can be read."""
    name = f"the run with {variant}" if variant else "the run"
    found = run.variants.get(variant)
    if found is None:
        raise AuditError(f"no time was left for {name}")
    entry, state = found.json("session"), found.json("exit")
    try:
        return Trace(
            sites=unpack(entry, found.results["values"]),
            printed=tuple((int(tick), str(text)) for tick, text in entry["printed"]),
            steps=tuple((int(tick), str(a), str(b)) for tick, a, b in entry["steps"]),
            files=tuple((int(tick), str(a), str(b)) for tick, a, b in entry["files"]),
            artifacts=tuple(
                Written(str(w["path"]), int(w["bytes"]), str(w["sha256"]), w["read_back"])
                for w in entry["artifacts"]
            ),
            notes=tuple(str(note) for note in entry["notes"]),
            lines=frozenset(
                (str(path).rpartition("/")[2], int(line))
                for path, lines in entry["lines"].items()
                for line in lines
            ),
            problem=None if state["code"] == 0 else str(state.get("error")),
        )
    except (AttributeError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise AuditError(f"{name} left no trace ({error!r})") from None


def values_of(events: list[Reduced]) -> Floats:
    """All values of some reductions, in order."""
    return np.concatenate([e.values for e in events]) if events else np.zeros(0)


def since(variant: Trace, base: Trace) -> tuple[list[tuple[int, str, str]], ...]:
    """The weight changes of both runs from the moment on at which the variant was forked."""
    ticks = [tick for tick, _ in variant.printed]
    ticks += [tick for tick, _, _ in (*variant.files, *variant.steps)]
    start = min(ticks, default=0)
    return [s for s in base.steps if s[0] >= start], list(variant.steps)
