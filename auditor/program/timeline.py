"""The timeline of a script, from its data flow."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Any

from auditor.program.dataflow.machine import Report, Trace
from auditor.program.dataflow.marks import (
    Loop,
    Nll,
    Place,
    Read,
    Source,
    Token,
    Train,
    Update,
    Weights,
)
from auditor.program.events import Event, Kind, Line, Span, Turn
from auditor.program.index import Module, Program
from auditor.syntax import walk

VALIDATION = "validation"
_SPLITS = {"val": VALIDATION, "train": "training"}
_LOOSE = (Kind.EXPORT, Kind.REPORT)
_WITHOUT_GRADIENTS = ("no_grad", "inference_mode")


def timeline(program: Program, trace: Trace) -> tuple[Event, ...]:
    """The events of a run in order; what happens to several objects alike is told once."""
    told: list[Event] = []
    within_loops: set[Event] = set()
    for event in _within_their_loops(list(_Timeline(program, trace).events())):
        if event not in within_loops and event not in told[-1:]:
            told.append(event)
        if event.turns:
            within_loops.add(event)
    return tuple(told)


def _within_their_loops(events: list[Event]) -> Iterator[Event]:
    """The data flow does not tell in which loop a file is written or a number reported: in those
    that what comes before and what comes after have in common."""
    after: list[tuple[Turn, ...]] = []
    turns: tuple[Turn, ...] = ()
    for event in reversed(events):
        after.append(turns)
        turns = turns if event.kind in _LOOSE else event.turns
    before: tuple[Turn, ...] = ()
    for event in events:
        following = after.pop()
        if event.kind in _LOOSE:
            pairs = zip(before, following, strict=False)
            yield replace(event, turns=tuple(a for a, b in pairs if a == b))
        else:
            before = event.turns
            yield event


class _Timeline:
    def __init__(self, program: Program, trace: Trace) -> None:
        self.trace = trace
        self.pages = {module.path: _Page(module) for module in program.modules}
        self.runs: dict[Loop, int] = {}

    def events(self) -> Iterator[Event]:
        """Every event in order of evaluation."""
        trace = self.trace
        found = [
            *((nll.order, self._score(nll)) for nll in self._scores),
            *((train.order, self._train(train)) for train in trace.trains),
            *((update.order, self._count(update)) for update in self._updates),
            *self._exports(),
            *((report.order, self._report(report)) for report in trace.reports),
        ]
        yield from (event for _, event in sorted(found, key=lambda pair: pair[0]))

    @cached_property
    def _scores(self) -> list[Nll]:
        """Losses that reach a reported number; those that only train are told as training."""
        reached = {m for report in self.trace.reports for m in report.deps if type(m) is Nll}
        return sorted(reached, key=attrgetter("order"))

    @property
    def _updates(self) -> Iterable[Update]:
        """What goes into the tables that are read for a reported number."""
        reads: list[Read] = self.trace.reported(Read)
        return {u for read in reads for table in read.tables for u in table.updates}

    def _score(self, nll: Nll) -> Event:
        moving = [loop for loop in nll.loops if loop in nll.deps]
        still = [loop for loop in nll.loops if loop not in nll.deps and loop not in nll.first_only]
        places = [nll.place, *(loop.place for loop in nll.loops)]
        return Event(
            Kind.SCORE,
            self._line(nll.place),
            self._turns(nll.loops),
            self._spans(nll.deps, moving),
            tuple(dict.fromkeys(self._known(nll))),
            self._again(still),
            without_gradients=any(self._page(p).without_gradients(p.line) for p in places),
        )

    def _train(self, train: Train) -> Event:
        losses = [m for m in train.deps if type(m) is Nll]
        loops = _without_loops_over_optimizers(train, losses)
        # Training batches may be drawn at random: a loop that does not count through them says
        # nothing. Validation tokens are told by their places.
        counted = self._validation(train)
        still = [loop for loop in loops if counted and loop not in train.deps]
        return Event(
            Kind.TRAIN,
            self._line(train.place),
            self._turns(loops),
            self._spans(train.deps, [loop for loop in loops if loop in train.deps]),
            again=self._again(still),
            unlogged=train.doubt is not None,
        )

    def _count(self, update: Update) -> Event:
        symbols = {symbol for token in update.tokens for symbol, _ in token.start[0]}
        marks = {m for symbol in symbols for m in getattr(symbol, "deps", ())}
        moving = [loop for loop in update.loops if loop in marks]
        sources = {m for token in update.tokens for m in _sources(token)}
        return Event(
            Kind.COUNT,
            self._line(update.place),
            self._turns(update.loops),
            self._spans(sources, moving),
        )

    def _exports(self) -> Iterator[tuple[int, Event]]:
        """Files; with tokens only where they hold what was computed from validation tokens."""
        for place, calls in groupby(self.trace.exports, attrgetter("place")):
            written = list(calls)  # what a call is given, one by one
            spans = (Span(VALIDATION),) if any(export.calibrated for export in written) else ()
            yield written[0].order, Event(Kind.EXPORT, self._line(place), spans=spans)

    def _report(self, report: Report) -> Event:
        of = {m.place.line for m in report.deps if type(m) is Nll}
        return Event(
            Kind.REPORT,
            self._line(report.place),
            spans=self._spans(report.deps, ()),
            of=tuple(sorted(of)),
        )

    def _known(self, nll: Nll) -> Iterator[Span]:
        """The validation tokens that the weights behind a loss were trained on before it."""
        modules = {m.module for m in nll.deps if type(m) is Weights}
        for train in self.trace.trains:
            if not self._validation(train):
                continue
            shared = [a for a, b in zip(train.loops, nll.loops, strict=False) if a is b]
            moving = [loop for loop in shared if loop in nll.deps]
            if train in nll.deps and train.order < nll.order:
                yield Span(VALIDATION, self._names(moving))
            elif train.order > nll.order and train.module in modules and shared:
                repeated = [loop for loop in shared if loop not in train.fresh and not loop.once]
                if any(loop not in nll.deps and loop not in nll.first_only for loop in repeated):
                    yield Span(VALIDATION, self._names(moving))
                elif repeated:
                    names = self._names([loop for loop in moving if loop in repeated])
                    yield Span(VALIDATION, names, before=True)

    def _validation(self, train: Train) -> bool:
        return VALIDATION in self._splits(train.deps)

    def _spans(self, deps: Iterable[Any], moving: Iterable[Loop]) -> tuple[Span, ...]:
        return tuple(Span(split, self._names(moving)) for split in self._splits(deps))

    @staticmethod
    def _splits(deps: Iterable[Any]) -> list[str]:
        found = {m.split for m in deps if type(m) is Source}
        return [name for split, name in _SPLITS.items() if split in found]

    def _names(self, loops: Iterable[Loop]) -> tuple[str, ...]:
        return tuple(self._page(loop.place).loop_name(loop.place.line) for loop in loops)

    def _again(self, loops: Iterable[Loop]) -> tuple[str, ...]:
        return self._names(loop for loop in loops if not loop.once)

    def _turns(self, loops: Iterable[Loop]) -> tuple[Turn, ...]:
        return tuple(
            Turn(
                self.runs.setdefault(loop, len(self.runs)),
                self._page(loop.place).loop_name(loop.place.line),
                self._line(loop.place),
            )
            for loop in loops
        )

    def _line(self, place: Place) -> Line:
        page = self._page(place)
        text = page.module.line(place.line)[:200]
        return Line(place.path, place.line, text, page.function(place.line))

    def _page(self, place: Place) -> "_Page":
        return self.pages[place.path]


def _sources(token: Token) -> Iterable[Any]:
    """A stream is known by the data that it was read from."""
    return token.stream if isinstance(token.stream, frozenset) else ()


def _without_loops_over_optimizers(train: Train, losses: list[Nll]) -> tuple[Loop, ...]:
    """The loops that a step shares with its loss, or that change what it is taken on."""
    loops = list(train.loops)
    around = {loop for nll in losses for loop in nll.loops}
    while loops and loops[-1] not in train.deps and loops[-1] not in around:
        loops.pop()
    return tuple(loops)


class _Page:
    """What the text of a module says of one of its lines."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def function(self, line: int) -> str:
        """The innermost function around a line."""
        around = [
            (node.lineno, name)
            for name, node in self.module.functions.items()
            if node.lineno <= line <= (node.end_lineno or node.lineno)
        ]
        return max(around, default=(0, ""))[1]

    def loop_name(self, line: int) -> str:
        """The variable that the loop starting at a line counts with."""
        return self._counters.get(line) or f"line {line}"

    def without_gradients(self, line: int) -> bool:
        """Whether a block or a decorator around a line switches gradients off."""
        return any(first <= line <= last for first, last in self._quiet)

    @cached_property
    def _counters(self) -> dict[int, str]:
        """For each loop's line, its first variable; of a `while`, what it counts with."""
        found: dict[int, str] = {}
        loops: list[ast.For | ast.AsyncFor] = [
            *self.module.nodes_of(ast.For),
            *self.module.nodes_of(ast.AsyncFor),
        ]
        for node in loops:
            within = [n for n in walk(node.target) if isinstance(n, ast.Name)]
            found[node.lineno] = _counter(within)
        for counting in self.module.nodes_of(ast.While):
            found[counting.lineno] = _counter(_counted(counting))
        return found

    @cached_property
    def _quiet(self) -> list[tuple[int, int]]:
        found = []
        switching: list[tuple[ast.stmt, list[ast.expr]]] = [
            *((n, [i.context_expr for i in n.items]) for n in self.module.nodes_of(ast.With)),
            *((n, n.decorator_list) for n in self.module.nodes_of(ast.FunctionDef)),
        ]
        for node, switches in switching:
            named = {
                inner.attr if isinstance(inner, ast.Attribute) else inner.id
                for switch in switches
                for inner in walk(switch)
                if isinstance(inner, ast.Attribute | ast.Name)
            }
            if named.intersection(_WITHOUT_GRADIENTS):
                found.append((node.lineno, node.end_lineno or node.lineno))
        return found


def _counter(names: list[ast.Name]) -> str:
    return next((n.id for n in names if n.id != "_"), "")


def _counted(node: ast.While) -> list[ast.Name]:
    """What a `while` tests and changes; else what it counts up by a constant."""
    tested = {n.id for n in walk(node.test) if isinstance(n, ast.Name)}
    changed = [n for n in walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    up = [
        s.target
        for s in node.body
        if isinstance(s, ast.AugAssign)
        and isinstance(s.target, ast.Name)
        and isinstance(s.value, ast.Constant)
    ]
    return [n for n in changed if n.id in tested] or up
