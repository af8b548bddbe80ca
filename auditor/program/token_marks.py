"""Marks of values in a loop over tokens: which token, what a table says of it, what it decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from auditor.program.dataflow.marks import Place

Root = tuple[Any, ...]  # a variable of one call, or a member of whatever object


@dataclass(frozen=True, slots=True)
class Token:
    """What `sequence` holds at the position of a loop, plus `offset`."""

    sequence: Root
    loop: int
    offset: int


@dataclass(frozen=True, slots=True)
class Trait:
    """What a table says of a token."""

    token: Token
    table: Root
    place: Place


@dataclass(frozen=True, slots=True)
class Gate:
    """A trait that decided a way."""

    trait: Trait


@dataclass(frozen=True, slots=True)
class Memory:
    """The value was read from this variable."""

    root: Root


Marks = frozenset[Any]
NONE: Marks = frozenset()


@dataclass(frozen=True, slots=True)
class Value:
    """`at` is its distance from a loop's counter; `token` is set for exactly a token."""

    marks: Marks = NONE
    at: tuple[int, int] | None = None
    token: Token | None = None
    roots: frozenset[Root] = frozenset()
    number: int | None = None


UNKNOWN = Value()


@dataclass(frozen=True, slots=True)
class Store:
    """Something was stored, at a loop's position where `at` says so."""

    root: Root
    at: tuple[int, int] | None
    data: Marks
    gates: Marks
    place: Place
    order: int


def deciding(marks: Marks) -> Marks:
    """What a test with these marks decides by."""
    return frozenset(Gate(m) if type(m) is Trait else m for m in marks if type(m) in (Trait, Gate))


def computed_from(data: Marks, token: Token) -> bool:
    """Whether a value was computed from a token, rather than decided by it."""
    return token in data or any(type(m) is Trait and m.token == token for m in data)


def chosen(test: Value, values: list[Value]) -> Value:
    """One of `values`, by a test."""
    joined = union(values)
    return Value(joined.marks | deciding(test.marks), joined.at, joined.token, joined.roots)


def shifted(sign: str, left: Value, right: Value) -> Value:
    """A sum with a known number keeps its distance from the counter."""
    marks = left.marks | right.marks
    if sign in ("+", "-") and left.at is not None and right.number is not None:
        by = right.number if sign == "+" else -right.number
        return Value(marks, (left.at[0], left.at[1] + by))
    if sign == "+" and right.at is not None and left.number is not None:
        return Value(marks, (right.at[0], right.at[1] + left.number))
    return Value(marks)


def union(values: Sequence[Value]) -> Value:
    """A value that may be any of `values`, or was computed from all of them."""
    if len(values) == 1:
        return values[0]
    marks: Marks = frozenset().union(*(v.marks for v in values))
    roots = frozenset[Root]().union(*(v.roots for v in values))
    first = values[0] if values else UNKNOWN
    same = all((v.at, v.token) == (first.at, first.token) for v in values)
    return Value(marks, first.at if same else None, first.token if same else None, roots)
