"""The state of one interpretation: where it is, what it has noticed, how far it may go."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from auditor.program.dataflow.marks import (
    GRADIENT,
    MODEL,
    NONE,
    STORED,
    Blend,
    Choice,
    Deadline,
    Entry,
    Export,
    Loop,
    Marks,
    Match,
    Nll,
    Pass,
    Place,
    Ratio,
    Read,
    Source,
    Threshold,
    Token,
    Train,
    holds,
    of_kind,
)
from auditor.program.dataflow.values import UNSET, Cell, Class, Instance, Value, linear_of


class BudgetError(Exception):
    """The step budget is spent: the rest of the script was not looked at."""


@dataclass(frozen=True)
class Report:
    """A loss that is turned into bits: the number that a submission reports.

    `deps` and `linear` are the marks of the loss at that place.
    """

    place: Place
    order: int
    deps: Marks
    linear: Marks


@dataclass
class Trace:
    """What one interpretation noticed, each list in order of evaluation."""

    nlls: list[Nll] = field(default_factory=list)
    trains: list[Train] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    deadlines: list[Deadline] = field(default_factory=list)
    last_pass: Pass | None = None  # of training tokens
    sums: set[ast.BinOp] = field(default_factory=set)  # what `+` a network's output went into
    environment: dict[str, str] = field(default_factory=dict)  # variables read, with the value used
    called: set[str] = field(default_factory=set)
    problem: str | None = None

    def reported(self, kind: type[Any]) -> list[Any]:
        """The marks of one kind that reached a reported loss, in order of place and time."""
        marks = {m for r in self.reports for m in (*r.deps, *r.linear) if type(m) is kind}
        return sorted(marks, key=lambda m: (m.place.path, m.place.line, _moment(m)))


# A probability that is held against less is kept from a logarithm of zero, and not chosen by.
_NOTHING_LEFT = 1e-6


class Machine:
    """Bookkeeping shared by the evaluators."""

    def __init__(self, environment: Mapping[str, str], budget: int) -> None:
        self.environment = environment
        self.budget = budget
        self.trace = Trace()
        self.path = ""
        self.loops: tuple[Loop, ...] = ()
        self.first_only: frozenset[Loop] = frozenset()
        self.doubt: Place | None = None  # a branch taken that the logs know nothing of
        self.weighed: list[tuple[Instance, frozenset[Train]]] = []  # what weights carried before
        self.instances: list[Instance] = []  # all that were made
        self.order = 0
        self.steps = 0  # expressions evaluated so far
        self._places: dict[tuple[str, int], Place] = {}
        self.hooks: dict[Instance, tuple[Instance, Value]] = {}  # by handle: module and function
        self.watched = False  # hooks have seen validation tokens
        self.swayed: frozenset[Choice | Threshold] = frozenset()  # tests of losses that led here
        self.disk: Marks = NONE  # what was written to files, and may be read back
        self.pending: Marks = NONE  # what the gradients now held were computed from
        self.stale = False  # the pending gradients were used by a step already

    def place(self, node: Any) -> Place:
        """The place of a syntax node."""
        at = self.path, getattr(node, "lineno", 0)
        place = self._places.get(at)
        if place is None:
            place = self._places[at] = Place(*at)
        return place

    def tick(self) -> int:
        """The next moment in evaluation order."""
        self.order += 1
        return self.order

    def cell(self, kind: str, node: Any) -> Cell:
        """A new array or container."""
        return Cell(kind, self.place(node), self.loops)

    def instance(self, cls: Class | None, kind: str, parameters: Marks = NONE) -> Instance:
        """A new object: of a script's class, or of a library's."""
        made = Instance(cls, kind, parameters, self.loops)
        self.instances.append(made)
        return made

    def score(self, node: Any, model: Value, label: Value) -> Nll:
        """Losses of the realised tokens `label` under `model`'s distribution."""
        labels = frozenset(label.tokens() if label.start is None else _exact(label))
        known = model.all_deps()
        nll = Nll(
            self.place(node),
            self.tick(),
            self.loops,
            self.first_only,
            known | label.all_deps(),
            labels,
            any(Entry(label) in known for label in labels),
            self.doubt,
        )
        self.trace.nlls.append(nll)
        return nll

    def report(self, node: Any, loss: Value) -> bool:
        """`loss` becomes bits here; false if it is no loss."""
        deps = loss.all_deps()
        if not _is_scored(deps):
            return False
        self.trace.reports.append(Report(self.place(node), self.tick(), deps, linear_of(loss)))
        return True

    def backward(self, loss: Marks) -> None:
        """Gradients of a loss are added to those that wait for a step."""
        self.pending = loss if self.stale else self.pending | loss
        self.stale = False

    def step(self, node: Any, parameters: Marks) -> None:
        """An optimizer changes the weights of the instances in `parameters`."""
        self.stale = True
        self.train(node, parameters, self.pending)

    def train(self, node: Any, parameters: Marks, data: Marks) -> None:
        """The weights of the instances in `parameters` change by gradients computed from `data`."""
        roots = {m.root() for m in parameters if isinstance(m, Instance)}
        if not holds(data, Source):
            return
        for root in roots:
            fresh = frozenset(root.created)
            event = Train(self.place(node), self.tick(), self.loops, data, root, fresh, self.doubt)
            self.trace.trains.append(event)
            self.weigh(root, root.trained | {event})

    def weigh(self, root: Instance, trained: frozenset[Train]) -> None:
        """`root` carries these changes of its weights from now on."""
        self.weighed.append((root, root.trained))
        root.trained = trained

    def write_disk(self, node: Any, value: Value) -> None:
        """Something goes to a file."""
        deps = value.all_deps()
        self.disk |= frozenset(m for m in deps if type(m) is Train or m is GRADIENT)
        weights = MODEL in deps and not _is_scored(deps)
        calibrated = weights and Source("val") in deps
        self.trace.exports.append(Export(self.place(node), self.tick(), weights, calibrated))

    def match(self, node: Any, values: list[Value]) -> Marks:
        """A mark for stored data that is held against validation tokens."""
        if any(value.const is not UNSET for value in values):
            return NONE
        validation, stored, tokens = Source("val"), False, False
        for value in values:
            deps = value.all_deps()
            if STORED in deps:
                stored |= MODEL not in deps and validation not in deps
            elif validation in deps:
                tokens |= bool(value.tokens())
        return frozenset({Match(self.place(node))}) if stored and tokens else NONE

    def choice(self, node: Any, options: list[Value]) -> frozenset[Choice]:
        """A mark for losses that are told apart by their size, if `options` are such."""
        losses = _rivals(options)
        if len(set(losses)) < 2:
            return frozenset()
        every: frozenset[Any] = frozenset().union(*losses)
        chosen = Choice(self.place(node), self.tick(), every, self.doubt)
        self.trace.choices.append(chosen)
        return frozenset({chosen})

    def threshold(self, node: Any, values: list[Value]) -> frozenset[Threshold]:
        """A mark for a loss that is held against something that no token is in."""
        if len(values) != 2:
            return frozenset()
        for loss, bound in (values, values[::-1]):
            losses = frozenset(m for m in linear_of(loss) if type(m) is Nll)
            deps = bound.all_deps()
            if isinstance(bound.const, int | float) and abs(bound.const) < _NOTHING_LEFT:
                continue
            if losses and MODEL not in deps and not any(type(m) is Source for m in deps):
                choice = Choice(self.place(node), self.tick(), losses, self.doubt)
                return frozenset({Threshold(choice)})
        return frozenset()

    def blend(self, node: Any, terms: list[Value]) -> Marks:
        """Marks for terms put side by side, where one ignores the token that others are for."""
        marks: set[Blend] = set()
        answers = _answers(terms)
        if not answers:
            return NONE
        for term in terms:
            deps = term.all_deps()
            if MODEL in deps and not (term.tokens() & answers) and not _is_scored(deps):
                marks.add(Blend(self.place(node), term.origin or self.place(node), answers))
        return frozenset(marks)


