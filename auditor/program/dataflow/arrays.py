"""What library calls on arrays mean: losses, lookups, updates, gradients, files."""

import ast
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from auditor.program.dataflow import arithmetic, library
from auditor.program.dataflow.expressions import Expressions
from auditor.program.dataflow.heap import (
    Index,
    element,
    entries,
    instances,
    start_of,
    stored_in_model,
)
from auditor.program.dataflow.marks import (
    GRADIENT,
    STORED,
    ZERO,
    Source,
    Token,
    Train,
    affine_sum,
    holds,
    of_kind,
)
from auditor.program.dataflow.values import (
    NOTHING,
    UNSET,
    Value,
    all_marks,
    join,
    linear_of,
)

_OPERATORS: dict[str, type[ast.operator]] = {
    "sub": ast.Sub,
    "subtract": ast.Sub,
    "div": ast.Div,
    "divide": ast.Div,
    "true_divide": ast.Div,
    "mul": ast.Mult,
    "multiply": ast.Mult,
    "bitwise_xor": ast.BitXor,
    "bitwise_and": ast.BitAnd,
    "remainder": ast.Mod,
    "floor_divide": ast.FloorDiv,
}


@dataclass
class Arguments:
    """A library call by the last name of what is called; `self` is first if it was a method."""

    name: str
    node: ast.AST
    values: list[Value]
    named: dict[str, Value]

    def get(self, position: int, *names: str) -> Value:
        """One argument by position or name; nothing where it is missing."""
        for name in names:
            if name in self.named:
                return self.named[name]
        return self.values[position] if 0 <= position < len(self.values) else NOTHING

    def all(self) -> list[Value]:
        """Every argument."""
        return [*self.values, *self.named.values()]


Handler = Callable[[Any, Arguments], Value]


def keyed(keys: list[Value]) -> Index:
    """An index that was passed as arguments."""
    return Index(tuple(keys), ZERO, False, False)


