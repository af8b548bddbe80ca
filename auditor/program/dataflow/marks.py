"""Marks: what a value may have been computed from. They travel with values and are never removed
except where the operation itself forgets (a shape, a length, a comparison's gate).

A mark is compared by identity unless it is a `Token` or a `Source`, which are equal when they name
the same thing.
"""

from dataclasses import dataclass, field
from typing import Any

# A sum of unknowns and a constant: ({(symbol, coefficient)}, constant). Positions in a token
# stream are compared in this form, so `i + 1 - k` and `(i - k) + 1` are the same place.
Affine = tuple[frozenset[tuple[Any, int]], int]

ZERO: Affine = (frozenset(), 0)


class Unknown:
    """A position of which no more is known than the marks of the value that it is of."""

    __slots__ = ("deps",)

    def __init__(self, deps: "Marks") -> None:
        self.deps = deps


@dataclass(frozen=True, slots=True)
class Computed:
    """An unknown that is known to be a function of other positions: `max(i - k, 0)`."""

    name: str
    of: tuple[Affine, ...]
    deps: frozenset[Any] = field(compare=False)


def affine_sum(left: Affine, right: Affine, sign: int = 1) -> Affine:
    """`left + sign * right`."""
    if not right[0]:
        return left[0], left[1] + sign * right[1]
    terms = dict(left[0])
    for symbol, factor in right[0]:
        terms[symbol] = terms.get(symbol, 0) + sign * factor
    return frozenset((s, f) for s, f in terms.items() if f), left[1] + sign * right[1]


@dataclass(frozen=True)
class Place:
    """Where something happens: module path and line."""

    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Source:
    """Data read from disk: `split` is `val`, `train` or `other`, by the dataset's file names."""

    split: str


@dataclass(frozen=True, slots=True)
class Token:
    """Tokens of a stream, aligned: element j of the value is the stream's token `start + j`."""

    stream: Any
    start: Affine


@dataclass(frozen=True, slots=True)
class Entry:
    """Of an axis with one entry a token, the entry of this token was told from the others."""

    token: Token


@dataclass(frozen=True, slots=True)
class Positions:
    """A loss was narrowed down to the places of a window from `lower` to `upper`, by a slice or a
    mask; None is the window's own end. Not `known`: by a mask that was not understood.
    """

    lower: Affine | None
    upper: Affine | None
    known: bool = True

    def others(self) -> "Positions":
        """The places left out; those that both ends leave out count as padding."""
        before = Positions(None, self.lower)
        return before if self.lower is not None else Positions(self.upper, None)


UNREAD = Positions(None, None, known=False)


@dataclass(eq=False, slots=True)
class Loop:
    """One run of a loop. As a mark: the value changes from one iteration to the next.

    `once` is true where the number of iterations is known to be at most one.
    """

    place: Place
    once: bool = False


@dataclass(frozen=True, slots=True)
class Weights:
    """The value was computed with the parameters of this module."""

    module: Any


class ModelOutput:
    """The value comes out of a network: its distribution, its hidden state."""


class Gradient:
    """The value is a gradient of something."""


class StoredData:
    """The value was read from a file that is no shard of the dataset."""


class Clock:
    """The value was computed from the time of day."""


class BitFactor:
    """The value is a multiple of ln 2: a loss divided by it is in bits."""


class EveryIndex:
    """The value runs over every index of an axis: `arange(n)`."""


class SpreadKey:
    """The value is a key that every index of an axis was hashed into together with tokens."""


MODEL = ModelOutput()
GRADIENT = Gradient()
STORED = StoredData()
CLOCK = Clock()
BITS = BitFactor()
EVERY = EveryIndex()
SPREAD = SpreadKey()


@dataclass(eq=False, slots=True)
class Read:
    """A lookup in a table with a key that was computed from tokens.

    `mixed` are those key tokens that went through arithmetic that other tokens share (xor, modulo,
    product, hash): the bucket no longer tells which token it is for. `spread`: each candidate
    for a token was hashed as well, and has a bucket of its own. `doubt` is the branch
    that led here although the logs hold none of the lines that it prints.
    """

    place: Place
    order: int
    loops: tuple[Loop, ...]
    tables: tuple[Any, ...]
    tokens: frozenset[Token]
    mixed: frozenset[Token]
    spread: bool
    doubt: Place | None


