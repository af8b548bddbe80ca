"""Operators on abstract values: constants folded, marks united, hashing and ratios noticed."""

import ast
import operator
from collections.abc import Callable
from typing import Any

from auditor.program.dataflow.marks import (
    EVERY,
    MODEL,
    NONE,
    SPREAD,
    UNREAD,
    ZERO,
    Choice,
    Marks,
    Nll,
    Place,
    Positions,
    Ratio,
    Read,
    Token,
    Unpicked,
    affine_sum,
    holds,
    of_kind,
    weighed,
)
from auditor.program.dataflow.values import UNSET, Value, constant, linear_of

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
# After these the tokens of both sides share the bits of one number.
_HASHING = (
    ast.Mult,
    ast.Mod,
    ast.BitAnd,
    ast.BitOr,
    ast.BitXor,
    ast.LShift,
    ast.RShift,
    ast.FloorDiv,
)
# These make one number of several.
_LOSSY = (ast.Mod, ast.BitAnd, ast.RShift, ast.FloorDiv)
_LINEAR = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.MatMult)
_BIG = 1 << 64


def binary(kind: type[ast.operator], left: Value, right: Value, place: Place) -> Value:
    """`left OP right`."""
    if left.const is not UNSET and right.const is not UNSET:
        folded = _fold(_BINARY.get(kind), left.const, right.const)
        if folded is not UNSET:
            return Value(left.deps | right.deps, const=folded)
    deps = left.all_deps() | right.all_deps()
    if kind is ast.Mult and MODEL in deps:
        deps |= _masking(left, right)
    elif kind is ast.Sub and left.const == 1:
        deps = inverted(deps)
    if kind in (ast.Div, ast.Sub):
        deps = _divided(deps, left, right, place)
    if kind in _LOSSY and EVERY in deps and holds(deps, Token):
        deps |= {SPREAD}
    if kind is ast.Add:
        deps |= unpicked(left, right, place)
    linear = _corrected(left, right) if kind in _LINEAR else NONE
    if kind is ast.MatMult:
        linear = weighed(linear)
    start = position = None
    if kind in (ast.Add, ast.Sub):
        sign = 1 if kind is ast.Add else -1
        position = affine_sum(left.affine(), right.affine(), sign)
    if right.start is None and right.const is not UNSET and kind in _HASHING:
        start = left.start
    elif left.start is None and left.const is not UNSET and kind in _HASHING:
        start = right.start
    return Value(
        deps,
        linear=linear,
        position=position,
        start=start,
        mixed=mix(left, right) if kind in _HASHING else left.mixed | right.mixed,
        origin=left.origin or right.origin,
    )


def _corrected(left: Value, right: Value) -> Marks:
    """The linear marks of both. The largest of several logarithms, corrected by a term in the same
    ones, is how the logarithm of a sum is computed: no choice between them.
    """
    mine, other = linear_of(left), linear_of(right)
    undone = [
        m
        for m in of_kind(mine | other, Choice)
        if m.losses <= (left if m in other else right).all_deps()
    ]
    return (mine | other).difference(undone)


def mix(*values: Value) -> frozenset[Token]:
    """The tokens that cannot be told apart any more once `values` are hashed together."""
    mixed: frozenset[Token] = frozenset()
    for value in values:
        if tokens := value.tokens() | value.mixed:
            mixed |= tokens
    return mixed


def _masking(left: Value, right: Value) -> Marks:
    """A loss times something else: a mask, of which it is not known which places it leaves."""
    for loss, other in ((left, right), (right, left)):
        if other.const is UNSET and holds(loss.deps, Nll):
            deps = other.all_deps()
            return NONE if holds(deps, Nll) else unread(deps)
    return NONE


def unread(deps: Marks) -> Marks:
    """A mark for what masks a loss, unless `deps` tell which places it leaves."""
    return NONE if holds(deps, Positions) else frozenset((UNREAD,))


def unpicked(left: Value, right: Value, place: Place) -> Marks:
    """A mark for a term that counts under hashed keys give beside a realised token's probability.

    Hashed, the token leaves no row to sum over; left out, the term is the same for every token.
    """
    for term, other in ((left, right), (right, left)):
        if holds(linear_of(other), Nll):
            deps = term.all_deps()
            reads = tuple(sorted(of_kind(deps, Read), key=lambda read: read.order))
            if reads and not holds(deps, Nll):
                hashed = frozenset().union(*(r.mixed for r in reads))
                picked = any(r.spread or r.tokens - hashed for r in reads)
                return NONE if picked else frozenset((Unpicked(place, reads),))
    return NONE


def inverted(deps: Marks) -> Marks:
    """The marks of a mask's complement."""
    if MODEL in deps or not holds(deps, Positions):
        return deps
    return frozenset(m.others() if type(m) is Positions and m.known else m for m in deps)