def _moment(mark: Any) -> int:
    """When a mark arose, as far as it tells."""
    return int(mark.numerator.order if type(mark) is Ratio else getattr(mark, "order", 0))


def outcomes(tests: Iterable[Choice | Threshold], deps: Marks) -> Marks:
    """What tests of losses make of a value with these marks. A bound matters where there is another
    loss or lookup than those that it is for.
    """
    found: set[Choice] = set()
    for test in tests:
        choice = test.choice if isinstance(test, Threshold) else test
        if choice is test or any(type(m) in (Nll, Read) and m not in choice.losses for m in deps):
            found.add(choice)
    return frozenset(found)


def _rivals(options: list[Value]) -> list[frozenset[Any]]:
    """The losses behind each option that has any, and what tables say if one option is a loss."""
    found = [of_kind(linear_of(o), Nll) for o in options]
    if not any(found):
        return []
    tables = [of_kind(o.all_deps(), Read) for o in options]
    return [n | t for n, t in zip(found, tables, strict=True) if n | t]


def _exact(value: Value) -> frozenset[Token]:
    return frozenset(t for t in value.deps if type(t) is Token and t.start == value.start)


def _is_scored(deps: Marks) -> bool:
    return holds(deps, Nll)


def _answers(terms: list[Value]) -> frozenset[Token]:
    """The realised tokens that the scored terms are for."""
    found: set[Token] = set()
    for term in terms:
        for mark in term.all_deps():
            if type(mark) is Nll:
                found |= mark.labels
            elif type(mark) is Read:
                found |= mark.tokens & found
    return frozenset(found)
