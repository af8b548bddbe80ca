"""Order: no weights that were trained on a token may score it, or anything before it (C3).

A step was fed by a token exactly if the weights after it differ between two runs that differ in
that token alone. So neither names nor the data's way are looked at. The step has to come after the
token's own loss, unless nothing that was scored hangs on it: a warm-up on weights that are thrown
away harms nothing, which the flip probe shows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from auditor.dynamic.probes.binding import Bound
from auditor.dynamic.probes.flip import OWN, Change, took_place
from auditor.dynamic.probes.result import Outcome, ProbeResult, not_audited
from auditor.dynamic.probes.trace import Trace, read_trace, since
from auditor.dynamic.rehearsal import Rehearsal
from auditor.errors import AuditError

NAME = "order"


@dataclass(frozen=True)
class Fed:
    """The first step that token `index` fed: its event's number, its place in the script."""

    index: int
    tick: int
    place: str
    scored: int  # number of the event that scored the token

    @property
    def early(self) -> bool:
        """Before the token's own loss."""
        return self.tick < self.scored


def judge(
    bound: Bound, base: Trace, run: Rehearsal, changes: list[Change], flip: ProbeResult
) -> ProbeResult:
    """The probe's result, given that of the flip probe."""
    own = flip.numbers.get(OWN) or {}
    try:
        fed = list(_first_fed(bound, base, run, took_place(run, changes), own))
    except AuditError as error:
        return not_audited(NAME, str(error))
    early = [step for step in fed if step.early]
    if not own and not (early and flip.found):
        return not_audited(NAME, "it is not known when each token is scored")
    numbers = {
        "weight changes": len(base.steps),
        "after scoring began": sum(step[0] > bound.first_tick for step in base.steps),
        "timeline": timeline(bound, base),
        "fed by": {step.index: step.place for step in fed},
    }
    if early and flip.found:
        step = early[0]
        reason = (
            f"weights change with token {step.index} at {step.place} before it is scored, and "
            "scored losses move with it"
        )
        return ProbeResult(NAME, Outcome.FOUND, reason, numbers, runs=(f"flip-{step.index}",))
    if early:
        reason = (
            f"weights change with token {early[0].index} at {early[0].place} before it is scored, "
            "but no scored loss hangs on them"
        )
    elif fed:
        reason = "every weight change that a changed token fed comes after that token's loss"
    else:
        reason = "no weight changes with any of the changed tokens"
    return ProbeResult(NAME, Outcome.CLEAN, reason, numbers)


def _first_fed(
    bound: Bound, base: Trace, run: Rehearsal, changes: list[Change], own: Mapping[int, int]
) -> Iterator[Fed]:
    """`own` is the value that is each changed token's own loss. Where that is not known, the
    beginning of all scoring counts."""
    ticks = bound.ticks()
    for change in (c for c in changes if c.single):
        scored = int(ticks[own[change.index]]) if change.index in own else bound.first_tick
        steps = since(read_trace(run, change.name), base)
        for (tick, digest, place), other in zip(*steps, strict=False):
            if digest != other[1]:
                yield Fed(change.index, tick, place, scored)
                break


def timeline(bound: Bound, base: Trace) -> str:
    """What the run did, in order: `s12 S4 s1 S4`, s for weight changes and S for scored windows."""
    events = [(tick, "s") for tick, *_ in base.steps] + [(e.tick, "S") for e in bound.events]
    runs: list[list[object]] = []
    for _, kind in sorted(events):
        if runs and runs[-1][0] == kind:
            runs[-1][1] = int(str(runs[-1][1])) + 1
        else:
            runs.append([kind, 1])
    words = [f"{kind}{count}" for kind, count in runs]
    return " ".join(words if len(words) <= 24 else [*words[:12], "...", *words[-12:]])
