"""Crossing: the score follows from code, artifact, validation data and tokenizer alone (A2, D2).

One variant trains on other data, so that everything it learned is different, and then finds this
run's artifact in the place of its own; from there on the training shards are gone. Its losses must
be those of this run to the last bit: what differs has crossed by another way than the artifact.
There is no network in any run.
"""

import numpy as np

from auditor.dynamic.probes.binding import Bound
from auditor.dynamic.probes.result import Outcome, ProbeResult, not_audited
from auditor.dynamic.probes.trace import Trace, read_trace
from auditor.dynamic.rehearsal import Rehearsal
from auditor.errors import AuditError

NAME = "crossing"


def judge(bound: Bound, base: Trace, run: Rehearsal) -> ProbeResult:
    """The probe's result."""
    written = base.artifact
    connections = sorted({path for _, action, path in base.files if action == "connect"})
    numbers: dict[str, object] = {"connections tried": connections}
    if written is None:
        return not_audited(NAME, "the script reads back no file that it wrote", **numbers)
    try:
        other = read_trace(run, NAME)
        losses = bound.same_place(other)
    except AuditError as error:
        return not_audited(NAME, str(error), **numbers)
    own = next((w for w in other.artifacts if w.path == written.path), None)
    if own is None or own.read_back == written.read_back:
        return not_audited(NAME, "other training data give the same artifact", **numbers)
    late = [
        path
        for tick, action, path in base.files
        if action == "read" and tick > bound.first_tick and "fineweb_train" in path
    ]
    if other.problem is not None or losses is None:
        reason = f"without training shards at evaluation it ends otherwise: {other.problem}"
        outcome = Outcome.FOUND if late else Outcome.NOT_AUDITED
        return ProbeResult(NAME, outcome, reason, numbers, runs=(NAME,))
    differ = int(np.count_nonzero(losses != bound.losses))
    numbers["losses that differ"] = differ
    if differ:
        reason = (
            f"{differ} of {losses.size} losses differ although the same artifact is read: "
            "something else that was learned reaches the score"
        )
        return ProbeResult(NAME, Outcome.FOUND, reason, numbers, runs=(NAME,))
    reason = "after training on other data, the same artifact gives every loss to the last bit"
    return ProbeResult(NAME, Outcome.CLEAN, reason, numbers)
