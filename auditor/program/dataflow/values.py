"""Abstract values and the objects of the abstract heap."""

import ast
from collections.abc import Iterable
from typing import Any, Final

from auditor.program.dataflow.marks import (
    NONE,
    Affine,
    Loop,
    Marks,
    Place,
    Token,
    Train,
    Unknown,
    Update,
    of_kind,
)


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()
OBJECT_LIMIT = 6  # alternatives that one value may stand for


class Value:
    """What is known of a value. Immutable; arrays and containers keep their state in a `Cell`.

    `deps` are the marks of everything it was computed from. `linear` are marks that survive sums,
    products, exponentials and logarithms only: a blend does, its use as a gate does not.
    `const` is the constant it is known to be. `position` is its affine form as an integer,
    `start` its alignment if it holds tokens of a stream, `mixed` the tokens hashed into it.
    """

    __slots__ = (
        "_element",
        "const",
        "deps",
        "linear",
        "mixed",
        "objects",
        "origin",
        "position",
        "start",
    )

    def __init__(
        self,
        deps: Marks = NONE,
        *,
        const: Any = UNSET,
        objects: tuple[Any, ...] = (),
        linear: Marks = NONE,
        mixed: frozenset[Token] = frozenset(),
        position: Affine | None = None,
        start: Affine | None = None,
        origin: Place | None = None,
    ) -> None:
        self.deps = deps
        self.const = const
        self.objects = objects
        self.linear = linear
        self.mixed = mixed
        self.position = position
        self.start = start
        self.origin = origin
        self._element: Value | None = None

    def all_deps(self) -> Marks:
        """Its marks and those of the cells that it refers to."""
        deps = self.deps
        for thing in self.objects:
            more = NONE
            if type(thing) is Cell:
                more = thing.deps
            elif type(thing) is Instance:
                more = thing.root().trained
            if more:
                deps = deps | more if deps else more
        return deps

    def affine(self) -> Affine:
        """Its position; a value of unknown form gets a symbol of its own."""
        if self.position is None:
            if type(self.const) is int:
                return frozenset(), self.const
            self.position = frozenset(((Unknown(self.deps), 1),)), 0
        return self.position

    def with_deps(self, deps: Iterable[Any]) -> "Value":
        """The same value, computed from `deps` too."""
        return self.replace(deps=self.deps.union(deps), position=self.affine())

    def replace(self, **changes: Any) -> "Value":
        """A copy with some fields changed."""
        copy = Value(
            self.deps,
            const=self.const,
            objects=self.objects,
            linear=self.linear,
            mixed=self.mixed,
            position=self.position,
            start=self.start,
            origin=self.origin,
        )
        for name, value in changes.items():
            setattr(copy, name, value)
        return copy

    def tokens(self) -> frozenset[Token]:
        """The stream tokens among its marks."""
        return of_kind(self.all_deps(), Token)

    def cells(self) -> list["Cell"]:
        """The arrays and containers that it may be."""
        return [thing for thing in self.objects if type(thing) is Cell] if self.objects else []


NOTHING: Final = Value()


class Cell:
    """An array or a container: `array`, `list`, `tuple`, `dict` or `set`.

    `items` are the values by constant key (index or dictionary key); `rest` stands for what was
    stored under unknown keys. `start` aligns an array that token slices were copied into.
    """

    __slots__ = (
        "created",
        "deps",
        "items",
        "kind",
        "length",
        "linear",
        "owner",
        "place",
        "rest",
        "start",
        "updates",
    )

    def __init__(self, kind: str, place: Place, created: tuple[Loop, ...] = ()) -> None:
        self.kind = kind
        self.place = place
        self.created = created
        self.items: dict[Any, Value] = {}
        self.rest: Value | None = None
        self.length: int | None = None
        self.owner: Instance | None = None  # the module whose list this is
        self.deps: Marks = NONE
        self.linear: Marks = NONE
        self.start: Affine | None = None
        self.updates: list[Update] = []

    def element(self) -> Value:
        """Any of its elements."""
        values = list(self.items.values())
        if self.rest is not None:
            values.append(self.rest)
        return join(values) if values else NOTHING

    def absorb(self, value: Value) -> None:
        """Marks of something stored in it."""
        if deps := value.all_deps():
            self.deps |= deps
        if linear := linear_of(value):
            self.linear |= linear
        if self.kind == "array":
            for cell in value.cells():
                self.updates += cell.updates  # a histogram is added to a table


