"""What ran and in which order, laid out once for every format."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from textwrap import wrap

from auditor.dossier import Dossier
from auditor.finding import Status
from auditor.program.events import Event, Line, Turn
from auditor.program.what_ran import Decider, Variable

FLAGGED = (Status.FAIL, Status.PENDING)
MAX_LINES = 6
BAR, LOOP = "│ ", "↻ "


@dataclass(frozen=True)
class Row:
    """A line of the drawing, `depth` loops deep: an event, or the loop that the next rows are in.

    `lines` are the places of events that differ in nothing else; `flags` the findings that rest on
    them, as `fail[C3]`.
    """

    depth: int
    event: Event | None = None
    lines: tuple[Line, ...] = ()
    flags: tuple[str, ...] = ()
    turn: Turn | None = None


def rows(dossier: Dossier) -> Iterator[Row]:
    """The timeline from the top; a loop has a row where it is entered."""
    flags = _flags(dossier)
    within: tuple[Turn, ...] = ()
    for _, alike in groupby(dossier.run.timeline, _whatever_its_line):
        events = list(alike)
        turns = events[0].turns
        shared = 0
        for old, new in zip(within, turns, strict=False):
            if old != new:
                break
            shared += 1
        for depth in range(shared, len(turns)):
            yield Row(depth, turn=turns[depth])
        within = turns
        found = dict.fromkeys(flag for event in events for flag in flags.get(event, ()))
        yield Row(len(turns), events[0], tuple(event.line for event in events), tuple(found))


def _whatever_its_line(event: Event) -> Event:
    return replace(event, line=Line(event.line.path, 0, "", event.line.function))


def _flags(dossier: Dossier) -> dict[Event, list[str]]:
    """The findings by event. Of several scores on one line, those by weights that know their
    tokens are meant if there are any."""
    by_place: dict[tuple[str, int], list[str]] = {}
    for finding in dossier.audit.findings:
        if finding.status in FLAGGED:
            for evidence in finding.evidence:
                own = by_place.setdefault((evidence.path, evidence.line), [])
                own.append(f"{finding.status.value}[{finding.rule}]")
    knowing = {_place(event) for event in dossier.run.timeline if _knows_too_much(event)}
    return {
        event: by_place.get(_place(event), [])
        for event in dossier.run.timeline
        if _place(event) not in knowing or _knows_too_much(event)
    }


def _place(event: Event) -> tuple[str, int]:
    return event.line.path, event.line.line


def _knows_too_much(event: Event) -> bool:
    return any(not span.before for span in event.known)


def place(dossier: Dossier, *lines: Line) -> str:
    """Where something happens: lines, with the function, and the file if it is not the script."""
    first = lines[0]
    distinct = list(dict.fromkeys(str(line.line) for line in lines))
    numbers = ", ".join(distinct[:MAX_LINES])
    if len(distinct) > MAX_LINES:
        numbers += f" and {len(distinct) - MAX_LINES} more in"
    script = first.path.removesuffix("!unpacked") == dossier.audit.path
    where = numbers if script else f"{dossier.short(first.path)}:{numbers}"
    return f"{where} {first.function}".rstrip()


def heading(turn: Turn) -> str:
    """A loop in the words of its first line."""
    text = turn.line.text.partition(":")[0] if turn.line.text.startswith("while") else ""
    text = text or turn.line.text.rstrip(":")
    counts = "" if turn.name in text or turn.name.startswith("line ") else f" ({turn.name})"
    return f"{text[:70]}{'…' if len(text) > 70 else ''}{counts}"


def drawing(dossier: Dossier, width: int) -> Iterator[tuple[Row, str]]:
    """The timeline as lines of text, each with the row that it belongs to."""
    for row in rows(dossier):
        gutter = BAR * row.depth
        if row.turn is not None:
            yield row, f"{gutter}{LOOP}{place(dossier, row.turn.line)}: {heading(row.turn)}"
        if row.event is not None:
            kind = row.event.kind.value.upper()
            flags = "".join(f"  <- {flag}" for flag in row.flags)
            yield row, f"{gutter}{kind:<6} {place(dossier, *row.lines)}{flags}"
            indent = gutter + " " * 7
            for line in wrap("; ".join(row.event.details()), max(30, width - len(indent))):
                yield row, indent + line


def decided(dossier: Dossier, variable: Variable) -> str:
    """A variable's value and from where it is known, as `TTT_ENABLED=1 (README.md:52)`."""
    place = variable.evidence
    where = f"{dossier.short(place.path)}:{place.line}" if place.path else place.text
    if variable.decider is Decider.DEFAULT:
        where = f"the script's default, line {place.line}"
    elif variable.decider is Decider.OVERRIDE:
        where = "set for this audit"
    return f"{variable.name}={variable.value or '(empty)'} ({where})"


def variables_by_weight(dossier: Dossier) -> list[Variable]:
    """The variables that the script reads: switches first, and what was decided by more weight."""
    deciders = list(Decider)
    return sorted(
        dossier.run.variables,
        key=lambda v: (v.switch is None, -deciders.index(v.decider), v.name),
    )


def override_warning(dossier: Dossier) -> str | None:
    """What a report says first if it does not speak of the submitted run."""
    if not dossier.run.overrides:
        return None
    asked = ", ".join(f"{name}={value}" for name, value in dossier.run.overrides.items())
    text = f"This is not the submitted run: the audit was made with {asked}"
    if dossier.run.without_effect:
        text += f"; the script never reads {', '.join(dossier.run.without_effect)}"
    return text + "."
