"""Drawings as inline SVG: the order of events, and the mass of a scorer.

They hold no style and no script: the page's style sheet colours their classes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from auditor.dossier import Dossier
from auditor.program.events import Kind
from auditor.report import history
from auditor.report.measured import Masses
from auditor.report.text import html_text as _text

LANES = (Kind.SCORE, Kind.TRAIN, Kind.COUNT, Kind.EXPORT, Kind.REPORT)
LEFT, STEP, LANE, BRACE, RADIUS = 64, 32, 24, 10, 6
MAX_EVENTS = 120
WIDTH, HEIGHT, MARGIN = 620, 190, 46

Link = Callable[[str, int], str | None]


@dataclass
class _Loop:
    """A loop over the columns `first` to `last`."""

    depth: int
    name: str
    first: int
    last: int


def timeline(dossier: Dossier, target: Link) -> str:
    """Events from left to right in the order in which they run, a lane for each kind; braces are
    loops. `target` gives the address of a line, or None. Empty where there are fewer than two."""
    rows = list(history.rows(dossier))
    events = [row for row in rows if row.event is not None][:MAX_EVENTS]
    if len(events) < 2:
        return ""
    loops = _loops(rows, len(events))
    depth = 1 + max((loop.depth for loop in loops), default=-1)
    top = depth * BRACE + 8
    kinds = {row.event.kind for row in events if row.event is not None}
    lanes = [kind for kind in LANES if kind in kinds]
    width, height = LEFT + STEP * len(events) + 8, top + LANE * len(lanes) + 20
    parts = [_opened("group", width, height, "What happens, in order")]
    for number, kind in enumerate(lanes):
        y = top + LANE * number + LANE // 2
        parts.append(f'<line class="rail" x1="{LEFT}" x2="{width - 8}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="label" x="0" y="{y + 4}">{kind.value}</text>')
    for loop in loops:
        x1, x2 = _column(loop.first) - 10, _column(loop.last) + 10
        y = 6 + BRACE * loop.depth
        shape = f"M{x1} {y + 6}V{y}H{x2}V{y + 6}"
        parts.append(f'<path class="loop" d="{shape}"><title>{_text(loop.name)}</title></path>')
    for number, row in enumerate(events):
        parts.append(_mark(number, row, top, lanes, target))
    return "".join(parts) + "</svg>"


def _loops(rows: list[history.Row], limit: int) -> list[_Loop]:
    """The columns that each loop spans."""
    found: list[_Loop] = []
    opened: list[_Loop] = []
    column = -1
    for row in rows:
        while opened and opened[-1].depth >= row.depth:
            opened.pop()
        if row.turn is not None:
            opened.append(_Loop(row.depth, history.heading(row.turn), column + 1, column + 1))
            found.append(opened[-1])
        if row.event is not None:
            column += 1
            for loop in opened:
                loop.last = column
    return [loop for loop in found if loop.last < limit]


def _column(number: int) -> int:
    return LEFT + STEP * number + STEP // 2


def _mark(number: int, row: history.Row, top: int, lanes: list[Kind], target: Link) -> str:
    if row.event is None:
        return ""
    kind, line = row.event.kind, row.lines[0]
    x, y = _column(number), top + LANE * lanes.index(kind) + LANE // 2
    words = f"{kind.value} line {line.line}: {'; '.join(row.event.details())}"
    flag = f'<circle class="flagged" cx="{x}" cy="{y}" r="{RADIUS + 4}"/>' if row.flags else ""
    label = f'<text class="line" x="{x}" y="{top + LANE * len(lanes) + 14}">{line.line}</text>'
    mark = (
        f'{flag}<circle class="{kind.value}" cx="{x}" cy="{y}" r="{RADIUS}">'
        f"<title>{_text(' '.join((words, *row.flags)))}</title></circle>{label}"
    )
    where = target(line.path, line.line)
    return f'<a href="{where}">{mark}</a>' if where else mark


def mass(measured: Masses) -> str:
    """The sum over the vocabulary at each measured position, on a logarithmic scale. On the line
    at 1 the scorer is honest; above it takes bits without paying."""
    values = [m for m in measured.values if m > 0 and math.isfinite(m)]
    if not values:
        return ""
    logs = [math.log2(value) for value in values]
    low, high = math.floor(min(0.0, *logs)), max(1, math.ceil(max(logs)))
    scale = (HEIGHT - 2 * 20) / (high - low)

    def y(log: float) -> float:
        return round(20 + (high - log) * scale, 1)

    parts = [_opened("img", WIDTH, HEIGHT, f"Mass of {measured.name} at {len(values)} positions")]
    for tick in _ticks(low, high):
        kind, at = "one" if tick == 0 else "rail", y(tick)
        parts.append(f'<line class="{kind}" x1="{MARGIN}" x2="{WIDTH - 8}" y1="{at}" y2="{at}"/>')
        label = f"{2.0**tick:g}"
        parts.append(f'<text class="label end" x="{MARGIN - 8}" y="{at + 4}">{label}</text>')
    room = WIDTH - MARGIN - 20
    for number, (value, log) in enumerate(zip(values, logs, strict=True)):
        x = round(MARGIN + 6 + room * number / max(1, len(values) - 1), 1)
        kind = "over" if value > 1.001 else "under" if value < 0.999 else "honest"
        parts.append(
            f'<circle class="{kind}" cx="{x}" cy="{y(log)}" r="3">'
            f"<title>mass {value:.4g}, {log:+.2f} bits</title></circle>"
        )
    return "".join(parts) + "</svg>"


def _ticks(low: int, high: int) -> Iterator[int]:
    step = max(1, math.ceil((high - low) / 6))
    yield from (log for log in range(low, high + 1) if log % step == 0)


def _opened(role: str, width: int, height: int, title: str) -> str:
    """The start of a drawing; one that holds links is a group, for an image's parts are hidden."""
    return (
        f'<svg class="plot" role="{role}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><title>{_text(title)}</title>'
    )
