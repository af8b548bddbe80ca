"""The timeline of a run as plain data: what is scored, trained on, counted, written and reported.

A static reading and a traced run tell the same events, so that one drawing serves both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What happens."""

    SCORE = "score"  # losses of realised tokens that reach a reported number
    TRAIN = "train"  # gradients change weights
    COUNT = "count"  # a table takes tokens in
    EXPORT = "export"  # something is written to a file
    REPORT = "report"  # a loss becomes bits


@dataclass(frozen=True)
class Line:
    """A line of the program; `function` is the qualified name around it, empty at module level."""

    path: str
    line: int
    text: str
    function: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a report for machines holds it."""
        return {"path": self.path, "line": self.line, "function": self.function}


@dataclass(frozen=True)
class Turn:
    """One run of a loop around an event. Two runs of the same loop differ in `run`.

    `name` is the loop's variable, or its line where it has none.
    """

    run: int
    name: str
    line: Line


@dataclass(frozen=True)
class Span:
    """Tokens of a split (`validation`, `training`).

    `pieces` names the loops that each take other tokens every time round, outermost first: with
    none, it is all that the split was read for. With `before`, it is what earlier rounds of the
    last of them took.
    """

    split: str
    pieces: tuple[str, ...] = ()
    before: bool = False

    def __str__(self) -> str:
        if not self.pieces:
            return "all of validation" if self.split == "validation" else f"{self.split} tokens"
        which = "pieces before" if self.before else "piece"
        return f"{self.split} {which} {' / '.join(self.pieces)}"


@dataclass(frozen=True)
class Event:
    """Something that happens, with the loops around it, outermost first.

    `spans` are the tokens that it touches and `known` the validation tokens that the weights have
    been trained on when it happens. `again` names the loops that repeat it over the same tokens;
    `of` holds the lines of the losses that a report is made of. `without_gradients` is set where
    the code around it says so. `unlogged` marks a branch of whose lines no log holds any.
    """

    kind: Kind
    line: Line
    turns: tuple[Turn, ...] = ()
    spans: tuple[Span, ...] = ()
    known: tuple[Span, ...] = ()
    again: tuple[str, ...] = ()
    of: tuple[int, ...] = ()
    without_gradients: bool = False
    unlogged: bool = False

    def details(self) -> Iterator[str]:
        """What is known of it, in words."""
        if self.spans:
            tokens = " and ".join(map(str, self.spans))
            yield f"computed from {tokens}" if self.kind is Kind.EXPORT else tokens
        if self.again:
            yield f"the same again each {' / '.join(self.again)}"
        if self.kind is Kind.SCORE:
            known = " and ".join(map(str, self.known))
            yield f"by weights trained on {known or 'no validation token'}"
            if self.without_gradients:
                yield "without gradients"
        if self.of:
            yield f"from the losses of line {' and '.join(map(str, self.of))}"
        if self.unlogged:
            yield "no log shows that it ran"

    def to_json(self) -> dict[str, Any]:
        """As a report for machines holds it."""
        return {
            "kind": self.kind.value,
            **self.line.to_json(),
            "loops": [{"name": turn.name, **turn.line.to_json()} for turn in self.turns],
            "tokens": [_span(span) for span in self.spans],
            "known": [_span(span) for span in self.known],
            "again": list(self.again),
            "of": list(self.of),
            "without_gradients": self.without_gradients,
        }


def _span(span: Span) -> dict[str, Any]:
    return {"split": span.split, "pieces": list(span.pieces), "before": span.before}
