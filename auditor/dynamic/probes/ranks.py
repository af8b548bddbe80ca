"""Ranks: the score is one over all targets, however many processes share the work (C4).

The script runs with two and four ranks, and its evaluation finds the artifact of the first run. All
ranks together have to score as many targets as one alone, and what rank 0 prints has to be the mean
of the losses of all. The score itself may differ a little: gradients of training at test time are
averaged over the ranks, and each rank may keep a cache of its own.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from auditor.dynamic.capture.record import Floats
from auditor.dynamic.probes.binding import Bound, submitted
from auditor.dynamic.probes.result import Outcome, ProbeResult, not_audited
from auditor.dynamic.probes.trace import Trace, read_trace, values_of
from auditor.dynamic.rehearsal import Rehearsal
from auditor.errors import AuditError

NAME = "ranks"
_ROUNDED = 2e-3  # relative: other batches round otherwise, in half precision


def traces(run: Rehearsal, size: int) -> list[Trace]:
    """The trace of each of `size` ranks. Raises `AuditError` where one left none."""
    return [read_trace(run, name) for name in ("", *(f"rank{r}" for r in range(1, size)))]


def judge(
    bound: Bound, base: Trace, runs: Mapping[int, Sequence[Trace] | AuditError], tag: str
) -> ProbeResult:
    """The probe's result. `runs` are those with several ranks, by their number."""
    alone = bound.metric.val_loss
    scores: dict[int, float] = {1: alone} if alone is not None else {}
    tried: list[str] = []
    problems: list[str] = []
    for size, run in runs.items():
        try:
            if isinstance(run, AuditError):
                raise run
            scores[size], fault = _look(bound, base, run, tag)
        except AuditError as error:
            problems.append(f"with {size} ranks: {error}")
            continue
        tried.append(str(size))
        if fault:
            reason = f"with {size} ranks {fault}"
            return ProbeResult(NAME, Outcome.FOUND, reason, {"loss by ranks": scores})
    if not tried:
        return not_audited(NAME, "; ".join(problems) or "no time was left for more ranks")
    most = max(abs(score - scores.get(1, score)) for score in scores.values())
    reason = (
        f"{' and '.join(tried)} ranks score every target that one scores, and the printed loss is "
        f"the mean of all of theirs; it differs by up to {most:.2g} nats from that of one rank"
    )
    reason = "; ".join([reason, *problems])
    return ProbeResult(NAME, Outcome.CLEAN, reason, {"loss by ranks": scores})


def _look(bound: Bound, base: Trace, ranks: Sequence[Trace], tag: str) -> tuple[float, str | None]:
    """The printed loss of a run with several ranks, and what is wrong with it."""
    metric = submitted(ranks[0].log.metrics, tag)
    if metric is None or metric.val_loss is None:
        raise AuditError("no loss of the submitted metric was printed")
    artifact = base.artifact.path if base.artifact is not None else ""
    shares = [_scored(bound, trace, artifact) for trace in ranks]
    alone = _scored(bound, base, artifact).size
    total = sum(share.size for share in shares)
    if not total:
        raise AuditError("nothing is computed where one rank alone computes its losses")
    if total not in (alone, len(ranks) * alone):  # each its part, or each all of them
        per_pass = bound.losses.size / alone
        return metric.val_loss, (
            f"all together compute {total * per_pass:.0f} losses, and one alone {bound.losses.size}"
        )
    last = [share[share.size - share.size * bound.losses.size // alone :] for share in shares]
    mean = float(np.concatenate(last).mean())
    if abs(mean - metric.val_loss) <= _ROUNDED * abs(metric.val_loss):
        return metric.val_loss, None
    return metric.val_loss, (
        f"the printed loss is {metric.val_loss:.6f}, and the mean over all of them {mean:.6f}"
    )


def _scored(bound: Bound, trace: Trace, artifact: str) -> Floats:
    """Every loss that a process computed at the bound place once it had read the artifact, in nats:
    the model may compute its training losses there, too."""
    reads = [tick for tick, action, path in trace.files if (action, path) == ("read", artifact)]
    start = min(reads, default=0)
    events = [event for event in trace.sites.get(bound.site, []) if event.tick > start]
    values: Floats = values_of(events) * bound.scale
    return values[values != 0] if bound.masked else values
