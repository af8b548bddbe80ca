"""What library calls on containers, sequences and attributes mean."""

import ast
from typing import Any

from auditor.program.dataflow import arithmetic, library
from auditor.program.dataflow.arrays import Arguments, Arrays, Handler
from auditor.program.dataflow.expressions import length_of
from auditor.program.dataflow.heap import element, own, start_of
from auditor.program.dataflow.marks import CLOCK, EVERY, ZERO, Update
from auditor.program.dataflow.values import (
    NOTHING,
    Bound,
    Class,
    External,
    Function,
    Instance,
    Value,
    constant,
    join,
)


class Containers(Arrays):
    """Handlers of calls on containers."""

    def _container(self, call: Arguments) -> Value:
        kind = {"defaultdict": "dict", "deque": "list", "frozenset": "set"}.get(
            call.name, call.name
        )
        if call.values and kind != "dict":
            base = call.values[0]
            if start_of(base) is not None:
                return base
            made = self.collection(call.node, element(base), length_of(base))
            cell = made.cells()[0]
            cell.kind = kind
            cell.deps |= base.all_deps()
            return made.replace(mixed=base.mixed if kind != "tuple" else arithmetic.mix(base))
        cell = self.cell(kind, call.node)
        for value in call.values[:1]:
            for other in value.cells():
                cell.items.update(other.items)
                cell.rest = other.rest
                cell.deps |= other.deps
            for thing in value.objects:  # defaultdict(factory)
                if isinstance(thing, Function | Bound | External):
                    cell.rest = self.invoke(thing, [], {}, call.node)
        for key, value in call.named.items():
            cell.items[key] = value
            cell.absorb(value)
        return Value(objects=(cell,))

    def _append(self, call: Arguments) -> Value:
        base = call.get(0)
        item = call.get(len(call.values) - 1)
        cells = base.cells()
        if not cells:
            return self._in_place(call) if cells else NOTHING
        for cell in cells:
            held = [element(item)] if call.name in ("extend", "update") and item.cells() else [item]
            if cell.kind == "array" or call.name in ("add", "update"):
                tokens = item.tokens()
                cell.updates.append(Update(self.place(call.node), self.tick(), self.loops, tokens))
            for value in held:
                cell.absorb(value)
                if cell.owner is not None:
                    own(cell.owner, value)
                if (
                    cell.kind == "list"
                    and cell.rest is None
                    and len(self.loops) == len(cell.created)
                ):
                    cell.items[len(cell.items)] = value
                else:
                    cell.rest = value if cell.rest is None else join([cell.rest, value])
                    cell.length = None
        return NOTHING

    def _add(self, call: Arguments) -> Value:
        """`set.add(x)` or `torch.add(x, y)`."""
        base = call.get(0)
        if any(c.kind == "set" for c in base.cells()) or call.name == "update":
            return self._append(call)
        if len(call.values) < 2:
            return Value(base.all_deps())
        return arithmetic.binary(ast.Add, base, call.values[1], self.place(call.node))

    def _views(self, call: Arguments) -> Value:
        """`items`, `keys`, `values` of a dictionary."""
        base = call.get(0)
        held = element(base)
        if call.name == "values":
            return self.collection(call.node, held)
        names = {k for c in base.cells() for k in c.items}
        key = Value(const=next(iter(names))) if len(names) == 1 else Value(held.deps & frozenset())
        pair = key if call.name == "keys" else self.sequence(call.node, "tuple", [key, held])
        return self.collection(call.node, pair)

    def _range(self, call: Arguments) -> Value:
        bounds = call.values
        loops = frozenset().union(*(b.deps for b in bounds)) if bounds else frozenset()
        lower = bounds[0].affine() if len(bounds) > 1 else ZERO
        if call.name == "arange":
            return Value(loops | {EVERY} if lower == ZERO else loops, position=lower)
        consts = [b.const for b in bounds]
        length = None
        if consts and all(type(c) is int for c in consts):
            try:
                length = len(range(*consts))
            except (ValueError, OverflowError):
                length = None
        only = Value(loops, const=range(*consts)[0]) if length == 1 else Value(loops)
        return self.collection(call.node, only, length)

    def _zip(self, call: Arguments) -> Value:
        parts = [element(v) for v in call.values]
        if call.name == "enumerate":
            parts = [Value(), *parts[:1]]
        length = length_of(call.get(0))
        return self.collection(call.node, self.sequence(call.node, "tuple", parts), length)

    def _ordered(self, call: Arguments) -> Value:
        base = call.get(0)
        if not base.cells():
            return base
        return self.collection(call.node, element(base), length_of(base))

    def _field(self, call: Arguments) -> Value:
        """A dataclass's default, made once."""
        factory = call.named.get("default_factory")
        if factory is not None:
            return self.invoke(factory, [], {}, call.node)
        return call.named.get("default", NOTHING)

    def _take(self, call: Arguments) -> Value:
        """The next element: another one in each turn of the loops that the iterable outlives."""
        base = call.get(0)
        outlived = min((len(c.created) for c in base.cells()), default=0)
        return element(base).with_deps(self.loops[outlived:])

    def _size(self, call: Arguments) -> Value:
        base = call.get(0)
        length = length_of(base)
        if call.name == "len" and length is not None:
            return constant(length)
        return self.sizes(base)

    def _getattr(self, call: Arguments) -> Value:
        key = call.get(1).const
        if not isinstance(key, str):
            return NOTHING
        if call.name == "setattr":
            for thing in call.get(0).objects:
                if isinstance(thing, Instance | Class):
                    thing.attributes[key] = call.get(2)
            return NOTHING
        found = [
            v
            for thing in call.get(0).objects
            if (v := self._member(call.get(0), thing, key, call.node)) is not None
        ]
        if found:
            return join(found)
        return call.get(2) if len(call.values) > 2 else self.attribute(call.get(0), key, call.node)

    def _clone(self, call: Arguments) -> Value:
        """`copy.deepcopy`: what trains the copy leaves the original alone."""
        base = call.get(0)
        copies: list[Any] = []
        for thing in base.objects:
            if isinstance(thing, Instance):
                copy = self.instance(thing.cls, thing.kind, thing.parameters)
                copy.attributes = dict(thing.attributes)
                copy.trained = thing.root().trained
                for value in copy.attributes.values():
                    _disown(copy, value)
                thing = copy
            copies.append(thing)
        return base.replace(objects=tuple(copies))

    def _changed(self, call: Arguments) -> Value:
        """`batch._replace(logits=...)`: the same named tuple but for these members."""
        base = call.get(0)
        copies: list[Any] = []
        for thing in base.objects:
            if isinstance(thing, Instance):
                copy = self.instance(thing.cls, thing.kind, thing.parameters)
                copy.attributes = {**thing.attributes, **call.named}
                thing = copy
            copies.append(thing)
        return base.replace(objects=tuple(copies))

    def _layers(self, call: Arguments) -> Value:
        """`Sequential(...).parameters()`: those of its layers."""
        return call.get(0)

    def _forget(self, _: Arguments) -> Value:
        return NOTHING

    def _clock(self, _: Arguments) -> Value:
        return Value(frozenset((CLOCK,)))