@dataclass(eq=False, slots=True)
class Ratio:
    """One lookup over another, where the numerator's key mixes in tokens the denominator's lacks.

    Those tokens are what the quotient predicts: the key was built from the answer. Without any, the
    numerator is `spread` over the candidates' own buckets, and the denominator is not their sum.
    """

    place: Place
    numerator: Read
    denominator: Read
    answer: frozenset[Token]


@dataclass(eq=False, slots=True)
class Unpicked:
    """A term of a sum with the probability of a realised token, read from tables under hashed keys
    alone: no index by that token picks it from a row of candidates.
    """

    place: Place
    reads: tuple[Read, ...]


@dataclass(eq=False, slots=True)
class Nll:
    """Losses or log-probabilities of realised tokens, taken from a network's output.

    `peeks`: their own entries in that output were changed.
    """

    place: Place
    order: int
    loops: tuple[Loop, ...]
    first_only: frozenset[Loop]
    deps: frozenset[Any]
    labels: frozenset[Token]
    peeks: bool
    doubt: Place | None


@dataclass(eq=False, slots=True)
class Train:
    """A change of weights by gradients. As a mark: computed with weights that it has changed.

    `fresh` are the loops in every iteration of which the trained object is made anew.
    """

    place: Place
    order: int
    loops: tuple[Loop, ...]
    deps: frozenset[Any]
    module: Any
    fresh: frozenset[Loop]
    doubt: Place | None


@dataclass(frozen=True, slots=True)
class Update:
    """A table takes something in under a key that was computed from tokens."""

    place: Place
    order: int
    loops: tuple[Loop, ...]
    tokens: frozenset[Token]


@dataclass(eq=False, slots=True)
class Choice:
    """One of several losses or probabilities of the same realised tokens wins by its size.

    Among the marks of a value: which loss it is, was decided by comparing them. Among its linear
    marks: it is the smallest or the largest of them.
    """

    place: Place
    order: int
    losses: frozenset[Any]
    doubt: Place | None


@dataclass(eq=False, slots=True)
class Threshold:
    """Losses or probabilities of realised tokens are held against a bound. As a mark of a test:
    `choice` is what it becomes where the outcome decides which of several is scored.
    """

    choice: Choice


@dataclass(frozen=True, slots=True)
class Match:
    """Stored data is compared with validation tokens, as it is or after decoding."""

    place: Place


@dataclass(frozen=True, slots=True)
class Export:
    """Something goes to a file. `weights`: it was computed with a network's, and is no loss.
    `calibrated`: from validation tokens, too.
    """

    place: Place
    order: int
    weights: bool
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Pass:
    """Tokens flow through a network."""

    place: Place
    order: int
    loops: tuple[Loop, ...]


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time of day is compared with a constant, in the unit that the script counts in."""

    place: Place
    order: int
    limit: float


@dataclass(eq=False, slots=True)
class Blend:
    """Terms put side by side to be weighed, of which one does not depend on the realised token.

    `weighed` is true once they were summed up: no index picks one of them out any more.
    """

    place: Place
    term: Place
    answer: frozenset[Token]
    weighed: bool = False


def weighed(linear: frozenset[Any]) -> frozenset[Any]:
    """The marks of a sum over what was put side by side."""
    return frozenset(
        Blend(m.place, m.term, m.answer, True) if type(m) is Blend and not m.weighed else m
        for m in linear
    )


Mark = Any
Marks = frozenset[Mark]
NONE: Marks = frozenset()


def holds(marks: Marks, kind: type[Any]) -> bool:
    """Whether a mark of that very class is among `marks`."""
    return kind in map(type, marks)


def of_kind(marks: Marks, kind: type[Any]) -> Marks:
    """The marks of that very class."""
    if kind not in map(type, marks):  # mostly so; asked without a frame for each mark
        return NONE
    return frozenset([m for m in marks if type(m) is kind])
