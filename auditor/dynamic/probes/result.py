"""What the probes of whole runs found, as data: rules and reports read it without running any."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from auditor.program.events import Event


class Outcome(StrEnum):
    """What a probe says."""

    FOUND = "found"
    CLEAN = "clean"
    NOT_AUDITED = "not audited"


@dataclass(frozen=True)
class ProbeResult:
    """One probe. `outside` is set where everything it rests on was recomputed outside of the
    audited process: what the run prints, and the files it is given. Other results rest on hooks
    that a hostile script could lie to. `numbers` are its figures by name, `runs` the variants that
    it rests on; `witness` replays it."""

    probe: str
    outcome: Outcome
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    outside: bool = False
    runs: tuple[str, ...] = ()
    witness: Mapping[str, Any] | None = None

    @property
    def found(self) -> bool:
        """The probe proves a fault."""
        return self.outcome is Outcome.FOUND

    @property
    def clean(self) -> bool:
        """The probe ran on the submitted metric and found nothing."""
        return self.outcome is Outcome.CLEAN


@dataclass(frozen=True)
class ScriptResult:
    """All probes of one script. `problem` says why none was run, or is None.

    `metric` is the printed line that was bound, `environment` what the run was given, `shrunk`
    what was made smaller, in words; `lines` are those that ran, by the file's base name (`<string>`
    for unpacked code); `timeline` is what trained and what was scored; `seconds` is wall time.
    """

    probes: tuple[ProbeResult, ...] = ()
    problem: str | None = None
    metric: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    shrunk: tuple[str, ...] = ()
    lines: frozenset[tuple[str, int]] = frozenset()
    timeline: tuple[Event, ...] = ()
    seconds: float = 0.0

    def of(self, probe: str) -> ProbeResult | None:
        """The result of one probe, if it was run."""
        return next((r for r in self.probes if r.probe == probe), None)


def not_audited(probe: str, reason: str, **numbers: Any) -> ProbeResult:
    """A probe that could not look."""
    return ProbeResult(probe, Outcome.NOT_AUDITED, reason, numbers)
