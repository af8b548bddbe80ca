"""Finds loops that decide by a property of token i what is emitted for position i.

A routine is walked once, with the routines that it calls. In one round of a loop over positions,
token i is whatever is read at i from a sequence that nothing writes; a trait is what a table that
nothing writes says of it. A gate is a trait that decides which way is taken. What is stored at i
is found if it comes from a memory that takes in token i afterwards, is no function of token i,
and yet depends on a gate by token i.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from auditor.program.dataflow.marks import Place
from auditor.program.steps import (
    Assign,
    Branch,
    Call,
    Constant,
    Element,
    Evaluate,
    Expression,
    Leave,
    Loop,
    Member,
    Name,
    Operation,
    Routine,
    Step,
    inner_steps,
)
from auditor.program.token_marks import (
    NONE,
    UNKNOWN,
    Gate,
    Marks,
    Memory,
    Root,
    Store,
    Token,
    Trait,
    Value,
    chosen,
    computed_from,
    deciding,
    shifted,
    union,
)

STEP_BUDGET = 30_000  # expressions of one walk
TOTAL_BUDGET = 300_000  # of all walks; the field's native helpers take about a thousand each
DEPTH_LIMIT = 8
Lookup = Callable[[str], Sequence[Routine]]
_CASTS = ("int", "uint", "float", "bool", "double", "str", "long", "short", "size_t", "item")
_GROWTH = ("append", "push_back", "emplace_back", "appendleft")
_CHANGES = (*_GROWTH, "add", "extend", "insert", "update", "push")


@dataclass(frozen=True)
class TokenGate:
    """A hint for a position, decided by a property of the very token at that position."""

    routine: Routine
    emitted: Place
    decided: Place


@dataclass
class _Frame:
    routine: Routine
    number: int
    aliases: dict[str, Root] = field(default_factory=dict)
    returned: list[Value] = field(default_factory=list)


class _BudgetError(Exception):
    pass


def token_gates(entries: Sequence[Routine], named: Lookup) -> list[TokenGate]:
    """The gates in `entries` and what they call; `named` finds routines by their last name."""
    found: dict[Place, TokenGate] = {}
    left = TOTAL_BUDGET
    for routine in entries:
        if left > 0 and any(isinstance(s, Loop) and _emits(s) for s in inner_steps(routine.body)):
            walk = _Walk(named)
            walk.enter(routine, [])
            left -= STEP_BUDGET - walk.budget
            for gate in walk.gates(routine):
                found.setdefault(gate.emitted, gate)
    return list(found.values())


def by_name(routines: Sequence[Routine]) -> Lookup:
    """Finds among these."""
    found: dict[str, list[Routine]] = {}
    for routine in routines:
        found.setdefault(routine.name, []).append(routine)
    return lambda name: found.get(name, ())


def _emits(loop: Loop) -> bool:
    """Whether each round may store something at one place of its own, or append and store."""
    inside = list(inner_steps(loop.body))
    stores = [s for s in inside if isinstance(s, Assign) and isinstance(s.target, Element)]
    placed = any(isinstance(s.target, Element) and _is_place(s.target.index) for s in stores)
    grows = any(isinstance(s, Evaluate) and _method(s.value) in _GROWTH for s in inside)
    over_positions = loop.counter is not None or loop.target is not None
    return over_positions and (placed or (grows and bool(stores)))


def _is_place(node: Expression) -> bool:
    """`i`, or `i` and a number."""
    match node:
        case Name():
            return True
        case Operation("+" | "-", (Name(), Constant())):
            return True
    return False


def _method(node: Expression) -> str:
    if isinstance(node, Call) and isinstance(node.function, Member):
        return node.function.name
    return ""


class _Walk:
    def __init__(self, named: Lookup) -> None:
        self.named = named
        self.memory: dict[Root, Value] = {}
        self.frames: list[_Frame] = []
        self.stores: list[Store] = []
        self.pc: Marks = NONE
        self.loops: list[int] = []
        self.emitting = 0  # loops around that emit; what is called outside of any is not entered
        self.counted = 0
        self.budget = STEP_BUDGET

    def enter(self, routine: Routine, given: list[Value]) -> Value:
        """Walks a routine; its result."""
        self.counted += 1
        frame = _Frame(routine, self.counted)
        parameters = routine.parameters
        if parameters[:1] in (("self",), ("cls",)) and len(given) < len(parameters):
            parameters = parameters[1:]
        for name, value in zip(parameters, given, strict=False):
            self.memory[("local", frame.number, name)] = value
            if name in routine.references and len(value.roots) == 1:
                (frame.aliases[name],) = value.roots
        outer = self.pc
        self.frames.append(frame)
        try:
            self.block(routine.body)
        except _BudgetError:
            if len(self.frames) > 1:
                raise
        finally:
            self.frames.pop()
            self.pc = outer
        return union(frame.returned)

    def block(self, steps: Iterable[Step]) -> tuple[Marks, Marks]:
        """Walks steps; the gates by which the rest of the loop, of the routine may be skipped."""
        outer = self.pc
        of_loop = of_routine = NONE
        for step in steps:
            left = _STEPS[type(step)](self, step)
            if left is not None:
                of_loop, of_routine = of_loop | left[0], of_routine | left[1]
                self.pc |= left[0] | left[1]
        self.pc = outer
        return of_loop, of_routine

    def _assign(self, step: Assign) -> None:
        value = self.eval(step.value, step.line)
        if step.sign:
            old = self.eval(step.target, step.line)
            value = shifted(step.sign, old, value)
        if isinstance(step.target, Element):
            index = self.eval(step.target.index, step.line)
            data = value.marks | index.marks
            self.store(self._targets(step.target.base), index.at, data, step.line)
            return
        for root in self.roots(step.target):
            self.stores.append(self._stored(root, None, value.marks, step.line))
            roots = value.roots if not step.sign else frozenset[Root]()
            marks = value.marks | self.pc
            self.memory[root] = Value(marks, value.at, value.token, roots, value.number)

    def _stored(self, root: Root, at: tuple[int, int] | None, data: Marks, line: int) -> Store:
        return Store(root, at, data, self.pc, self._place(line), len(self.stores))

    def _place(self, line: int) -> Place:
        return Place(self.frames[-1].routine.path, line)

    def store(
        self, roots: Iterable[Root], at: tuple[int, int] | None, data: Marks, line: int
    ) -> None:
        """Into elements of arrays or containers."""
        for root in roots:
            self.stores.append(self._stored(root, at, data, line))
            old = self.memory.get(root, UNKNOWN)
            self.memory[root] = Value(old.marks | data | self.pc, roots=old.roots)

    def _evaluate(self, step: Evaluate) -> None:
        self.eval(step.value, step.line)

    def _branch(self, step: Branch) -> tuple[Marks, Marks]:
        gates = deciding(self.eval(step.test, step.line).marks)
        outer, before = self.pc, dict(self.memory)
        self.pc |= gates
        left = self.block(step.body)
        after, self.memory = self.memory, before
        other = self.block(step.other)
        self.pc = outer
        for root, value in after.items():
            mine = self.memory.get(root)
            if mine is not value:
                self.memory[root] = value if mine is None else union([mine, value])
        return left[0] | other[0], left[1] | other[1]

    def _loop(self, step: Loop) -> tuple[Marks, Marks]:
        self.counted += 1
        loop = self.counted
        outer = self.pc
        for node in (step.over, step.test):
            if node is not None:
                self.pc |= deciding(self.eval(node, step.line).marks)
        here = (loop, 0)
        if step.counter is not None:
            for root in self.roots(step.counter):
                self.memory[root] = Value(at=here)
        elif step.target is not None and step.over is not None:
            element = self._element(step.over, Value(at=here), step.line)
            for root in self.roots(step.target):
                self.memory[root] = element
        emits = _emits(step)
        self.loops.append(loop)
        self.emitting += emits
        of_routine = self.block(step.body)[1]
        self.emitting -= emits
        self.loops.pop()
        self.pc = outer
        return NONE, of_routine

    def _leave(self, step: Leave) -> tuple[Marks, Marks]:
        if step.value is not None:
            value = self.eval(step.value, step.line)
            marks = value.marks | self.pc
            self.frames[-1].returned.append(
                Value(marks, value.at, value.token, value.roots, value.number)
            )
        return (NONE, self.pc) if step.kind == "return" else (self.pc, NONE)

    def roots(self, node: Expression) -> frozenset[Root]:
        """The variables that an expression stands for, as a place to store into."""
        match node:
            case Name(name):
                return frozenset((self._variable(name),))
            case Member(Name() | Member(), name):
                return frozenset((("member", name),))
            case Member(base, _):
                return self._targets(base)
            case Element(base, _):
                return self._targets(base)
            case Operation("[]", operands):
                return frozenset().union(*map(self.roots, operands)) if operands else frozenset()
        return frozenset()

    def _targets(self, node: Expression) -> frozenset[Root]:
        """What elements of `node` are elements of: what it refers to, or itself."""
        return self.eval(node, 0).roots or self.roots(node)

    def _variable(self, name: str) -> Root:
        for frame in reversed(self.frames):
            if name in frame.aliases:
                return frame.aliases[name]
            if name in frame.routine.locals:
                return ("local", frame.number, name)
        return ("member", name)

    def eval(self, node: Expression, line: int) -> Value:
        """The value of an expression."""
        self.budget -= 1
        if self.budget < 0:
            raise _BudgetError
        match node:
            case Constant(value):
                return Value(number=value if type(value) is int else None)
            case Name() | Member():
                return self._read(node)
            case Element(base, index):
                return self._element(base, self.eval(index, line), line)
            case Operation(sign, operands):
                return self._operate(sign, operands, line)
            case Call():
                return self._call(node, line)

    def _read(self, node: Name | Member) -> Value:
        held = []
        for root in self.roots(node):
            value = self.memory.get(root, UNKNOWN)
            marks = value.marks | ({Memory(root)} if root[0] == "member" else NONE)
            roots = value.roots or frozenset((root,))
            held.append(Value(marks, value.at, value.token, roots, value.number))
        return held[0] if len(held) == 1 else union(held)

    def _element(self, base: Expression, index: Value, line: int) -> Value:
        roots = self._targets(base)
        marks = index.marks - {index.token}
        for root in roots:
            marks |= self.memory.get(root, UNKNOWN).marks | {Memory(root)}
        token = None
        if len(roots) == 1:
            (root,) = roots
            if index.token is not None:
                marks |= {Trait(index.token, root, self._place(line))}
            if index.at is not None:
                token = Token(root, *index.at)
                marks |= {token}
        return Value(marks, index.at if token else None, token, roots)

    def _operate(self, sign: str, operands: tuple[Expression, ...], line: int) -> Value:
        values = [self.eval(o, line) for o in operands]
        if sign == "?":
            return chosen(values[0], values[1:])
        if sign == "&" and len(operands) == 1:  # an address
            return Value(values[0].marks, roots=self.roots(operands[0]))
        if len(values) == 2:
            return shifted(sign, *values)
        return Value(union(values).marks)

    def _call(self, node: Call, line: int) -> Value:
        values = [self.eval(a, line) for a in node.arguments]
        function = node.function
        name = function.name if isinstance(function, Member) else ""
        if isinstance(function, Name):
            name = function.id.rpartition("::")[2]
        own = self.named(name) if self.emitting else ()
        if own and len(self.frames) < DEPTH_LIMIT:
            walked = [f.routine for f in self.frames]
            return union([self.enter(r, values) for r in own[:4] if r not in walked])
        if name == "where" and len(values) == 3:
            return chosen(values[0], values[1:])
        if isinstance(function, Member) and not name.startswith(_CASTS):
            return self._method(function, values, line)
        if len(values) == 1 and name.startswith(_CASTS):
            return values[0]
        return Value(union(values).marks)

    def _method(self, function: Member, values: list[Value], line: int) -> Value:
        if function.name in ("get", "setdefault", "at", "find") and values:
            return self._element(function.base, values[0], line)
        if function.name in _CHANGES:
            at = (self.loops[-1], 0) if self.loops and function.name in _GROWTH else None
            self.store(self._targets(function.base), at, union(values).marks, line)
            return UNKNOWN
        base = self.eval(function.base, line)
        return Value(union([base, *values]).marks, roots=base.roots)

    def gates(self, routine: Routine) -> list[TokenGate]:
        """What the walk found."""
        written = {s.root for s in self.stores}
        found = []
        for store in self.stores:
            traits = {m.trait for m in store.data | store.gates if type(m) is Gate}
            found += [
                TokenGate(routine, store.place, trait.place)
                for trait in sorted(traits, key=lambda t: (t.place.path, t.place.line))
                if not {trait.table, trait.token.sequence} & written and self._tells(store, trait)
            ]
        return found

    def _tells(self, store: Store, trait: Trait) -> bool:
        """Whether what is stored for a position tells something of the token there, or later."""
        token = trait.token
        return (
            store.at is not None
            and token.loop == store.at[0]
            and token.offset >= store.at[1]
            and not computed_from(store.data, token)
            and self._learns(store, token)
        )

    def _learns(self, emitted: Store, token: Token) -> bool:
        """Whether a memory that the stored value was read from takes the token in afterwards."""
        read = {m.root for m in emitted.data if type(m) is Memory}
        return any(s.root in read and token in s.data for s in self.stores[emitted.order + 1 :])


_STEPS: dict[type[Any], Callable[[Any, Any], tuple[Marks, Marks] | None]] = {
    Assign: _Walk._assign,
    Evaluate: _Walk._evaluate,
    Branch: _Walk._branch,
    Loop: _Walk._loop,
    Leave: _Walk._leave,
}
