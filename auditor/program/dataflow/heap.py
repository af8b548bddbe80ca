"""Reading and writing the abstract heap: elements, keys, alignments, instances behind a value."""

import ast
from typing import NamedTuple

from auditor.program.dataflow.arithmetic import unread
from auditor.program.dataflow.machine import Machine
from auditor.program.dataflow.marks import (
    EVERY,
    MODEL,
    NONE,
    SPREAD,
    ZERO,
    Affine,
    Blend,
    Entry,
    Loop,
    Marks,
    Positions,
    Read,
    Source,
    Token,
    Update,
    affine_sum,
    of_kind,
)
from auditor.program.dataflow.values import (
    NOTHING,
    UNSET,
    Cell,
    Instance,
    Value,
    all_marks,
    join,
    linear_of,
)

_OF_AXES = frozenset((EVERY, SPREAD))  # what an index tells of itself, not of what it picks
ITEM_LIMIT = 256  # elements of a container that are told apart


class Index(NamedTuple):
    """What stands between the brackets: `parts` are values, or None for what selects everything.

    `lower` is the beginning of the last slice or index, by which a token sequence is shifted;
    `sliced` says that it is a slice; `bounds` are the places that it leaves of an axis.
    """

    parts: tuple[Value, ...]
    lower: Affine
    basic: bool  # slices and constants alone: the result is a view
    picks: bool  # a constant index picks one entry of an axis
    sliced: bool = False
    bounds: Positions | None = None

    def value(self) -> Value:
        """All parts hashed into nothing: each indexes an axis of its own."""
        return join(list(self.parts)) if self.parts else NOTHING


def start_of(value: Value) -> Affine | None:
    """The alignment of a value that holds tokens of a stream."""
    if value.start is not None:
        return value.start
    return next((c.start for c in value.cells() if c.start is not None), None)


def element(value: Value) -> Value:
    """Any element of an iterable; the same value for the same iterable."""
    containers = [c for c in value.cells() if c.kind != "array"]
    if containers:
        held = join([c.element() for c in containers])
        return held if not value.deps else held.with_deps(value.deps)
    if value._element is None:
        value._element = _element(value)
    return value._element


def _element(value: Value) -> Value:
    things = tuple(o for o in value.objects if isinstance(o, Instance))
    if things:
        return Value(value.deps, objects=things)
    start = start_of(value)
    if start is not None:
        place = Value()
        return aligned(value, affine_sum(start, place.affine()), frozenset())
    rows = tuple(value.cells())  # a row is a view: what is written to it is in the array
    return Value(value.all_deps(), objects=rows, linear=linear_of(value), mixed=value.mixed)


def entries(key: Value) -> Marks:
    """Marks for the entries of an axis that tokens pick, as they are."""
    start = start_of(key)
    if start is None:
        return NONE
    return frozenset(Entry(t) for t in key.tokens() if t.start == start)


def aligned(base: Value, start: Affine, extra: Marks) -> Value:
    """Tokens of the same stream as `base`, from `start` on."""
    deps = base.all_deps()
    stream = of_kind(deps, Source)
    kept = frozenset(m for m in (deps | extra) if type(m) is not Token)
    return Value(kept | {Token(stream, start)}, start=start)


def shifted(deps: Marks, by: Affine) -> Marks:
    """`deps` of a value whose element j was moved to place j + `by`."""
    return frozenset(
        Token(m.stream, affine_sum(m.start, by, -1)) if type(m) is Token else m for m in deps
    )


def stored_in_model(value: Value) -> Value:
    """`value` as a parameter or a buffer of a module: what it knows of training data is weights."""
    known = frozenset(m for m in value.all_deps() if type(m) is Source and m.split == "train")
    if not known:
        return value
    return Value(value.all_deps() - known, linear=linear_of(value), mixed=value.mixed)


def instances(value: Value, depth: int = 3) -> frozenset[Instance]:
    """The modules, parameters or optimizers that a value is or holds."""
    found: set[Instance] = {m for m in value.deps if type(m) is Instance}
    for thing in value.objects:
        if isinstance(thing, Instance):
            found.add(thing)
        elif isinstance(thing, Cell) and depth:
            for item in (*thing.items.values(), *((thing.rest,) if thing.rest else ())):
                found |= instances(item, depth - 1)
    return frozenset(found)


def own(owner: Instance, value: Value) -> None:
    """`value` becomes a part of `owner`: what trains the part trains the whole."""
    for thing in value.objects:
        if isinstance(thing, Instance):
            if thing is not owner.root() and thing.owner is None and thing.kind != "optimizer":
                thing.owner = owner
                owner.root().trained |= thing.trained
        elif isinstance(thing, Cell):
            thing.owner = owner
            for item in (*thing.items.values(), *((thing.rest,) if thing.rest else ())):
                own_items(owner, item)


def own_items(owner: Instance, item: Value) -> None:
    """The modules in a list that became a part of `owner`."""
    for thing in item.objects:
        if isinstance(thing, Instance) and thing.owner is None and thing is not owner.root():
            thing.owner = owner