class Function:
    """A function or lambda with the scopes it was defined in."""

    __slots__ = ("cls", "defaults", "kind", "module", "name", "node", "scopes")

    def __init__(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        module: str,
        scopes: tuple["Scope", ...],
        defaults: dict[str, Value],
    ) -> None:
        self.node = node
        self.module = module
        self.scopes = scopes
        self.defaults = defaults
        self.name = getattr(node, "name", "<lambda>")
        self.kind = "function"  # or property, static, class
        self.cls: Class | None = None


class Bound:
    """A method with its instance, or a partial application with its first arguments."""

    __slots__ = ("first", "function", "named")

    def __init__(
        self, function: Any, first: tuple[Value, ...], named: dict[str, Value] | None = None
    ) -> None:
        self.function = function
        self.first = first
        self.named = named or {}


class Class:
    """A class of the script. `foreign` are the dotted names of its bases elsewhere."""

    __slots__ = ("attributes", "bases", "changing", "fields", "foreign", "module", "name")

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self.module = module
        self.attributes: dict[str, Value] = {}
        self.bases: list[Class] = []
        self.foreign: list[str] = []
        self.fields: list[str] = []
        self.changing: frozenset[str] = frozenset()  # attributes that its methods rebind

    def find(self, name: str) -> Value | None:
        """An attribute of the class or its bases."""
        if name in self.attributes:
            return self.attributes[name]
        for base in self.bases:
            if (found := base.find(name)) is not None:
                return found
        return None

    def changes(self, name: str) -> bool:
        """Whether a method of the class or its bases rebinds that attribute."""
        return name in self.changing or any(base.changes(name) for base in self.bases)

    def descends_from(self, ending: str) -> bool:
        """Whether a base outside the script has that last name, `Module` or `Optimizer`."""
        return any(name.rpartition(".")[2] == ending for name in self.foreign) or any(
            base.descends_from(ending) for base in self.bases
        )


class Instance:
    """An object: of a script's class, or of a library's (`kind` is its dotted name).

    As a mark on a value: the value is, or holds, parameters of this object. `trained` are the
    changes of weights that it carries; they sit at the root of the tree of submodules.
    """

    __slots__ = ("attributes", "cls", "created", "kind", "owner", "parameters", "trained")

    def __init__(
        self, cls: Class | None, kind: str, parameters: Marks, created: tuple[Loop, ...]
    ) -> None:
        self.cls = cls
        self.kind = kind
        self.attributes: dict[str, Value] = {}
        self.owner: Instance | None = None
        self.parameters = parameters  # instances whose parameters it was given: an optimizer's
        self.created = created
        self.trained: frozenset[Train] = frozenset()

    def root(self) -> "Instance":
        """The module that this one is a part of."""
        node = self
        for _ in range(20):
            if node.owner is None:
                break
            node = node.owner
        return node


class External:
    """Something of a library, by dotted name (`torch.nn.functional.cross_entropy`)."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class ModuleObject:
    """A sibling module that was imported."""

    __slots__ = ("scope",)

    def __init__(self, scope: "Scope") -> None:
        self.scope = scope


class Scope(dict[str, Value]):
    """Names of one function call, class body or module."""


def all_marks(values: Iterable[Value]) -> Marks:
    """The marks of all values and of the cells that they refer to."""
    marks = NONE
    for value in values:
        more = value.all_deps() if value.objects else value.deps
        if more and more is not marks:
            marks = marks | more if marks else more
    return marks


def linear_of(value: Value) -> Marks:
    """Marks that reached it by sums, products, logarithms and exponentials alone."""
    linear = value.linear
    for thing in value.objects:
        if type(thing) is Cell and thing.linear:
            linear |= thing.linear
    return linear


def join(values: list[Value]) -> Value:
    """A value that may be any of `values`."""
    first = values[0]
    if len(values) == 1 or all(v is first for v in values):
        return first
    deps, linear, mixed, objects = first.deps, first.linear, first.mixed, list(first.objects)
    const, start, origin = first.const, first.start, first.origin
    for value in values[1:]:
        if value.deps is not deps:
            deps |= value.deps
        if value.linear:
            linear |= value.linear
        if value.mixed:
            mixed |= value.mixed
        if value.objects:
            objects += [o for o in value.objects if o not in objects]
        if (
            value.const is UNSET
            or const is UNSET
            or type(const) is not type(value.const)
            or const != value.const
        ):
            const = UNSET
        start = start if start is not None else value.start
        origin = origin or value.origin
    return Value(
        deps,
        const=const,
        objects=tuple(objects[-OBJECT_LIMIT:]),
        linear=linear,
        mixed=mixed,
        start=start,
        origin=origin,
    )


def constant(value: Any) -> Value:
    """A known constant."""
    return Value(const=value)
