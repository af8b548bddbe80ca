"""Finds routines that mix a model of tokens with counts of bytes, by the shape of the arithmetic.

Four things together make the shape, in a routine and those that it calls: counters that go up by
one, a share of 1/256 for bytes never seen, two terms weighed by w and 1 - w, and the bytes of
tokens. A log-probability of a token divided by its number of bytes (or a root of its probability)
shows how the token's probability was handed to its bytes.
"""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass

from auditor.program.reached import called_names
from auditor.program.steps import (
    Assign,
    Call,
    Constant,
    Element,
    Expression,
    Loop,
    Member,
    Name,
    Operation,
    Routine,
    expressions,
    inner_steps,
    parts,
)

_BYTE_SHARES = (1 / 256, math.log(256), -math.log(256), 8 * math.log(2))
_SPELLING = ("encode", "bytes", "bytearray", "id_to_piece", "IdToPiece", "IdToBytes")
DEPTH = 4  # calls that are followed


@dataclass(frozen=True)
class Shape:
    """What one routine does itself: the first line of each part of the shape, 0 for none."""

    counts: int = 0
    byte_share: int = 0
    weighed: int = 0
    spelled: int = 0
    spread: int = 0

    def with_parts_of(self, other: "Shape") -> "Shape":
        """Both, as one routine's; its own lines come first."""
        return Shape(
            self.counts or other.counts,
            self.byte_share or other.byte_share,
            self.weighed or other.weighed,
            self.spelled or other.spelled,
            self.spread or other.spread,
        )

    @property
    def whole(self) -> bool:
        """Whether it is a mixture with counts of bytes."""
        return bool(
            self.counts and self.byte_share and self.weighed and (self.spelled or self.spread)
        )


@dataclass(frozen=True)
class ByteMixture:
    """A mixture, found in `routine` together with those that it calls.

    `weighed` and `spread` are (path, line) of the weighing and of the division, if there is one.
    """

    routine: Routine
    weighed: tuple[str, int]
    spread: tuple[str, int] | None


def byte_mixtures(routines: Sequence[Routine]) -> list[ByteMixture]:
    """The innermost routines in which the whole shape comes together."""
    by_name: dict[str, list[int]] = {}
    for number, routine in enumerate(routines):
        by_name.setdefault(routine.name, []).append(number)
    own = [_shape(r) for r in routines]
    called = [
        sorted({n for name in called_names(r) for n in by_name.get(name, ())} - {i})
        for i, r in enumerate(routines)
    ]
    reach = {i: _reach(i, called) for i in range(len(routines))}
    whole = {i: reached for i, reached in reach.items() if _joined([own[n] for n in reached]).whole}
    found = []
    for number, reached in whole.items():
        if any(other in whole for other in reached[1:] if number not in reach[other]):
            continue
        found.append(
            ByteMixture(
                routines[number],
                _first(routines, reached, [own[n].weighed for n in reached]) or ("", 0),
                _first(routines, reached, [own[n].spread for n in reached]),
            )
        )
    return found


def _reach(start: int, called: Sequence[Sequence[int]]) -> list[int]:
    """A routine, then those that it calls, near ones first."""
    found = [start]
    edge = [start]
    for _ in range(DEPTH):
        edge = [n for m in edge for n in called[m] if n not in found]
        found += dict.fromkeys(edge)
    return found


def _joined(shapes: Sequence[Shape]) -> Shape:
    whole = Shape()
    for shape in shapes:
        whole = whole.with_parts_of(shape)
    return whole


def _first(
    routines: Sequence[Routine], reached: Sequence[int], lines: Sequence[int]
) -> tuple[str, int] | None:
    for number, line in zip(reached, lines, strict=True):
        if line:
            return routines[number].path, line
    return None


def _shape(routine: Routine) -> Shape:
    counts = share = weighed = spelled = spread = 0
    factors: dict[Expression, int] = {}
    rests: set[Expression] = set()
    sized = _sized(routine)
    for step in inner_steps(routine.body):
        if not counts and isinstance(step, Assign) and _counts(step):
            counts = step.line
        for whole in expressions(step):
            for node in parts(whole):
                line = step.line
                share = share or (line if _is_byte_share(node) else 0)
                spelled = spelled or (line if _spells(node) else 0)
                spread = spread or (line if _spreads(node, sized) else 0)
                for factor in _factors(node):
                    if isinstance(factor, Operation) and factor.sign == "-":
                        rests |= {o for o in factor.operands[1:] if _is_one(factor.operands[0])}
                    factors.setdefault(factor, line)
    weighed = min((factors[r] for r in rests if r in factors), default=0)
    return Shape(counts, share, weighed, spelled, spread)


def _counts(step: Assign) -> bool:
    """`d[b] = d.get(b, 0) + 1`, `d[b] += 1`, `entry->count++`."""
    target, value = step.target, step.value
    if step.sign == "+":
        return _is_one(value) and isinstance(target, Element | Member)
    match value:
        case Operation("+", (Call(Member(_, "get"), _), one)) if _is_one(one):
            return True
    return False


def _is_one(node: Expression) -> bool:
    return isinstance(node, Constant) and node.value in (1, 1.0) and node.value is not True


def _is_byte_share(node: Expression) -> bool:
    match node:
        case Constant(value) if type(value) is float:
            return any(math.isclose(value, s, rel_tol=1e-6) for s in _BYTE_SHARES)
        case Operation("/", (_, Constant(256 | 256.0))):
            return True
        case Call(Name(name) | Member(_, name), (Constant(256 | 256.0),)):
            return name.startswith("log")
    return False


def _spells(node: Expression) -> bool:
    match node:
        case Call(Name(name) | Member(_, name), _):
            return name in _SPELLING
        case Constant(value):
            return type(value) is bytes
    return False


def _factors(node: Expression) -> tuple[Expression, ...]:
    """What is multiplied, or what a logarithm is taken of before terms are added."""
    match node:
        case Operation("*", operands):
            return operands
        case Call(Name() | Member(), (argument,)):
            return (argument,)
    return ()


def _sized(routine: Routine) -> set[str]:
    """Names that hold numbers of bytes: made of a length, repeated by one, or a bound of a loop
    inside a loop, which goes over the bytes of a token.
    """
    steps = list(inner_steps(routine.body))
    lengths = {
        step.target.id
        for step in steps
        if isinstance(step, Assign) and isinstance(step.target, Name)
        if any(map(_is_size, parts(step.value)))
    }
    inner = (s for step in steps if isinstance(step, Loop) for s in inner_steps(step.body))
    bounds = (s.over for s in inner if isinstance(s, Loop) and s.counter is not None)
    return lengths | {n.id for over in bounds for n in parts(over) if isinstance(n, Name)}


def _is_size(node: Expression) -> bool:
    match node:
        case Call(Name("len"), _):
            return True
        case Call(Member(_, "repeat" | "repeat_interleave"), _):
            return True
    return False


def _spreads(node: Expression, sized: Set[str]) -> bool:
    """`x / n` or `x ** (1 / n)` with a number of bytes n."""
    match node:
        case Operation("/", (Name(over), Name(under))):
            return under in sized and over != under
        case Operation("/", (Operation() | Call() | Element(), Name(under))):
            return under in sized
        case Operation("**", (_, Operation("/", (one, Name())))):
            return _is_one(one)
    return False
