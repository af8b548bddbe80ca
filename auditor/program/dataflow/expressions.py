"""Evaluates expressions. Statements and calls are in `interpreter.py` and `calls.py`."""

import ast
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from auditor.program.dataflow import arithmetic
from auditor.program.dataflow.access import Access, sources_of
from auditor.program.dataflow.heap import Index, element, entries, instances
from auditor.program.dataflow.machine import outcomes
from auditor.program.dataflow.marks import (
    BITS,
    CLOCK,
    EVERY,
    MODEL,
    ZERO,
    Affine,
    Choice,
    Computed,
    Deadline,
    Loop,
    Threshold,
)
from auditor.program.dataflow.values import (
    NOTHING,
    UNSET,
    Bound,
    Cell,
    Class,
    External,
    Function,
    Instance,
    ModuleObject,
    Scope,
    Value,
    join,
)

_LN2 = math.log(2.0)
_BITS = (_LN2, 1 / _LN2)


def computed(name: str, values: list[Value]) -> Affine:
    """The position that `name` makes of `values`: the same wherever it is computed."""
    deps = frozenset().union(*(v.deps for v in values))
    return frozenset(((Computed(name, tuple(v.affine() for v in values), deps), 1),)), 0


def is_bit_factor(value: Value) -> bool:
    """Whether it turns nats into bits: ln 2, its inverse, or a multiple of it."""
    if type(value.const) is float and any(abs(value.const - b) < 1e-3 for b in _BITS):
        return True
    return BITS in value.deps


