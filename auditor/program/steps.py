"""A small form that Python, C and C++ functions are lowered to, for rules on loops over tokens.

It keeps what such a rule needs: names, members, elements, operators, calls, assignments, branches,
loops and exits, each with its line. Types, declarations without a value and pragmas are dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal; `value` is None where it is not a number or a text."""

    value: Any


@dataclass(frozen=True, slots=True)
class Name:
    """A variable."""

    id: str


@dataclass(frozen=True, slots=True)
class Member:
    """`base.name` or `base->name`."""

    base: "Expression"
    name: str


@dataclass(frozen=True, slots=True)
class Element:
    """`base[index]`; `*p` is `p[0]`."""

    base: "Expression"
    index: "Expression"


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator by its sign in C (`+`, `&&`, `?`, ...), or `[]` for a list or tuple.

    `**` is a power, `:` a slice (from, to), `&` with one operand an address, `||` and `&&` stand
    for `or` and `and`.
    """

    sign: str
    operands: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call. Keyword arguments follow the positional ones."""

    function: "Expression"
    arguments: tuple["Expression", ...]


Expression = Constant | Name | Member | Element | Operation | Call


@dataclass(frozen=True, slots=True)
class Assign:
    """`target = value`; `sign` is the operator of an augmented one, as in `+=`."""

    target: Expression
    value: Expression
    sign: str
    line: int


@dataclass(frozen=True, slots=True)
class Evaluate:
    """An expression for its effect."""

    value: Expression
    line: int


@dataclass(frozen=True, slots=True)
class Branch:
    """`if test: body else: other`."""

    test: Expression
    body: tuple["Step", ...]
    other: tuple["Step", ...]
    line: int


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop. `counter` runs over positions where it is known to count (`for i in range(n)`).

    `target` takes the elements of `over` otherwise. `test` is a `while`'s condition.
    """

    counter: Name | None
    target: Expression | None
    over: Expression | None
    test: Expression | None
    body: tuple["Step", ...]
    line: int


@dataclass(frozen=True, slots=True)
class Leave:
    """`return`, `break` or `continue`."""

    kind: str
    value: Expression | None
    line: int


Step = Assign | Evaluate | Branch | Loop | Leave


@dataclass(frozen=True, slots=True)
class Routine:
    """A function. `references` are the parameters that it can write through by their name.

    `locals` are the names that it declares, its parameters among them.
    """

    name: str
    parameters: tuple[str, ...]
    references: frozenset[str]
    locals: frozenset[str]
    body: tuple[Step, ...]
    path: str
    line: int


def parts(node: Expression | None) -> Iterator[Expression]:
    """An expression and all that it is made of."""
    waiting = [node] if node is not None else []
    while waiting:
        found = waiting.pop()
        yield found
        match found:
            case Member(base, _):
                waiting.append(base)
            case Element(base, index):
                waiting += [base, index]
            case Operation(_, operands):
                waiting += operands
            case Call(function, arguments):
                waiting += [function, *arguments]


def inner_steps(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Every step, those inside branches and loops included, in order."""
    for step in steps:
        yield step
        if isinstance(step, Branch):
            yield from inner_steps(step.body)
            yield from inner_steps(step.other)
        elif isinstance(step, Loop):
            yield from inner_steps(step.body)


def expressions(step: Step) -> tuple[Expression, ...]:
    """The expressions of a step itself, without those of steps inside it."""
    match step:
        case Assign(target, value):
            return target, value
        case Evaluate(value):
            return (value,)
        case Branch(test):
            return (test,)
        case Loop(_, target, over, test):
            return tuple(e for e in (target, over, test) if e is not None)
        case Leave(_, value):
            return (value,) if value is not None else ()