def _admitted(kind: ast.cmpop, left: Value, right: Value) -> Marks:
    """`arange(n) < s`: the places that the mask admits."""
    if left.position != ZERO or left.const is not UNSET:
        return NONE
    if isinstance(kind, ast.Lt | ast.LtE):
        return frozenset((Positions(None, right.affine()),))
    return frozenset((Positions(right.affine(), None),))


def compare(kinds: list[ast.cmpop], values: list[Value], marks: Marks = NONE) -> Value:
    """`a < b <= c`: a constant where all are; else a gate with the marks of all, and `marks`."""
    result: Any = True
    for kind, left, right in zip(kinds, values, values[1:], strict=False):
        if left.const is UNSET or right.const is UNSET:
            result = _identity(kind, left, right)
            if result is UNSET:
                result = _membership(kind, left, right)
        else:
            result = _fold(_COMPARE[type(kind)], left.const, right.const)
        if result is UNSET:
            deps = marks.union(*(v.all_deps() for v in values))
            return Value(deps | _admitted(kinds[0], values[0], values[1]))
        if not result:
            break
    return constant(result)


def _identity(kind: ast.cmpop, left: Value, right: Value) -> Any:
    """`x is None` is known where `x` is an object and nothing else."""
    if isinstance(kind, ast.Is | ast.IsNot):
        for one, other in ((left, right), (right, left)):
            if one.const is None and other.objects and other.const is UNSET:
                return isinstance(kind, ast.IsNot)
    return UNSET


def _membership(kind: ast.cmpop, left: Value, right: Value) -> Any:
    """`"x" in names` is known where all elements of a list, a tuple or a set are constants."""
    cells = right.cells() if len(right.objects) == 1 else []
    if left.const is UNSET or not isinstance(kind, ast.In | ast.NotIn) or not cells:
        return UNSET
    (cell,) = cells
    if cell.kind not in ("list", "tuple", "set") or cell.rest is not None or not cell.items:
        return UNSET
    held = [item.const for item in cell.items.values()]
    if any(const is UNSET for const in held):
        return UNSET
    return (left.const in held) is isinstance(kind, ast.In)


def _fold(operation: Callable[[Any, Any], Any] | None, left: Any, right: Any) -> Any:
    """The constant result, or UNSET: the operands are the script's, so they may be hostile."""
    if operation is None or (operation is operator.lshift and not _small(right)):
        return UNSET
    if operation is operator.pow and not (_small(left) and _small(right)):
        return UNSET
    if operation is operator.mul and not (
        isinstance(left, int | float) and isinstance(right, int | float)
    ):
        return UNSET
    if operation is operator.mod and isinstance(left, str | bytes):
        return UNSET
    try:
        result = operation(left, right)
    except (ArithmeticError, TypeError, ValueError):
        return UNSET
    if isinstance(result, int) and abs(result) > _BIG:
        return UNSET
    return UNSET if isinstance(result, complex) else result


def _small(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= 64


def unary(kind: type[ast.unaryop], value: Value) -> Value:
    """`OP value`."""
    if value.const is not UNSET:
        try:
            if kind is ast.Not:
                return Value(value.deps, const=not value.const)
            if kind is ast.USub:
                return Value(value.deps, const=-value.const)
        except TypeError:
            return value
    if kind is ast.Not and value.objects and not value.cells():
        return constant(False)
    if kind is ast.USub:
        return value.replace(
            deps=value.all_deps(), linear=linear_of(value), objects=(), position=None
        )
    return Value(inverted(value.all_deps()))


def _divided(deps: Marks, left: Value, right: Value, place: Place) -> Marks:
    """`deps` with the quotients of lookups, and without those that their own sum sets right.

    In a quotient of lookups the numerator's key holds tokens that the denominator's lacks, or each
    candidate's own bucket is divided by what is not the sum over the buckets.
    """
    below = of_kind(right.all_deps(), Read)
    if not below:
        return deps
    found = []
    for numerator in left.all_deps():
        if type(numerator) is not Read or not numerator.mixed:
            continue
        if numerator.spread and numerator in below:
            continue
        for denominator in below:
            answer = numerator.mixed - denominator.tokens
            other = denominator is not numerator and numerator.tokens & denominator.tokens
            if other and (answer or numerator.spread):
                found.append(Ratio(place, numerator, denominator, answer))
                break
    summed = {m for m in right.deps if is_unsummed(m) and m in left.deps}
    return deps.union(found) - summed


def is_unsummed(mark: object) -> bool:
    """Whether it is a quotient that a division by the sum over the candidates sets right."""
    return type(mark) is Ratio and not mark.answer


def normalised(deps: Marks) -> Marks:
    """The marks of what a softmax makes of values."""
    return deps - {m for m in deps if is_unsummed(m)}