class Expressions(Access):
    """Evaluation of expressions in a chain of scopes."""

    scopes: tuple[Scope, ...]

    @abstractmethod
    def call(self, node: ast.Call) -> Value:
        """A call."""

    @abstractmethod
    def assign(self, target: ast.expr, value: Value) -> None:
        """Binds a target."""

    @abstractmethod
    def function(self, node: ast.Lambda) -> Value:
        """A function value with its defaults."""

    def eval(self, node: ast.expr) -> Value:
        """The abstract value of an expression."""
        self.steps += 1
        if self.steps > self.budget:
            self.exhausted()
        if isinstance(node, ast.Name):  # every other expression is one: no call for it
            name = node.id
            for scope in self.scopes:
                if name in scope:
                    return scope[name]
            return Value(objects=(External(name),))
        handler = _HANDLERS.get(type(node))
        return handler(self, node) if handler is not None else NOTHING

    def _constant(self, node: ast.Constant) -> Value:
        value = node.value
        if type(value) is str:
            return Value(sources_of(value), const=value)
        return Value(const=value)

    def _joined(self, node: ast.JoinedStr) -> Value:
        text, known, deps, parts = "", True, frozenset[Any](), []
        for part in node.values:
            value = self.eval(part.value if isinstance(part, ast.FormattedValue) else part)
            parts.append(value)
            deps |= value.all_deps()
            simple = isinstance(part, ast.Constant) or (
                isinstance(part, ast.FormattedValue) and part.format_spec is None
            )
            if value.const is not UNSET and simple:
                text += str(value.const)
            else:
                known, text = False, text + "{}"
        return Value(
            deps | sources_of(text), const=text if known else UNSET, mixed=arithmetic.mix(*parts)
        )

    def _binary(self, node: ast.BinOp) -> Value:
        left, right = self.eval(node.left), self.eval(node.right)
        kind = type(node.op)
        for operand, other in ((left, right), (right, left)):
            method = operator_method(operand, kind)
            if method is not None:
                return self.invoke(method, [operand, other], {}, node)
        if kind in (ast.Add, ast.Mult) and _is_list(left):
            return self._extended(node, left, right, kind)
        result = self.operate(node, kind, left, right)
        if kind is ast.Add and MODEL in result.deps:
            self.trace.sums.add(node)
        return result

    def operate(self, node: ast.AST, kind: type[ast.operator], left: Value, right: Value) -> Value:
        """`left OP right`; a loss over ln 2, or over a multiple of it, is reported."""
        result = arithmetic.binary(kind, left, right, self.place(node))
        if kind is ast.Div or kind is ast.Mult:
            for factor, other in ((right, left), (left, right)):
                if is_bit_factor(factor):
                    if not self.report(node, other):
                        return result.with_deps((BITS,))
                    break
        return result

    def _extended(
        self, node: ast.BinOp, left: Value, right: Value, kind: type[ast.operator]
    ) -> Value:
        """`list + list` and `list * n`."""
        items = [c.element() for c in left.cells()]
        if kind is ast.Add:
            items += [c.element() for c in right.cells()]
        result = self.collection(node, join(items))
        if kind is ast.Add and any(c.kind == "tuple" for c in left.cells()):
            for cell in result.cells():  # a key put together from pieces
                cell.deps |= left.all_deps() | right.all_deps()
        return result.replace(mixed=arithmetic.mix(left, right))

    def _boolean(self, node: ast.BoolOp) -> Value:
        values: list[Value] = []
        for operand in node.values:
            value = self.eval(operand)
            truth = self.truth(value)
            if truth is not None and truth is isinstance(node.op, ast.Or):
                return value if not values or truth is False else join([*values, value])
            if truth is None:
                values.append(value)
        if not values:
            return value
        return join([*values, value]) if value is not values[-1] else join(values)

    def truth(self, value: Value) -> bool | None:
        """True or False where it is known."""
        if value.const is not UNSET:
            return bool(value.const)
        if value.objects and all(
            isinstance(o, Function | Bound | Class | Instance | ModuleObject) for o in value.objects
        ):
            return True
        return None

    def _unary(self, node: ast.UnaryOp) -> Value:
        return arithmetic.unary(type(node.op), self.eval(node.operand))

    def _compare(self, node: ast.Compare) -> Value:
        values = [self.eval(node.left), *map(self.eval, node.comparators)]
        ordering = any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops)
        if ordering:
            self._deadline(node, values)
        marks = self.choice(node, values) if ordering else self.match(node, values)
        if ordering:
            marks = marks or self.threshold(node, values)
        elif any(EVERY in v.deps for v in values):
            marks = marks.union(*map(entries, values))
        return arithmetic.compare(node.ops, values, marks)

    def _deadline(self, node: ast.Compare, values: list[Value]) -> None:
        """Notes a comparison of the time of day with a constant."""
        for clock, limit in zip((values[0], values[-1]), (values[-1], values[0]), strict=True):
            if CLOCK in clock.deps and isinstance(limit.const, int | float):
                found = Deadline(self.place(node), self.tick(), float(limit.const))
                self.trace.deadlines.append(found)

    def _conditional(self, node: ast.IfExp) -> Value:
        test = self.eval(node.test)
        truth = self.truth(test)
        if truth is not None:
            return self.eval(node.body if truth else node.orelse)
        ways = [self.eval(node.body), self.eval(node.orelse)]
        either = join(ways)
        if choices(test):
            return swayed(either, choices(test))
        return either if either.objects else either.replace(position=computed("if", ways))

    def _sequence(self, node: ast.Tuple | ast.List | ast.Set) -> Value:
        kind = type(node).__name__.lower()
        items: list[Value] = []
        rest: list[Value] = []
        for item in node.elts:
            if isinstance(item, ast.Starred):
                rest.append(element(self.eval(item.value)))
            else:
                items.append(self.eval(item))
        value = self.sequence(node, kind, items)
        cell = value.cells()[0]
        if rest:
            cell.rest, cell.length = join(rest), None
            cell.absorb(cell.rest)
        if kind == "tuple":
            value = value.replace(mixed=arithmetic.mix(*items, *rest))
        return value

    def _dict(self, node: ast.Dict) -> Value:
        cell = self.cell("dict", node)
        value = Value(objects=(cell,))
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                for other in self.eval(item).cells():
                    cell.items.update(other.items)
                    cell.rest = other.rest or cell.rest
                continue
            held = self.eval(item)
            self.store(node, value, Index((self.eval(key),), ZERO, True, True), held)
        return value

    def _subscript(self, node: ast.Subscript) -> Value:
        base = self.eval(node.value)
        index = self.index(node.slice)
        for thing in base.objects:
            if isinstance(thing, External) and thing.name == "os.environ":
                return self.environ(index.value(), None)
            if isinstance(thing, Instance) and thing.cls is not None:
                method = thing.cls.find("__getitem__")
                if method is not None:
                    return self.invoke(method, [base, index.value()], {}, node)
        return self.fetch(node, base, index)

    def _attribute(self, node: ast.Attribute) -> Value:
        return self.attribute(self.eval(node.value), node.attr, node)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> Value:
        scope = Scope()
        with self.within(scope):
            entered = self.loops
            length: int | None = None
            for generator in node.generators:
                iterable = self.eval(generator.iter)
                length = length_of(iterable) if not generator.ifs else None
                loop = Loop(self.place(node), length is not None and length <= 1)
                self.loops = (*self.loops, loop)
                self.assign(generator.target, element(iterable).with_deps((loop,)))
                for test in generator.ifs:
                    self.eval(test)
            if isinstance(node, ast.DictComp):
                key, item = self.eval(node.key), self.eval(node.value)
            else:
                key, item = NOTHING, self.eval(node.elt)
            self.loops = entered
        result = self.collection(node, item, length if len(node.generators) == 1 else None)
        cell = result.cells()[0]
        cell.kind = {ast.SetComp: "set", ast.DictComp: "dict"}.get(type(node), "list")
        if isinstance(node, ast.SetComp) or cell.kind == "dict":
            cell.deps |= key.all_deps()
        return result.replace(mixed=item.mixed | key.mixed, linear=item.linear)

    @contextmanager
    def within(self, scope: Scope) -> Iterator[None]:
        """Evaluates in an inner scope."""
        outer = self.scopes
        self.scopes = (scope, *outer)
        try:
            yield
        finally:
            self.scopes = outer

    def _named(self, node: ast.NamedExpr) -> Value:
        value = self.eval(node.value)
        self.assign(node.target, value)
        return value

    def _lambda(self, node: ast.Lambda) -> Value:
        return self.function(node)

    def _starred(self, node: ast.Starred | ast.Await | ast.YieldFrom) -> Value:
        return self.eval(node.value)

    def _yield(self, node: ast.Yield) -> Value:
        if node.value is not None:
            self.yielded(self.eval(node.value))
        return NOTHING

    def yielded(self, value: Value) -> None:
        """A generator hands out `value`."""
        raise NotImplementedError

    def exhausted(self) -> None:
        """The budget is spent."""
        raise NotImplementedError

    def _call(self, node: ast.Call) -> Value:
        return self.call(node)