class Arrays(Expressions):
    """Handlers of calls on arrays."""

    def _loss(self, call: Arguments) -> Value:
        model, label = call.get(0, "input"), call.get(1, "target")
        nll = self.score(call.node, model, label)
        linear = linear_of(model) | {nll}
        deps = arithmetic.normalised(model.all_deps()) | label.all_deps() | {nll}
        return Value(deps, linear=linear, origin=nll.place)

    def _lookup(self, call: Arguments) -> Value:
        base = call.get(0, "input")
        if call.name == "get":
            found = self.fetch(call.node, base, keyed([call.get(1)]))
            return join([found, call.get(2)]) if len(call.values) > 2 else found
        others = call.values[1:] + [v for n, v in call.named.items() if n != "input"]
        keys = [v for v in others if v.tokens()]
        if call.name == "embedding" and keys:
            base, keys = others[-1], [base]
        if keys or base.cells():
            return self.fetch(call.node, base, keyed(keys or others[-1:]))
        return Value(all_marks(call.values), linear=linear_of(base))

    def _extremum(self, call: Arguments) -> Value:
        """`minimum(a, b)`, `min(losses)`, `losses.amin(0)`: the smallest or largest of several."""
        options = [v for v in call.values if v.const is UNSET]
        if len(options) == 1:
            options = _terms(options[0]) or options
        deps = all_marks((*call.values, *options))
        linear = frozenset().union(self.choice(call.node, options), *map(linear_of, options))
        return Value(deps, linear=linear, mixed=call.get(0).mixed)

    def _softmax(self, call: Arguments) -> Value:
        base = call.get(0, "input")
        deps = base.all_deps().union(*(v.all_deps() for v in call.all()))
        return Value(arithmetic.normalised(deps), mixed=base.mixed)

    def _bounded(self, call: Arguments) -> Value:
        """`clamp`: tokens stay tokens."""
        base = call.get(0)
        if start_of(base) is not None:
            return base
        values = call.all()
        deps = frozenset().union(*(v.all_deps() for v in values))
        return Value(deps, linear=frozenset().union(*map(linear_of, values)), mixed=base.mixed)

    def _one_hot(self, call: Arguments) -> Value:
        key = call.get(0)
        return Value(key.all_deps() | entries(key), linear=linear_of(key))

    def _gathered(self, call: Arguments) -> Value:
        """`all_gather(parts, part)`: each rank's part, in the order of the ranks."""
        part = call.get(1, "tensor", "obj")
        for cell in call.get(0, "tensor_list", "object_list", "output_tensor").cells():
            for target in (cell, *(c for item in cell.items.values() for c in item.cells())):
                target.absorb(part)
            if cell.rest is not None:
                for target in cell.rest.cells():
                    target.absorb(part)
        return NOTHING

    def _histogram(self, call: Arguments) -> Value:
        """`bincount(keys)`: a table that takes in one for each key."""
        counted = call.get(0)
        cell = self.cell("array", call.node)
        made = Value(objects=(cell,))
        self.store(call.node, made, keyed([counted]), call.get(1, "weights"))
        return made

    def _scatter(self, call: Arguments) -> Value:
        base, others = call.get(0), call.values[1:]
        if not base.objects:
            told = frozenset().union(*map(entries, others))
            return self._in_place(replace(call, values=[base, *others, Value(told)]))
        keys = [v for v in others if v.tokens() or v.const is UNSET]
        self.store(call.node, base, keyed(keys[:1]), call.get(len(call.values) - 1))
        return base

    def _stack(self, call: Arguments) -> Value:
        first = call.get(0)
        terms = list(call.values) if call.name.startswith("logaddexp") else _terms(first)
        if call.name == "array" and len(terms) < 2:
            return self._tensor(call)
        marks = self.blend(call.node, terms)
        if call.name.startswith("logaddexp") and len(terms) == 2:
            marks |= arithmetic.unpicked(terms[0], terms[1], self.place(call.node))
        deps = first.all_deps().union(*(t.all_deps() for t in terms)) if terms else first.all_deps()
        linear = marks.union(*(linear_of(t) for t in terms)) if terms else linear_of(first)
        start = start_of(terms[0]) if terms else start_of(first)
        if start is not None:
            deps = frozenset(m for m in deps if type(m) is not Token or m.start == start)
        elif terms and any(start_of(t) is not None for t in terms[1:]):
            shift = Value()  # padded in front: another alignment, by an unknown amount
            other = next(s for t in terms[1:] if (s := start_of(t)) is not None)
            start = affine_sum(other, shift.affine(), -1)
            stream = of_kind(deps, Source)
            deps = frozenset(m for m in deps if type(m) is not Token) | {Token(stream, start)}
        return Value(
            deps, linear=linear, start=start, mixed=frozenset().union(*(t.mixed for t in terms))
        )

    def _shift(self, call: Arguments) -> Value:
        """`roll` and `pad` move tokens to later places."""
        base = call.get(0, "input")
        start = start_of(base)
        if start is None:
            return Value(base.all_deps(), linear=linear_of(base))
        amount = call.get(1, "shifts", "pad")
        steps = element(amount) if amount.cells() else amount
        by = steps if type(steps.const) is int else Value()
        if amount.cells() and 0 in amount.cells()[0].items:
            by = amount.cells()[0].items[0]
        moved = affine_sum(start, by.affine(), -1)
        deps = frozenset(m for m in base.all_deps() if type(m) is not Token)
        stream = of_kind(deps, Source)
        return Value(deps | {Token(stream, moved)}, start=moved)

    def _array(self, call: Arguments) -> Value:
        if call.name in ("bytearray", "ndarray"):
            for value in call.all():
                if holds(value.deps, Source):  # made over a buffer
                    return value
        cell = self.cell("array", call.node)
        objects: tuple[Any, ...] = (cell,)
        if call.named.get("requires_grad", NOTHING).const is True:
            objects = (cell, self.instance(None, "torch.Tensor"))
        if call.name.startswith("full"):
            cell.deps = all_marks(call.values[1:])
        return Value(objects=objects)

    def _tensor(self, call: Arguments) -> Value:
        """A list becomes an array; an array stays what it is."""
        base = call.get(0)
        if not any(c.kind != "array" for c in base.cells()):
            return base
        cell = self.cell("array", call.node)
        cell.absorb(base)
        return Value(objects=(cell,), mixed=base.mixed, start=start_of(element(base)))

    def _dunder(self, call: Arguments) -> Value:
        """An index in its spelling as a method: a lambda can store in no other way."""
        base, key = call.get(0), call.get(1)
        index = Index((key,), key.affine(), key.const is not UNSET, key.const is not UNSET)
        if call.name == "__getitem__":
            return self.fetch(call.node, base, index)
        self.store(call.node, base, index, call.get(2))
        return NOTHING

    def _leaf(self, call: Arguments) -> Value:
        """`t.requires_grad_()`: the tensor is a parameter of its own from here on."""
        base = call.get(0)
        return base.replace(objects=(*base.objects, self.instance(None, "torch.Tensor")))

    def _in_place(self, call: Arguments) -> Value:
        """`x.add_(y)`: `x` changes; a parameter that takes in a gradient is trained."""
        base, others = call.values[0], [*call.values[1:], *call.named.values()]
        if not base.objects and isinstance(call.node, ast.Call):
            base = base.with_deps(all_marks(others))
            if isinstance(call.node.func, ast.Attribute) and isinstance(
                call.node.func.value, ast.Name
            ):
                self.assign(call.node.func.value, base)
        owned = instances(base)
        for other in others:
            for cell in base.cells():
                held = owned or cell.owner is not None
                cell.absorb(stored_in_model(other) if held else other)
            deps = other.all_deps()
            if GRADIENT in deps:
                self.train(call.node, owned, deps)
        if call.name == "copy_" and others:
            trained = of_kind(others[0].all_deps(), Train)
            for instance in owned:
                self.weigh(instance.root(), instance.root().trained | trained)
        return base

    def _read(self, call: Arguments) -> Value:
        # A file may say something else each time round: counters that ranks share are files.
        deps = self.disk.union(self.loops, *(v.all_deps() for v in call.all()))
        if not holds(deps, Source):
            return Value(deps | {STORED})
        return Value(deps, start=ZERO)

    def _write(self, call: Arguments) -> Value:
        for value in call.all():
            self.write_disk(call.node, value)
        return NOTHING

    def _gradient(self, call: Arguments) -> Value:
        base = call.get(0)
        if call.name == "backward":
            self.backward(base.all_deps())
            return NOTHING
        return Value(base.all_deps() | {GRADIENT})

    def _bits(self, call: Arguments) -> Value:
        base = call.get(0)
        self.report(call.node, base)
        return Value(base.all_deps(), linear=linear_of(base))

    def _operate(self, call: Arguments) -> Value:
        """An operator in its spelling as a function: `torch.bitwise_xor(a, b)`."""
        if len(call.values) < 2:
            return Value(call.get(0).all_deps())
        kind = _OPERATORS[call.name]
        return self.operate(call.node, kind, call.values[0], call.values[1])


