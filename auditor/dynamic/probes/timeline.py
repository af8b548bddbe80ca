"""The timeline of the run itself, in the shape that a static reading has.

What is seen of a run are weight changes and scored losses, with their lines. Which tokens fed a
change, the runs with a changed token tell: a change is fed by validation tokens if the weights
after it differ. Loops are not seen; what repeats at one line in a row is told once.
"""

from collections.abc import Mapping, Sequence

from auditor.dynamic.capture.record import BY_HAND
from auditor.dynamic.probes.binding import Bound
from auditor.dynamic.probes.flip import Change
from auditor.dynamic.probes.trace import Trace, read_trace, since
from auditor.dynamic.rehearsal import Rehearsal
from auditor.errors import AuditError
from auditor.program.events import Event, Kind, Line, Span

_VALIDATION, _TRAINING = Span("validation"), Span("training")


def traced(
    bound: Bound,
    base: Trace,
    run: Rehearsal,
    changes: Sequence[Change],
    script: str,
    texts: Mapping[str, str],
) -> tuple[Event, ...]:
    """What trained and what was scored, in order. `script` is the path of the audited script, as
    reports name it; `texts` the sources by base name."""
    fed = first_fed(base, run, changes)

    def line(path: str, number: int) -> Line:
        name = path.rpartition("/")[2]
        rows = texts.get(name, "").split("\n")
        text = rows[number - 1].strip() if 0 < number <= len(rows) else ""
        return Line(script, number, text)

    told: list[tuple[int, Event]] = []
    for tick, _, place in base.steps:
        if not place.endswith(BY_HAND):
            path, _, number = place.rpartition(":")
            spans = (_VALIDATION,) if fed is not None and tick >= fed else (_TRAINING,)
            told.append((tick, Event(Kind.TRAIN, line(path, int(number)), spans=spans)))
    for event in bound.events:
        known = (_VALIDATION,) if fed is not None and event.tick > fed else ()
        where = line(bound.site.path, bound.site.line)
        told.append((event.tick, Event(Kind.SCORE, where, spans=(_VALIDATION,), known=known)))
    events = [event for _, event in sorted(told, key=lambda pair: pair[0])]
    return tuple(e for e, before in zip(events, [None, *events], strict=False) if e != before)


def first_fed(base: Trace, run: Rehearsal, changes: Sequence[Change]) -> int | None:
    """The number of the first event after which weights hang on a changed token; None if none do.

    Weights that were fed once stay so: what trains them later is not told apart.
    """
    found = []
    for change in changes:
        try:
            steps, others = since(read_trace(run, change.name), base)
        except AuditError:
            continue  # there was no time for that run
        pairs = zip(steps, others, strict=False)
        found += [tick for (tick, digest, _), other in pairs if digest != other[1]][:1]
    return min(found, default=None)
