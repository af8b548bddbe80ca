"""Follows values through the methods of one class and notes what becomes of them.

A label stands for a parameter or a literal. The walk is abstract: no value is computed, nothing of
the script runs. For each label it notes `Use`s: what is normalised over the vocabulary, what picks
one entry of the normalised scores, what indexes a table, what sizes one. Roles follow from uses, so
that names never matter.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from auditor.program.scorer_values import NOTHING, Use, Value, union

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


_NORMALISE = {"softmax", "log_softmax", "logsumexp", "cross_entropy"}
_PICK = {"gather": 1, "take_along_dim": 0, "take_along_axis": 0, "index_select": 1, "nll_loss": 0}
_ALLOCATE = {"zeros", "ones", "full", "empty", "rand", "randn", "eye", "new_zeros"}
_SCATTER = {
    "scatter_add_",
    "scatter_",
    "index_add_",
    "index_put_",
    "scatter_reduce_",
    "index_fill_",
}
_CONVERT = {"tensor", "as_tensor", "asarray", "array", "ascontiguousarray", "from_numpy", "tuple",
            "list", "int", "float", "where", "minimum", "maximum", "stack", "cat", "concatenate",
            "remainder", "unique", "bitwise_xor", "bitwise_and", "int64", "uint64"}  # fmt: skip
_VIEW = {"reshape", "view", "float", "double", "half", "bfloat16", "to", "type", "type_as", "clone",
         "detach", "contiguous", "squeeze", "unsqueeze", "flatten", "long", "int", "cpu", "cuda",
         "numpy", "astype", "ravel", "copy", "transpose", "permute", "expand", "tolist", "mul",
         "div", "clamp", "get", "setdefault", "pop", "items", "values"}  # fmt: skip
_DEPTH = 6
_LEAST_BUCKETS = 1024


@dataclass
class Flow:
    """One walk. `classes` holds the methods of each class and `functions` the functions of the
    script; both are followed into. `attributes` is what (class, attribute) holds."""

    classes: Mapping[str, Mapping[str, FunctionNode]]
    functions: Mapping[str, FunctionNode]
    attributes: dict[tuple[str, str], Value] = field(default_factory=dict)
    uses: dict[str, set[Use]] = field(default_factory=lambda: defaultdict(set))
    entered: set[FunctionNode] = field(default_factory=set)
    _stack: list[FunctionNode] = field(default_factory=list)
    _changes: int = 0
    _returned: dict[tuple[FunctionNode, frozenset[tuple[str, Value]], int], Value] = field(
        default_factory=dict
    )

    def enter(self, function: FunctionNode, arguments: Mapping[str, Value]) -> Value:
        """Walks `function` with its parameters bound, the object itself included. Returns what it
        returns, a tuple's elements taken together."""
        if function in self._stack or len(self._stack) >= _DEPTH:
            return NOTHING
        # What a call does depends on its arguments and on what the attributes hold by then.
        key = (function, frozenset(arguments.items()), self._changes)
        if key not in self._returned:
            self._stack.append(function)
            walk = _Walk(self, dict(arguments))
            for _ in range(2):  # a second time for what loops carry round
                walk.block(function.body)
            self._stack.pop()
            self._returned[key] = walk.returned
        return self._returned[key]

    def hold(self, kind: str, name: str, value: Value) -> None:
        """Notes that an attribute may hold a value."""
        before = self.attributes.get((kind, name), NOTHING)
        if before | value != before:
            self.attributes[kind, name] = before | value
            self._changes += 1

    def call(
        self, function: FunctionNode, arguments: Sequence[Value], keywords: Mapping[str, Value]
    ) -> Value:
        """Enters `function` from a call elsewhere in the script."""
        self.entered.add(function)
        return self.enter(function, bind(function, arguments, keywords))

    def construct(
        self, kind: str, arguments: Sequence[Value], keywords: Mapping[str, Value]
    ) -> Value:
        """A new instance of a class of the script; of a record it holds what it was made of."""
        made = Value(kinds=frozenset({kind}))
        constructor = self.classes[kind].get("__init__")
        if constructor is not None:
            self.enter(constructor, bind(constructor, [made, *arguments], keywords))
            return made
        return made | Value(union([*arguments, *keywords.values()]).direct)

    def note(self, labels: Iterable[str], use: Use) -> None:
        """Notes a use of each label."""
        for label in labels:
            self.uses[label].add(use)