class Heap(Machine):
    """Element access with its events: lookups, updates, losses by fancy indexing."""

    def sequence(self, node: ast.AST, kind: str, items: list[Value]) -> Value:
        """A list or tuple of known elements."""
        cell = self.cell(kind, node)
        for number, item in enumerate(items[:ITEM_LIMIT]):
            cell.items[number] = item
            cell.absorb(item)
        if len(items) > ITEM_LIMIT:
            cell.rest = join(items[ITEM_LIMIT:])
            cell.absorb(cell.rest)
        cell.length = len(items)
        return Value(objects=(cell,))

    def collection(self, node: ast.AST, item: Value, length: int | None = None) -> Value:
        """A list of unknown length, any element of which is `item`."""
        cell = self.cell("list", node)
        cell.rest = item
        cell.length = length
        cell.absorb(item)
        return Value(objects=(cell,))

    def fetch(self, node: ast.AST, base: Value, index: Index) -> Value:
        """`base[index]`."""
        key = index.value()
        containers = [c for c in base.cells() if c.kind != "array"]
        if containers:
            return self._fetch_item(node, base, containers, index, key)
        start = start_of(base)
        keys = all_marks(index.parts) - _OF_AXES
        tokens = of_kind(keys, Token)
        if start is not None and not tokens:
            moved = aligned(base, affine_sum(start, index.lower), keys)
            return moved.replace(objects=tuple(base.cells())) if index.basic else moved
        if tokens and MODEL in base.all_deps():
            label = index.parts[-1] if index.parts[-1].tokens() else key
            nll = self.score(node, base, label)
            linear = linear_of(base) | {nll}
            return Value(base.all_deps() | keys | {nll}, linear=linear)
        deps = base.all_deps() | keys
        if tokens:
            deps |= {self.lookup(node, base, index.parts)}
        elif MODEL in deps:
            deps |= _narrowed(index, keys)
        linear = linear_of(base)
        position = None
        if base.position is not None and not base.objects:  # places, picked from an array of them
            position = affine_sum(base.position, index.lower)
        return Value(
            deps,
            linear=_picked(linear) if index.picks else linear,
            objects=tuple(base.cells()) if index.basic else (),
            mixed=base.mixed,
            position=position,
        )

    def _fetch_item(
        self, node: ast.AST, base: Value, containers: list[Cell], index: Index, key: Value
    ) -> Value:
        if index.basic and not index.picks:  # a slice of a list is a list of the same elements
            held = join([c.element() for c in containers])
            deps = base.deps.union(*(p.all_deps() for p in index.parts))
            return self.collection(node, held).replace(deps=deps)
        value = join([_known_item(cell, key) for cell in containers])
        tokens = key.tokens()
        extra: Marks = base.deps | of_kind(key.all_deps(), Loop)
        if tokens:
            extra |= key.all_deps() | {self.lookup(node, base, index.parts)}
        return value.with_deps(extra) if extra - value.deps else value

    def lookup(self, node: ast.AST, base: Value, keys: tuple[Value, ...]) -> Read:
        """A table is read under keys that hold tokens."""
        tokens: frozenset[Token] = frozenset().union(*(k.tokens() for k in keys))
        mixed: frozenset[Token] = frozenset().union(*(k.mixed for k in keys))
        return Read(
            self.place(node),
            self.tick(),
            self.loops,
            tuple(base.cells()),
            tokens,
            mixed & tokens,
            any(SPREAD in k.all_deps() for k in keys),
            self.doubt,
        )

    def store(self, node: ast.AST, base: Value, index: Index, value: Value) -> None:
        """`base[index] = value`, or an addition there."""
        key = index.value()
        cells = base.cells()
        kept = frozenset(
            m
            for m in value.all_deps()
            if not (type(m) is Read and any(c in m.tables for c in cells))
        )
        if index.sliced and index.lower != ZERO:
            kept = shifted(kept, index.lower)
        for cell in cells:
            cell.deps |= kept | of_kind(key.all_deps(), Source)
            cell.linear |= linear_of(value)
            if tokens := key.tokens():
                cell.updates.append(Update(self.place(node), self.tick(), self.loops, tokens))
            if cell.kind == "array":
                if index.bounds is not None and isinstance(value.const, int | float):
                    cell.deps |= _masked(index.bounds, value.const)
                start = start_of(value)
                if start is not None and cell.start is None:
                    cell.start = affine_sum(start, index.lower, -1)
            elif _hashable(key.const) and len(cell.items) < ITEM_LIMIT:
                cell.items[key.const] = value
            else:
                cell.rest = value if cell.rest is None else join([cell.rest, value])


def _narrowed(index: Index, keys: Marks) -> Marks:
    """The places that an index leaves of a network's output."""
    if index.bounds is not None:
        return frozenset((index.bounds,))
    return NONE if index.basic else unread(keys)


def _masked(bounds: Positions, filler: float) -> Marks:
    """A mask's ones, or labels of which a negative one means none."""
    if filler == 1:
        return frozenset((bounds,))
    return frozenset((bounds.others(),)) if filler < 0 else NONE


def _picked(linear: Marks) -> Marks:
    """What an entry of an axis keeps: a term picked out of several is weighed with no other."""
    return frozenset(m for m in linear if type(m) is not Blend or m.weighed)


def _known_item(cell: Cell, key: Value) -> Value:
    const = key.const
    if _hashable(const):
        if isinstance(const, int) and const < 0 and cell.kind != "dict" and cell.rest is None:
            const += len(cell.items)
        if const in cell.items:
            found = cell.items[const]
            return found if cell.rest is None else join([found, cell.rest])
        if cell.rest is not None:
            return cell.rest
    return cell.element()


def _hashable(const: object) -> bool:
    return const is not UNSET and isinstance(const, str | int | bytes | bool)


def whole() -> Index:
    """`[:]`."""
    return Index((), ZERO, True, False)