def _terms(value: Value) -> list[Value]:
    """The things put side by side: a list's items."""
    terms: list[Value] = []
    for cell in value.cells():
        if cell.kind != "array":
            terms += [*cell.items.values(), *((cell.rest,) if cell.rest else ())]
    return terms


ARRAY_HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(library.LOSS, Arrays._loss),
    **dict.fromkeys(library.LOOKUP, Arrays._lookup),
    **dict.fromkeys(library.SCATTER, Arrays._scatter),
    **dict.fromkeys(library.STACK, Arrays._stack),
    **dict.fromkeys(library.ARRAY, Arrays._array),
    **dict.fromkeys(library.READS, Arrays._read),
    **dict.fromkeys(library.WRITES, Arrays._write),
    **dict.fromkeys(_OPERATORS, Arrays._operate),
    **dict.fromkeys(library.EXTREMUM, Arrays._extremum),
    **dict.fromkeys(("roll", "pad"), Arrays._shift),
    **dict.fromkeys(("tensor", "as_tensor", "asarray", "ascontiguousarray"), Arrays._tensor),
    **dict.fromkeys(("backward", "grad"), Arrays._gradient),
    **dict.fromkeys(("softmax", "log_softmax"), Arrays._softmax),
    "one_hot": Arrays._one_hot,
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max"), Arrays._bounded),
    **dict.fromkeys(library.GATHERING, Arrays._gathered),
    **dict.fromkeys(("__getitem__", "__setitem__"), Arrays._dunder),
    "requires_grad_": Arrays._leaf,
    "log2": Arrays._bits,
    "bincount": Arrays._histogram,
}