def _disown(owner: Instance, value: Value) -> None:
    for thing in value.objects:
        if isinstance(thing, Instance):
            thing.owner = thing.owner or owner


_CONTAINERS = ("dict", "set", "frozenset", "defaultdict", "deque", "list", "tuple")
_FORGETTING = ("print", "isinstance", "hasattr", "type", "id", "zero_")
_CLOCKS = ("time", "perf_counter", "monotonic", "elapsed_time", "perf_counter_ns", "time_ns")
CONTAINER_HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(_CONTAINERS, Containers._container),
    **dict.fromkeys(("append", "extend", "appendleft", "insert"), Containers._append),
    **dict.fromkeys(("add", "update"), Containers._add),
    **dict.fromkeys(("items", "keys", "values"), Containers._views),
    **dict.fromkeys(("range", "arange"), Containers._range),
    **dict.fromkeys(("enumerate", "zip"), Containers._zip),
    **dict.fromkeys(("sorted", "reversed", "tqdm"), Containers._ordered),
    **dict.fromkeys(library.SHAPE, Containers._size),
    **dict.fromkeys(("getattr", "setattr"), Containers._getattr),
    **dict.fromkeys(_FORGETTING, Containers._forget),
    **dict.fromkeys(_CLOCKS, Containers._clock),
    **dict.fromkeys(("pop", "popleft", "popitem", "next", "get_nowait"), Containers._take),
    **dict.fromkeys(("parameters", "modules", "children"), Containers._layers),
    "len": Containers._size,
    "deepcopy": Containers._clone,
    "_replace": Containers._changed,
    "field": Containers._field,
}