class _Walk:
    """The walk through one function body, with its own variables."""

    def __init__(self, flow: Flow, variables: dict[str, Value]) -> None:
        self.flow = flow
        self.variables = variables
        self.returned = NOTHING

    def block(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            value = self.value(node.value)
            for target in node.targets:
                self.assign(target, value, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.assign(node.target, self.value(node.value), node.value)
        elif isinstance(node, ast.AugAssign):
            value = self.value(node.value)
            self.hash_bound(node.op, value)
            self.assign(node.target, value | self.value(node.target), node.value)
        elif isinstance(node, ast.Return) and node.value is not None:
            self.returned |= self.value(node.value)
        elif isinstance(node, ast.For | ast.AsyncFor):
            iterated = self.value(node.iter)
            self.flow.note(iterated.direct, Use.LENGTH)
            self.assign(node.target, iterated, node.iter)
        elif not isinstance(node, FunctionNode | ast.ClassDef):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.value(child)
                elif isinstance(child, ast.withitem):
                    self.value(child.context_expr)
        for name in ("body", "orelse", "finalbody"):
            if not isinstance(node, FunctionNode | ast.ClassDef):
                self.block(getattr(node, name, []))
        for handler in getattr(node, "handlers", []):
            self.block(handler.body)

    def assign(self, target: ast.expr, value: Value, source: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.variables[target.id] = self.variables.get(target.id, NOTHING) | value
        elif isinstance(target, ast.Tuple | ast.List):
            whole = source.elts if isinstance(source, ast.Tuple | ast.List) else []
            for place, element in enumerate(target.elts):
                part = self.value(whole[place]) if len(whole) == len(target.elts) else value
                self.assign(element, part, source)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, value, source)
        elif isinstance(target, ast.Attribute):
            for kind in self.value(target.value).kinds:
                self.flow.hold(kind, target.attr, Value(value.direct, kinds=value.kinds))
        elif isinstance(target, ast.Subscript):
            index = self.index(target.slice)
            if self.value(target.value).state:
                self.flow.note(index.direct, Use.COUNT)
            elif isinstance(target.value, ast.Name):  # filling a local array keeps what fills it
                self.assign(target.value, Value(value.direct, value.normalised), source)

    def value(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Name):
            return self.variables.get(node.id, NOTHING)
        if isinstance(node, ast.Attribute):
            return self.attribute(self.value(node.value), node.attr)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.BinOp):
            return self.arithmetic(node)
        if isinstance(node, ast.Subscript):
            return self.subscript(node)
        if isinstance(node, ast.Compare):
            return self.comparison(node)
        if isinstance(node, ast.UnaryOp):
            value = self.value(node.operand)
            if isinstance(node.op, ast.Invert):
                self.flow.note(value.direct, Use.BOOLEAN)
            return value
        if isinstance(node, ast.Constant):
            return _literal(node)
        if isinstance(node, ast.Lambda):
            return NOTHING
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
            return self.comprehension(node)
        if isinstance(node, ast.NamedExpr):
            value = self.value(node.value)
            self.assign(node.target, value, node.value)
            return value
        return union(self.value(c) for c in ast.iter_child_nodes(node) if isinstance(c, ast.expr))

    def attribute(self, owner: Value, name: str) -> Value:
        if owner.kinds:
            held = union(self.flow.attributes.get((k, name), NOTHING) for k in owner.kinds)
            return held | Value(owner.direct, state=owner.state)
        return owner if name in ("T", "mT", "data") else Value(normalised=owner.normalised)

    def comprehension(
        self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp
    ) -> Value:
        for part in node.generators:
            iterated = self.value(part.iter)
            self.flow.note(iterated.direct, Use.LENGTH)
            self.assign(part.target, iterated, part.iter)
            for condition in part.ifs:
                self.value(condition)
        heads = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        return union(self.value(head) for head in heads)

    def arithmetic(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        self.hash_bound(node.op, right)
        if isinstance(node.op, ast.BitAnd):
            self.flow.note(left.direct | right.direct, Use.BOOLEAN)
        if isinstance(node.op, ast.Mult | ast.Div):
            for constant, other in ((node.left, right), (node.right, left)):
                if isinstance(constant, ast.Constant) and isinstance(constant.value, int | float):
                    self.flow.note(other.direct, Use.NORMALISER)
        both = left | right
        return Value(both.direct, both.normalised)

    def hash_bound(self, operator: ast.operator, right: Value) -> None:
        if isinstance(operator, ast.Mod | ast.BitAnd):
            self.flow.note(right.direct, Use.MODULUS)

    def comparison(self, node: ast.Compare) -> Value:
        for side in (node.left, *node.comparators):
            self.flow.note(self.value(side).direct, Use.LENGTH)
        return NOTHING

    def subscript(self, node: ast.Subscript) -> Value:
        base, index = self.value(node.value), self.index(node.slice)
        if index.direct:
            self.flow.note(base.direct, Use.INDEXED)
        self.pick(base, index)
        return base

    def index(self, node: ast.expr) -> Value:
        """The labels that pick entries; the bounds of slices are lengths instead."""
        found = NOTHING
        for part in node.elts if isinstance(node, ast.Tuple) else [node]:
            if isinstance(part, ast.Slice):
                for bound in (part.lower, part.upper):
                    if bound is not None:
                        self.flow.note(self.value(bound).direct, Use.LENGTH)
            else:
                found |= self.value(part)
        self.flow.note(found.direct, Use.INDEX)
        return found

    def pick(self, base: Value, index: Value) -> None:
        if base.normalised or base.direct:
            self.flow.note(index.direct - base.direct - base.normalised, Use.PICK)

    def call(self, node: ast.Call) -> Value:
        keywords = {k.arg: self.value(k.value) for k in node.keywords if k.arg is not None}
        arguments = [self.value(a) for a in node.args]
        if "device" in keywords:
            self.flow.note(keywords["device"].direct, Use.DEVICE)
        if isinstance(node.func, ast.Name):
            name = node.func.id
            if name in self.flow.functions:
                return self.flow.call(self.flow.functions[name], arguments, keywords)
            if name in self.flow.classes:
                return self.flow.construct(name, arguments, keywords)
            return self.operation(name, NOTHING, arguments, keywords)
        if not isinstance(node.func, ast.Attribute):
            return NOTHING
        receiver = self.value(node.func.value)
        methods = [self.flow.classes[k].get(node.func.attr) for k in sorted(receiver.kinds)]
        if any(methods):
            return union(
                self.flow.call(m, [receiver, *arguments][is_static(m) :], keywords)
                for m in methods
                if m is not None
            )
        result = self.operation(node.func.attr, receiver, arguments, keywords)
        if node.func.attr.endswith("_"):  # changes its receiver in place
            self.assign_in_place(node.func.value, union(arguments))
        return result

    def assign_in_place(self, receiver: ast.expr, value: Value) -> None:
        while isinstance(receiver, ast.Subscript):
            receiver = receiver.value
        if isinstance(receiver, ast.Name):
            self.assign(receiver, value, receiver)

    def operation(
        self, name: str, receiver: Value, arguments: list[Value], keywords: Mapping[str, Value]
    ) -> Value:
        """A call into a library: `receiver.name(...)`, `library.name(...)` or `name(...)`."""
        note = self.flow.note
        everything = [receiver, *arguments, *keywords.values()]
        operands = [v for v in everything if v.known]
        # The same operation is spelled torch.f(x, ...) and x.f(...).
        bound = receiver.known
        subject = receiver if bound else (arguments[0] if arguments else NOTHING)
        rest = arguments if bound else arguments[1:]
        if name in _NORMALISE:
            subject = keywords.get("input", subject)
            note(subject.direct, Use.DISTRIBUTION)
            if name == "cross_entropy":
                note(keywords.get("target", _first(rest)).direct, Use.PICK)
            return Value(normalised=subject.direct | subject.normalised)
        if name in _PICK:
            place = keywords.get("index", keywords.get("target", _at(rest, _PICK[name])))
            note(place.direct, Use.INDEX)
            self.pick(subject, place)
            return Value(normalised=subject.normalised | subject.direct)
        if name in _SCATTER or name in ("at", "bincount"):
            places = rest if name != "bincount" else [subject]
            note(union(places).direct, Use.COUNT)
            return subject
        if name in _ALLOCATE:
            sizes = [*arguments, *(v for k, v in keywords.items() if k in ("size", "shape"))]
            note(union(sizes).direct, Use.DIMENSION)
            return NOTHING
        self.plain_uses(name, subject, rest)
        if name in _VIEW:
            return subject if bound else union(arguments)
        if name in ("enumerate", "zip", "reversed", *_CONVERT):
            return Value(union(arguments).direct, union(arguments).normalised)
        return Value(normalised=union(operands).normalised)

    def plain_uses(self, name: str, subject: Value, rest: Sequence[Value]) -> None:
        """Uses that say nothing of the result."""
        note, first = self.flow.note, _first(rest).direct
        if name in ("append", "extend", "add", "copy_") and subject.state:
            note(union(rest).direct, Use.COUNT)
        elif name in ("log", "log2"):
            note(subject.direct, Use.NORMALISER)
        elif name in ("len", "range", "max", "min", "numel"):
            note(subject.direct | union(rest).direct, Use.LENGTH)
        elif name in ("bool", "where"):
            note(subject.direct, Use.BOOLEAN)
        elif name in ("masked_fill", "masked_select"):
            note(first, Use.BOOLEAN)
        elif name == "to":
            note(first, Use.DEVICE)
        elif name in ("get", "setdefault", "pop"):
            note(first, Use.INDEX)
            if name == "setdefault" and subject.state:
                note(first, Use.COUNT)


def bind(
    function: FunctionNode, arguments: Sequence[Value], keywords: Mapping[str, Value]
) -> dict[str, Value]:
    """The values of a call by the parameter that takes them."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    return dict(zip(names, arguments, strict=False)) | dict(keywords)


def is_static(method: FunctionNode) -> bool:
    """Whether it is called without the object."""
    return any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in method.decorator_list)


def _literal(node: ast.Constant) -> Value:
    """A number large enough to size a hashed table, perhaps spelled as a variable's default."""
    text = str(node.value) if type(node.value) in (int, str) else ""
    if not text.isdecimal() or len(text) > 12 or int(text) < _LEAST_BUCKETS:
        return NOTHING
    return Value(frozenset({f"{node.lineno}:{node.col_offset}:{int(text)}"}))


def _at(values: Sequence[Value], index: int) -> Value:
    return values[index] if index < len(values) else NOTHING


def _first(values: Sequence[Value]) -> Value:
    return _at(values, 0)