def _is_list(value: Value) -> bool:
    return bool(value.objects) and all(
        isinstance(o, Cell) and o.kind in ("list", "tuple") for o in value.objects
    )


def operator_method(value: Value, kind: type[ast.operator]) -> Value | None:
    """The script's own method behind an operator on one of its instances, if it has one."""
    name = {ast.Add: "__add__", ast.Sub: "__sub__", ast.Div: "__truediv__"}.get(kind)
    if name is None:
        return None
    for thing in value.objects:
        if isinstance(thing, Instance) and thing.cls is not None:
            return thing.cls.find(name)
    return None


def length_of(value: Value) -> int | None:
    """The number of elements, where it is known."""
    cells = [o for o in value.objects if isinstance(o, Cell)]
    return cells[0].length if len(cells) == 1 and len(value.objects) == 1 else None


def choices(test: Value) -> frozenset[Choice | Threshold]:
    """The comparisons of losses that a test is made of."""
    return frozenset(m for m in test.deps if type(m) in (Choice, Threshold))


def swayed(value: Value, by: frozenset[Choice | Threshold]) -> Value:
    """What is bound where tests of losses led."""
    marks = outcomes(by, value.all_deps())
    return value.with_deps(marks) if marks else value


def parameters_of(values: list[Value]) -> frozenset[Instance]:
    """The instances whose parameters are among `values`."""
    return frozenset().union(*(instances(v) for v in values))


_HANDLERS: dict[type[ast.expr], Callable[[Any, Any], Value]] = {
    ast.Constant: Expressions._constant,
    ast.JoinedStr: Expressions._joined,
    ast.BinOp: Expressions._binary,
    ast.BoolOp: Expressions._boolean,
    ast.UnaryOp: Expressions._unary,
    ast.Compare: Expressions._compare,
    ast.IfExp: Expressions._conditional,
    ast.Tuple: Expressions._sequence,
    ast.List: Expressions._sequence,
    ast.Set: Expressions._sequence,
    ast.Dict: Expressions._dict,
    ast.Subscript: Expressions._subscript,
    ast.Attribute: Expressions._attribute,
    ast.ListComp: Expressions._comprehension,
    ast.SetComp: Expressions._comprehension,
    ast.GeneratorExp: Expressions._comprehension,
    ast.DictComp: Expressions._comprehension,
    ast.NamedExpr: Expressions._named,
    ast.Lambda: Expressions._lambda,
    ast.Starred: Expressions._starred,
    ast.Await: Expressions._starred,
    ast.YieldFrom: Expressions._starred,
    ast.Yield: Expressions._yield,
    ast.Call: Expressions._call,
}
