"""Artifact: it follows from training data alone, and has the bytes it is said to have (D1, A1).

The artifact is what the script wrote and read back before it scored. Its digest may not change when
a validation token does: then validation data reached it. The sizes that the script prints are held
against those of its files.
"""

from auditor.dynamic.probes.flip import REPEAT, Change, took_place
from auditor.dynamic.probes.result import Outcome, ProbeResult, not_audited
from auditor.dynamic.probes.trace import Trace, read_trace
from auditor.dynamic.rehearsal import Rehearsal
from auditor.errors import AuditError

NAME = "artifact"


def judge(base: Trace, run: Rehearsal, changes: list[Change], script_bytes: int) -> ProbeResult:
    """The probe's result."""
    written = base.artifact
    numbers: dict[str, object] = {
        "written": {w.path.rpartition("/")[2]: w.bytes for w in base.artifacts},
        "code said": [size.bytes for size in base.log.sizes_of("code")],
        "code": script_bytes,
        "model said": [size.bytes for size in base.log.sizes_of("model")],
    }
    if written is None:
        return not_audited(NAME, "the script reads back no file that it wrote", **numbers)
    try:
        if _digest(run, REPEAT, written.path) != written.read_back:
            return not_audited(NAME, "an unchanged repeat writes another artifact", **numbers)
        moved = [
            c
            for c in took_place(run, changes)
            if _digest(run, c.name, written.path) != written.read_back
        ]
    except AuditError as error:
        return not_audited(NAME, str(error), **numbers)
    name = written.path.rpartition("/")[2]
    if moved:
        reason = (
            f"{name} changes with validation token {moved[0].index}: validation data reach the "
            "artifact"
        )
        return ProbeResult(NAME, Outcome.FOUND, reason, numbers, runs=(REPEAT, moved[0].name))
    reason = f"{name} ({written.bytes:,} bytes here) stays the same whatever the validation data"
    return ProbeResult(NAME, Outcome.CLEAN, reason, numbers)


def _digest(run: Rehearsal, variant: str, path: str) -> str | None:
    for written in read_trace(run, variant).artifacts:
        if written.path == path:
            return written.read_back
    return None
