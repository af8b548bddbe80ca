"""Calls: the script's own functions and classes, and what library calls mean."""

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from auditor.program.dataflow import arithmetic, library
from auditor.program.dataflow.expressions import Expressions, length_of, parameters_of
from auditor.program.dataflow.heap import Index, element, instances, own, start_of
from auditor.program.dataflow.marks import (
    GRADIENT,
    MODEL,
    ZERO,
    Nll,
    Source,
    Token,
    Train,
    Update,
    affine_sum,
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
    Value,
    constant,
    join,
    linear_of,
)

_FOLDED: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "abs": abs,
    "round": round,
    "math.log": math.log,
    "math.log2": math.log2,
    "math.exp": math.exp,
    "math.sqrt": math.sqrt,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "numpy.log": math.log,
    "numpy.log2": math.log2,
    "min": min,
    "max": max,
    "len": len,
}
_STRING = {"lower", "upper", "strip", "split", "startswith", "endswith", "replace", "isdigit"}
_CONTAINERS = ("ModuleList", "ModuleDict", "ParameterList", "Sequential", "ParameterDict")


@dataclass
class Arguments:
    """The arguments of a library call; `self` first if it was a method."""

    node: ast.AST
    values: list[Value]
    named: dict[str, Value]

    def get(self, position: int, *names: str) -> Value:
        """One argument by position or name; nothing where it is missing."""
        for name in names:
            if name in self.named:
                return self.named[name]
        return self.values[position] if position < len(self.values) else NOTHING

    def all(self) -> list[Value]:
        """Every argument."""
        return [*self.values, *self.named.values()]


