"""Members, indices, environment variables: what follows a dot or stands in brackets."""

import ast
import math
import re
from abc import abstractmethod
from typing import Any

from auditor.program.dataflow.heap import Heap, Index, start_of
from auditor.program.dataflow.library import SAME, SHAPE
from auditor.program.dataflow.marks import (
    GRADIENT,
    MODEL,
    ZERO,
    Affine,
    Loop,
    Positions,
    Source,
    of_kind,
)
from auditor.program.dataflow.values import (
    NOTHING,
    UNSET,
    Bound,
    Class,
    External,
    Function,
    Instance,
    ModuleObject,
    Value,
    constant,
    join,
)

# Names of data files: the dataset calls its splits `fineweb_val_*` and `fineweb_train_*`.
_SPLIT = re.compile(r"(?:^|[^a-zA-Z])(val|valid|validation|train)(?=[^a-zA-Z]|$)")
_EVERY_SPLIT = re.compile(r"fineweb_\*")
_FILE = re.compile(r"[*/\\]|\.(?:bin|npy|npz|pt|txt|jsonl?|parquet)$|fineweb")
_CONSTANTS = {
    "math.pi": math.pi,
    "math.e": math.e,
    "math.inf": math.inf,
    "numpy.e": math.e,
    "numpy.pi": math.pi,
}


class Access(Heap):
    """Members and indices of values."""

    @abstractmethod
    def eval(self, node: ast.expr) -> Value:
        """The abstract value of an expression."""

    @abstractmethod
    def invoke(
        self, function: Any, args: list[Value], named: dict[str, Value], node: ast.AST
    ) -> Value:
        """Runs something callable."""

    def environ(self, name: Value, default: Value | None) -> Value:
        """`os.environ.get(name, default)` under the run configuration."""
        if isinstance(name.const, str):
            if name.const in self.environment:
                text = self.environment[name.const]
                self.trace.environment[name.const] = text
                return Value(
                    sources_of(text) | (default.deps if default else frozenset()), const=text
                )
            if default is not None and isinstance(default.const, str | int | float):
                self.trace.environment[name.const] = str(default.const)
        return default if default is not None else NOTHING

    def index(self, node: ast.expr) -> Index:
        """What stands between the brackets."""
        nodes = node.elts if isinstance(node, ast.Tuple) else [node]
        parts: list[Value] = []
        lower: Affine = ZERO
        basic, picks, sliced = True, False, False
        places: Positions | None = None
        for part in nodes:
            if isinstance(part, ast.Slice):
                bounds = [self.eval(b) for b in (part.lower, part.upper, part.step) if b]
                lower = self.eval(part.lower).affine() if part.lower else ZERO
                sliced = True
                places = _places(part, bounds) or places
                deps = frozenset(m for b in bounds for m in b.all_deps() if type(m) is Loop)
                if deps:
                    parts.append(Value(deps))
                continue
            value = self.eval(part)
            if value.const is None or value.const is Ellipsis:
                continue
            parts.append(value)
            sliced = False
            start = start_of(value)
            lower = start if start is not None else value.affine()
            if value.const is UNSET:
                basic = False
            else:
                picks = True
        return Index(tuple(parts), lower, basic, picks, sliced, places)

    def attribute(self, base: Value, name: str, node: ast.AST) -> Value:
        """`base.name`."""
        found = [
            value
            for thing in base.objects
            if (value := self._member(base, thing, name, node)) is not None
        ]
        if found:
            # Another object in each iteration has other members in each.
            loops = [m for m in base.deps if type(m) is Loop]
            return join(found).with_deps(loops) if loops else join(found)
        if name in SHAPE:
            return self.sizes(base)
        if name == "parent":
            return folder_of(base)
        if name == "grad":
            return Value(self.pending | {GRADIENT})
        if name in SAME or name in ("T", "mT", "values", "indices"):
            return base
        if any(isinstance(o, Instance) for o in base.objects):
            weights = tuple(o for o in base.objects if isinstance(o, Instance))
            return Value(base.deps | {MODEL}, objects=weights)
        return Value(base.all_deps())

    def sizes(self, base: Value) -> Value:
        """A shape: it forgets the contents, not the loop that the array belongs to."""
        return Value(of_kind(base.deps, Loop))

    def _member(self, base: Value, thing: Any, name: str, node: ast.AST) -> Value | None:
        if isinstance(thing, Instance):
            if (value := thing.attributes.get(name)) is not None:
                return value
            if thing.cls is None or (value := thing.cls.find(name)) is None:
                return None
            return self._bind(value, Value(base.deps, objects=(thing,)), node)
        if isinstance(thing, Class):
            if name == "__name__":
                return constant(thing.name)
            value = thing.find(name)
            return None if value is None else self._of_class(value, thing)
        if isinstance(thing, ModuleObject):
            return thing.scope.get(name)
        if isinstance(thing, External):
            dotted = f"{thing.name}.{name}"
            if dotted in _CONSTANTS:
                return constant(_CONSTANTS[dotted])
            return Value(objects=(External(dotted),))
        return None

    def _bind(self, value: Value, self_value: Value, node: ast.AST) -> Value:
        """A class attribute seen through an instance: methods get their `self`."""
        bound: list[Any] = []
        for thing in value.objects:
            if isinstance(thing, Function):
                if thing.kind == "property":
                    return self.invoke(thing, [self_value], {}, node)
                if thing.kind == "class":
                    owners = tuple(o.cls for o in self_value.objects)
                    thing = Bound(thing, (Value(objects=owners),))
                elif thing.kind != "static":
                    thing = Bound(thing, (self_value,))
            bound.append(thing)
        return value if not bound else value.replace(objects=tuple(bound))

    def _of_class(self, value: Value, cls: Class) -> Value:
        """An attribute seen through its class: class methods get it as their first argument."""
        methods = [o for o in value.objects if isinstance(o, Function) and o.kind == "class"]
        if not methods:
            return value
        return Value(objects=tuple(Bound(m, (Value(objects=(cls,)),)) for m in methods))


def _places(node: ast.Slice, bounds: list[Value]) -> Positions | None:
    """What a slice leaves of an axis, unless it only drops a place or two at an end."""
    values = iter(bounds)
    lower, upper = (
        None if end is None or _near_end(bound := next(values)) else bound.affine()
        for end in (node.lower, node.upper)
    )
    return None if lower is None and upper is None else Positions(lower, upper)


def _near_end(bound: Value) -> bool:
    return bound.const is None or (type(bound.const) is int and -3 < bound.const < 3)


def folder_of(path: Value) -> Value:
    """The folder that a file lies in: what else lies there is not the data of its name."""
    return Value(path.all_deps() - of_kind(path.deps, Source))


def sources_of(text: str) -> frozenset[Source]:
    """The split that a file name belongs to; a pattern may take in both."""
    if len(text) > 400 or not _FILE.search(text):
        return frozenset()
    name = text.rpartition("/")[2]
    match = _SPLIT.search(name) or _SPLIT.search(text)
    if _EVERY_SPLIT.match(name):
        return frozenset({Source("train"), Source("val")})
    if match is None:
        return frozenset()
    return frozenset({Source("train" if match[1] == "train" else "val")})