class Calls(Expressions):
    """Dispatch of calls, and library semantics by the last name of what is called."""

    def call(self, node: ast.Call) -> Value:
        """Evaluates the callee, the arguments, then what the call does."""
        method = None
        if isinstance(node.func, ast.Attribute):
            base = self.eval(node.func.value)
            if _is_super(node.func.value):
                return self._super(node)
            method = (base, node.func.attr)
            callee = self._callee(base, node.func)
        else:
            callee = self.eval(node.func)
        args, named = self._arguments(node)
        results = [
            self.invoke(thing, args, named, node)
            for thing in callee.objects
            if isinstance(thing, Function | Bound | Class | External)
            or (isinstance(thing, Instance) and method is None)
            or (isinstance(thing, Instance) and thing not in method[0].objects)
        ]
        if results:
            return join(results)
        if method is not None:
            return self.library(method[1], Arguments(node, [method[0], *args], named))
        return self._opaque(callee, args, named)

    def _callee(self, base: Value, node: ast.Attribute) -> Value:
        found = [
            value
            for thing in base.objects
            if not isinstance(thing, Cell)
            and (value := self._member(base, thing, node.attr, node)) is not None
        ]
        return join(found) if found else NOTHING

    def _super(self, node: ast.Call) -> Value:
        """`super().method(...)`: the bases' own, if the script has it."""
        args, named = self._arguments(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        this = self.scopes[0].get("self", NOTHING)
        for thing in this.objects:
            if isinstance(thing, Instance) and thing.cls is not None:
                for base in thing.cls.bases:
                    if (method := base.find(name)) is not None:
                        return join(
                            [self.invoke(f, [this, *args], named, node) for f in method.objects]
                            or [NOTHING]
                        )
                thing.parameters |= parameters_of([*args, *named.values()])
        return Value(frozenset().union(*(a.all_deps() for a in args)))

    def _arguments(self, node: ast.Call) -> tuple[list[Value], dict[str, Value]]:
        args: list[Value] = []
        for arg in node.args:
            if isinstance(arg, ast.Starred):
                value = self.eval(arg.value)
                cells = [c for c in value.cells() if c.rest is None and c.kind != "array"]
                args += list(cells[0].items.values()) if cells else [element(value)]
            else:
                args.append(self.eval(arg))
        named: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.eval(keyword.value)
            if keyword.arg is not None:
                named[keyword.arg] = value
                continue
            for cell in value.cells():
                named.update({k: v for k, v in cell.items.items() if isinstance(k, str)})
        return args, named

    def _opaque(self, callee: Value, args: list[Value], named: dict[str, Value]) -> Value:
        values = [callee, *args, *named.values()]
        return Value(frozenset().union(*(v.all_deps() for v in values)))

    def external(
        self, name: str, args: list[Value], named: dict[str, Value], node: ast.AST
    ) -> Value:
        """A call of something of a library, by dotted name."""
        last = name.rpartition(".")[2]
        if name in _FOLDED and args and not named and all(a.const is not UNSET for a in args):
            try:
                folded = _FOLDED[name](*(a.const for a in args))
            except (TypeError, ValueError, ArithmeticError):
                return NOTHING
            return Value(args[0].deps, const=folded)
        if name in ("os.environ.get", "os.getenv"):
            return self.environ(
                args[0] if args else NOTHING, args[1] if len(args) > 1 else constant(None)
            )
        if name == "os.environ.setdefault" and len(args) == 2 and isinstance(args[0].const, str):
            self.environment = {args[0].const: str(args[1].const), **self.environment}
            return NOTHING
        if name.endswith(".at") and args:  # numpy.add.at
            self.store(node, args[0], _keyed(args[1:2]), args[-1])
            return NOTHING
        if last[:1].isupper() and last not in library.SAME and not last.isupper():
            return self._construct(name, last, args, named, node)
        return self.library(last, Arguments(node, args, named))

    def _construct(
        self, name: str, last: str, args: list[Value], named: dict[str, Value], node: ast.AST
    ) -> Value:
        """A library's class is called; capital letters are the libraries' convention."""
        values = [*args, *named.values()]
        if last in _CONTAINERS:
            if len(args) == 1 and args[0].cells():
                return args[0]
            return self.sequence(node, "dict" if last.endswith("Dict") else "list", args)
        if last in (
            "Path",
            "PurePath",
            "Counter",
            "OrderedDict",
            "DistributedDataParallel",
            "DataParallel",
        ):
            if args and last not in ("Counter", "OrderedDict"):
                return args[0]
            return Value(objects=(self.cell("dict", node),))
        instance = Instance(None, name, parameters_of(values), self.loops)
        instance.attributes.update(named)
        deps = frozenset().union(*(v.all_deps() for v in values))
        sources = frozenset(m for m in deps if type(m) is Source)
        if last == "Parameter":
            cell = self.cell("array", node)
            return Value(objects=(cell, instance))
        return Value(sources, objects=(instance,))

    def library(self, name: str, call: Arguments) -> Value:
        """A library function or method by its last name."""
        base = call.get(0)
        for thing in base.objects:
            if isinstance(thing, Instance):
                found = self._on_instance(name, thing, call)
                if found is not None:
                    return found
        handler = _LIBRARY.get(name)
        if handler is not None:
            return handler(self, name, call)
        if base.const is not UNSET and isinstance(base.const, str) and name in _STRING:
            return self._string(name, call)
        values = call.all()
        for value in values:
            for thing in value.objects:
                if isinstance(thing, Function | Bound):
                    return self._higher_order(name, thing, value, call)
        if name in library.SAME or name.endswith("_"):
            return base if not name.endswith("_") else self._in_place(name, call)
        deps = frozenset().union(*(v.all_deps() for v in values))
        linear = (
            frozenset().union(*map(linear_of, values)) if name in library.LINEAR else frozenset()
        )
        mixed = arithmetic.mix(*values) if name in library.HASHES else base.mixed
        return Value(deps, linear=linear, mixed=mixed)

    def _on_instance(self, name: str, thing: Instance, call: Arguments) -> Value | None:
        """Methods of modules and optimizers that no class of the script defines."""
        base, node = call.values[0], call.node
        if name == "step":
            self.step(node, thing.parameters | instances(base))
            return NOTHING
        if name in (
            "parameters",
            "named_parameters",
            "modules",
            "named_modules",
            "buffers",
            "children",
        ):
            own_value = Value(objects=(thing,))
            if name.startswith("named"):
                return self.collection(node, self.sequence(node, "tuple", [NOTHING, own_value]))
            return self.collection(node, own_value)
        if name == "state_dict":
            return Value(base.deps | thing.root().trained | {MODEL})
        if name == "load_state_dict":
            deps = call.get(1, "state_dict").all_deps()
            thing.root().trained = frozenset(m for m in deps if type(m) is Train)
            return NOTHING
        if name == "zero_grad":
            self.stale = True
            return NOTHING
        if name in ("add_module", "register_module", "register_parameter", "register_buffer"):
            key = call.get(1).const
            if isinstance(key, str):
                thing.attributes[key] = call.get(2)
                own(thing, call.get(2))
            return NOTHING
        if name in (
            "train",
            "eval",
            "requires_grad_",
            "to",
            "cuda",
            "float",
            "half",
            "bfloat16",
            "double",
            "cpu",
            "compile",
        ):
            return base
        if name in ("copy_", "add_", "sub_", "addcdiv_", "add", "lerp_"):
            return self._in_place(name, call)
        return None

    def _string(self, name: str, call: Arguments) -> Value:
        base = call.get(0)
        consts = [v.const for v in call.values[1:]]
        if any(c is UNSET for c in consts):
            return Value(base.deps)
        try:
            result = getattr(base.const, name)(*consts)
        except (TypeError, ValueError):
            return NOTHING
        if isinstance(result, list):
            return self.sequence(call.node, "list", [Value(base.deps, const=r) for r in result])
        return Value(base.deps, const=result)

    def _higher_order(self, name: str, thing: Any, value: Value, call: Arguments) -> Value:
        """A function is passed to a library: wrapped and handed back, or applied to the rest."""
        rest = [v for v in call.values if v is not value]
        if name == "partial":
            return Value(objects=(Bound(thing, tuple(rest), call.named),))
        if name in ("map", "imap", "starmap", "filter"):
            args = [element(v) for v in rest if not isinstance(v.const, int)]
            return self.collection(call.node, self.invoke(thing, args, {}, call.node))
        if name in ("submit", "apply", "apply_async", "call", "run", "checkpoint"):
            return self.invoke(thing, rest[1:] if name != "checkpoint" else rest, {}, call.node)
        return value

    def _in_place(self, name: str, call: Arguments) -> Value:
        """`x.add_(y)`: `x` changes; a parameter that takes in a gradient is trained."""
        base, others = call.values[0], [*call.values[1:], *call.named.values()]
        if not base.objects and isinstance(call.node, ast.Call):
            base = base.with_deps(frozenset().union(*(o.all_deps() for o in others)))
            if isinstance(call.node.func, ast.Attribute) and isinstance(
                call.node.func.value, ast.Name
            ):
                self.assign(call.node.func.value, base)
        for other in others:
            for cell in base.cells():
                cell.absorb(other)
            deps = other.all_deps()
            if GRADIENT in deps:
                self.train(call.node, instances(base), deps)
        if name == "copy_" and others:
            held = instances(base)
            trained = frozenset(m for m in others[0].all_deps() if type(m) is Train)
            for instance in held:
                instance.root().trained |= trained
        return base

    # -- losses and tables ------------------------------------------------------------------

    def _loss(self, name: str, call: Arguments) -> Value:
        model, label = call.get(0, "input"), call.get(1, "target")
        nll = self.score(call.node, model, label)
        linear = linear_of(model)
        return Value(model.all_deps() | label.all_deps() | {nll}, linear=linear, origin=nll.place)

    def _lookup(self, name: str, call: Arguments) -> Value:
        base = call.get(0, "input")
        if name == "get":
            found = self.fetch(call.node, base, _keyed([call.get(1)]))
            return join([found, call.get(2)]) if len(call.values) > 2 else found
        others = call.values[1:] + [v for n, v in call.named.items() if n != "input"]
        keys = [v for v in others if v.tokens()]
        if name == "embedding" and keys:
            base, keys = others[-1], [base]
        if keys or base.cells():
            return self.fetch(call.node, base, _keyed(keys or others[-1:]))
        return Value(
            frozenset().union(*(v.all_deps() for v in call.values)), linear=linear_of(base)
        )

    def _scatter(self, name: str, call: Arguments) -> Value:
        base, others = call.get(0), call.values[1:]
        keys = [v for v in others if v.tokens() or v.const is UNSET]
        self.store(call.node, base, _keyed(keys[:1]), call.get(len(call.values) - 1))
        return base

    def _stack(self, name: str, call: Arguments) -> Value:
        first = call.get(0)
        terms = list(call.values) if name.startswith("logaddexp") else _terms(first)
        if name == "array" and not (len(terms) > 1):
            return first
        marks = self.blend(call.node, terms)
        deps = first.all_deps().union(*(t.all_deps() for t in terms)) if terms else first.all_deps()
        linear = marks.union(*(linear_of(t) for t in terms)) if terms else linear_of(first)
        start = start_of(terms[0]) if terms else start_of(first)
        if start is not None:
            deps = frozenset(m for m in deps if type(m) is not Token or m.start == start)
        elif terms and any(start_of(t) is not None for t in terms[1:]):
            shift = Value()  # padded in front: another alignment, by an unknown amount
            other = next(s for t in terms[1:] if (s := start_of(t)) is not None)
            start = affine_sum(other, shift.affine(), -1)
            stream = frozenset(m for m in deps if type(m) is Source)
            deps = frozenset(m for m in deps if type(m) is not Token) | {Token(stream, start)}
        return Value(
            deps, linear=linear, start=start, mixed=frozenset().union(*(t.mixed for t in terms))
        )

    def _shift(self, name: str, call: Arguments) -> Value:
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
        stream = frozenset(m for m in deps if type(m) is Source)
        return Value(deps | {Token(stream, moved)}, start=moved)

    # -- arrays, containers, files ------------------------------------------------------------

    def _array(self, name: str, call: Arguments) -> Value:
        cell = self.cell("array", call.node)
        objects: tuple[Any, ...] = (cell,)
        if call.named.get("requires_grad", NOTHING).const is True:
            objects = (cell, Instance(None, "torch.Tensor", frozenset(), self.loops))
        if name.startswith("full"):
            cell.deps = frozenset().union(*(v.all_deps() for v in call.values[1:]))
        return Value(objects=objects)

    def _leaf(self, name: str, call: Arguments) -> Value:
        """`t.requires_grad_()`: the tensor is a parameter of its own from here on."""
        base = call.get(0)
        return base.replace(
            objects=(*base.objects, Instance(None, "torch.Tensor", frozenset(), self.loops))
        )

    def _container(self, name: str, call: Arguments) -> Value:
        kind = {"defaultdict": "dict", "deque": "list", "frozenset": "set"}.get(name, name)
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

    def _append(self, name: str, call: Arguments) -> Value:
        base = call.get(0)
        item = call.get(len(call.values) - 1)
        cells = base.cells()
        if not cells:
            return self._in_place(name, call) if cells else NOTHING
        for cell in cells:
            held = [element(item)] if name in ("extend", "update") and item.cells() else [item]
            if cell.kind == "array" or name in ("add", "update"):
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

    def _add(self, name: str, call: Arguments) -> Value:
        """`set.add(x)` or `torch.add(x, y)`."""
        base = call.get(0)
        if any(c.kind == "set" for c in base.cells()) or name == "update":
            return self._append(name, call)
        if len(call.values) < 2:
            return Value(base.all_deps())
        kinds: dict[str, type[ast.operator]] = {
            "sub": ast.Sub, "subtract": ast.Sub, "div": ast.Div, "divide": ast.Div,
            "true_divide": ast.Div, "mul": ast.Mult, "multiply": ast.Mult,
            "bitwise_xor": ast.BitXor, "bitwise_and": ast.BitAnd, "remainder": ast.Mod,
            "floor_divide": ast.FloorDiv,
        }  # fmt: skip
        kind = kinds.get(name, ast.Add)
        return arithmetic.binary(kind, base, call.values[1], self.place(call.node))

    def _views(self, name: str, call: Arguments) -> Value:
        """`items`, `keys`, `values` of a dictionary."""
        base = call.get(0)
        held = element(base)
        if name == "values":
            return self.collection(call.node, held)
        names = {k for c in base.cells() for k in c.items}
        key = Value(const=next(iter(names))) if len(names) == 1 else Value(held.deps & frozenset())
        pair = key if name == "keys" else self.sequence(call.node, "tuple", [key, held])
        return self.collection(call.node, pair)

    def _range(self, name: str, call: Arguments) -> Value:
        bounds = call.values
        loops = frozenset().union(*(b.deps for b in bounds)) if bounds else frozenset()
        lower = bounds[0].affine() if len(bounds) > 1 else ZERO
        if name == "arange":
            return Value(loops, position=lower)
        consts = [b.const for b in bounds]
        length = None
        if consts and all(type(c) is int for c in consts):
            try:
                length = len(range(*consts))
            except (ValueError, OverflowError):
                length = None
        only = Value(loops, const=range(*consts)[0]) if length == 1 else Value(loops)
        return self.collection(call.node, only, length)

    def _zip(self, name: str, call: Arguments) -> Value:
        parts = [element(v) for v in call.values]
        if name == "enumerate":
            parts = [Value(), *parts[:1]]
        length = length_of(call.get(0))
        return self.collection(call.node, self.sequence(call.node, "tuple", parts), length)

    def _ordered(self, name: str, call: Arguments) -> Value:
        base = call.get(0)
        if not base.cells():
            return base
        return self.collection(call.node, element(base), length_of(base))

    def _size(self, name: str, call: Arguments) -> Value:
        base = call.get(0)
        length = length_of(base)
        if name == "len" and length is not None:
            return constant(length)
        return self.sequence_of_sizes(base, call.node)

    def _read(self, name: str, call: Arguments) -> Value:
        deps = self.disk.union(*(v.all_deps() for v in call.all()))
        if not any(type(m) is Source for m in deps):
            return Value(deps)
        return Value(deps, start=ZERO)

    def _write(self, name: str, call: Arguments) -> Value:
        for value in call.all():
            self.write_disk(call.node, value)
        return NOTHING

    def _gradient(self, name: str, call: Arguments) -> Value:
        base = call.get(0)
        if name == "backward":
            self.backward(base.all_deps())
            return NOTHING
        return Value(base.all_deps() | {GRADIENT})

    def _clone(self, name: str, call: Arguments) -> Value:
        """`copy.deepcopy`: what trains the copy leaves the original alone."""
        base = call.get(0)
        copies: list[Any] = []
        for thing in base.objects:
            if isinstance(thing, Instance):
                copy = Instance(thing.cls, thing.kind, thing.parameters, self.loops)
                copy.attributes = dict(thing.attributes)
                copy.trained = thing.root().trained
                for value in copy.attributes.values():
                    _disown(copy, value)
                thing = copy
            copies.append(thing)
        return base.replace(objects=tuple(copies))

    def _getattr(self, name: str, call: Arguments) -> Value:
        key = call.get(1).const
        if not isinstance(key, str):
            return NOTHING
        if name == "setattr":
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

    def _bits(self, name: str, call: Arguments) -> Value:
        base = call.get(0)
        self.report(call.node, base)
        return Value(base.all_deps(), linear=linear_of(base))

    def _forget(self, name: str, call: Arguments) -> Value:
        return NOTHING


def _keyed(keys: list[Value]) -> Index:
    return Index(tuple(keys), ZERO, False, False)


def _terms(value: Value) -> list[Value]:
    """The things put side by side: a list's items."""
    terms: list[Value] = []
    for cell in value.cells():
        if cell.kind != "array":
            terms += [*cell.items.values(), *((cell.rest,) if cell.rest else ())]
    return terms


def _disown(owner: Instance, value: Value) -> None:
    for thing in value.objects:
        if isinstance(thing, Instance):
            thing.owner = thing.owner or owner


def _is_super(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )


def is_scored(value: Value) -> bool:
    """Whether the value is, or holds, losses of realised tokens."""
    return any(type(m) is Nll for m in value.all_deps())


_Handler = Callable[[Calls, str, Arguments], Value]
_LIBRARY: dict[str, _Handler] = {}
for _names, _handler in (
    (library.LOSS, Calls._loss),
    (library.LOOKUP, Calls._lookup),
    (library.SCATTER, Calls._scatter),
    (library.STACK, Calls._stack),
    (library.ARRAY, Calls._array),
    (library.SHAPE, Calls._size),
    (library.READS, Calls._read),
    (library.WRITES, Calls._write),
    (("roll", "pad"), Calls._shift),
    (("requires_grad_",), Calls._leaf),
    (("dict", "set", "frozenset", "defaultdict", "deque", "list", "tuple"), Calls._container),
    (("append", "extend", "appendleft", "insert"), Calls._append),
    (
        (
            "add", "update", "sub", "subtract", "div", "divide", "true_divide", "mul", "multiply",
            "bitwise_xor", "bitwise_and", "remainder", "floor_divide",
        ),
        Calls._add,
    ),
    (("items", "keys", "values"), Calls._views),
    (("range", "arange"), Calls._range),
    (("enumerate", "zip"), Calls._zip),
    (("sorted", "reversed", "tqdm"), Calls._ordered),
    (("len",), Calls._size),
    (("backward", "grad"), Calls._gradient),
    (("deepcopy",), Calls._clone),
    (("getattr", "setattr"), Calls._getattr),
    (("log2",), Calls._bits),
    (("print", "isinstance", "hasattr", "time", "perf_counter", "type", "id", "zero_"), Calls._forget),
):  # fmt: skip
    _LIBRARY.update(dict.fromkeys(_names, _handler))
