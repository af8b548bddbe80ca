"""Folds constant expressions of a script without running it: what `exec` would be given.

Only literals, pure string and container operations, and a fixed list of decoders are known.
Anything else is a `CannotFoldError`. Every step and every byte made is charged to one budget, so
that no script can make the audit slow or large.
"""

import ast
import posixpath
from typing import Any

from auditor.submission.values import (
    BUILTINS,
    CONSTANTS,
    FUNCTIONS,
    METHODS,
    MISFITS,
    OPERATORS,
    CannotFoldError,
    FilePath,
    Function,
    ModuleSpec,
    Ref,
    as_text,
    path_attribute,
    path_method,
)

MAX_STEPS = 400_000
MAX_BYTES = 256 << 20
MAX_INT = 1 << 64


class Budget:
    """Steps and bytes that folding one script may take."""

    def __init__(self, steps: int = MAX_STEPS, size: int = MAX_BYTES) -> None:
        self.steps = steps
        self.bytes = size

    def step(self) -> None:
        """Charges one expression."""
        self.steps -= 1
        if self.steps < 0:
            raise CannotFoldError("folding takes more steps than allowed")

    def take(self, size: int) -> None:
        """Charges `size` bytes or elements before they are made."""
        self.bytes -= size
        if self.bytes < 0:
            raise CannotFoldError("folding makes more data than allowed")


def size_of(value: object) -> int:
    """Bytes, characters or elements; 0 for scalars."""
    if isinstance(value, str | bytes | bytearray | list | tuple | dict):
        return len(value)
    return 0


class Folder:
    """Folds expressions in one scope.

    Calls with an effect come to `call`, `method` and `invoke`, which a script's walker extends.
    """

    def __init__(self, names: dict[str, Any], budget: Budget) -> None:
        self.names = names
        self.budget = budget

    def fold(self, node: ast.expr) -> Any:
        """The value of an expression; raises `CannotFoldError`."""
        self.budget.step()
        method = getattr(self, "_" + type(node).__name__.lower(), None)
        if method is None:
            raise CannotFoldError(f"{type(node).__name__} is not folded")
        try:
            value = method(node)
        except MISFITS as error:
            raise CannotFoldError(f"{type(error).__name__}: {error}") from None
        self.budget.take(size_of(value))
        return value

    def call(self, name: str, node: ast.Call) -> Any:
        """The value of a call of `name` (dotted), a module's function or a builtin."""
        if name not in FUNCTIONS:
            raise CannotFoldError(f"{name} is not folded")
        arguments, keywords = self.arguments(node)
        return FUNCTIONS[name](*map(as_text, arguments), **keywords)

    def method(self, value: Any, name: str, node: ast.Call) -> Any:
        """The value of a method call on a folded value."""
        arguments, keywords = self.arguments(node)
        if isinstance(value, str | bytes):
            if name == "join":
                parts = list(arguments[0])
                self.budget.take(sum(map(len, parts)) + len(value) * len(parts))
                return value.join(parts)
            if name == "replace":
                old, new = arguments[0], arguments[1]
                self.budget.take(len(value) + value.count(old) * len(new))
                return value.replace(*arguments)
        for kind, names in METHODS.items():
            if isinstance(value, kind) and name in names:
                found = getattr(value, name)(*arguments, **keywords)
                return found if isinstance(found, str | bytes | int | tuple) else list(found)
        if isinstance(value, FilePath):
            return path_method(value, name, [str(as_text(a)) for a in arguments])
        raise CannotFoldError(f"the method {name} is not folded")

    def invoke(self, function: Function, node: ast.Call) -> Any:
        """The value of calling a lambda of the script; its functions need a walker."""
        if not isinstance(function.node, ast.Lambda):
            raise CannotFoldError("a function of the script")
        arguments, keywords = self.arguments(node)
        outer, self.names = self.names, self.names | bound(function.node.args, arguments, keywords)
        try:
            return self.fold(function.node.body)
        finally:
            self.names = outer

    def arguments(self, node: ast.Call) -> tuple[list[Any], dict[str, Any]]:
        """The folded arguments of a call."""
        positional: list[Any] = []
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                positional.extend(self.fold(argument.value))
            else:
                positional.append(self.fold(argument))
        keywords: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.fold(keyword.value)
            keywords.update({keyword.arg: value} if keyword.arg else value)
        return positional, keywords

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.names[node.id]
        if node.id in BUILTINS:
            return Ref(f"builtins.{node.id}")
        raise CannotFoldError(f"{node.id} is not known")

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self.fold(node.value)
        if isinstance(value, Ref):
            name = f"{value.name}.{node.attr}"
            return CONSTANTS.get(name, Ref(name))
        if isinstance(value, FilePath):
            return path_attribute(value, node.attr)
        if isinstance(value, ModuleSpec) and node.attr == "loader":
            return value
        raise CannotFoldError(f"the attribute {node.attr} is not folded")

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute):
            value = self.fold(node.func.value)
            if not isinstance(value, Ref):
                return self.method(value, node.func.attr, node)
            return self.call(f"{value.name}.{node.func.attr}", node)
        function = self.fold(node.func)
        if isinstance(function, Function):
            return self.invoke(function, node)
        if isinstance(function, Ref):
            return self.call(function.name, node)
        raise CannotFoldError("a call of something that is no function")

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.fold(node.left), self.fold(node.right)
        if isinstance(left, FilePath) and isinstance(node.op, ast.Div):
            return FilePath(posixpath.join(left.path, str(as_text(right))))
        if isinstance(node.op, ast.Mult):
            times = next((v for v in (left, right) if isinstance(v, int)), 0)
            self.budget.take(max(size_of(left), size_of(right)) * max(times, 0))
            return _small(left * right)
        if type(node.op) not in OPERATORS or (
            isinstance(node.op, ast.Mod) and not isinstance(left, int)
        ):
            raise CannotFoldError(f"the operator {type(node.op).__name__} is not folded")
        return _small(OPERATORS[type(node.op)](left, right))

    def _compare(self, node: ast.Compare) -> bool:
        left = self.fold(node.left)
        for operation, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.fold(comparator)
            if not OPERATORS[type(operation)](left, right):
                return False
            left = right
        return True

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.fold(node.operand)
        if isinstance(node.op, ast.Not):
            return not value
        if isinstance(node.op, ast.USub):
            return -value
        raise CannotFoldError("an operator that is not folded")

    def _boolop(self, node: ast.BoolOp) -> Any:
        value = None
        for each in node.values:
            value = self.fold(each)
            if bool(value) == isinstance(node.op, ast.Or):
                break
        return value

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self.fold(node.body if self.fold(node.test) else node.orelse)

    def _subscript(self, node: ast.Subscript) -> Any:
        value = self.fold(node.value)
        if isinstance(node.slice, ast.Slice):
            part = node.slice
            bounds = (part.lower, part.upper, part.step)
            return value[slice(*(None if b is None else self.fold(b) for b in bounds))]
        return value[self.fold(node.slice)]

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.fold(e) for e in node.elts)

    def _list(self, node: ast.List) -> list[Any]:
        return [self.fold(e) for e in node.elts]

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            made.update({self.fold(key): self.fold(value)} if key else self.fold(value))
        return made

    def _joinedstr(self, node: ast.JoinedStr) -> str:
        parts = []
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                if value.format_spec or value.conversion != -1:
                    raise CannotFoldError("a format is not folded")
                parts.append(str(as_text(self.fold(value.value))))
            else:
                parts.append(self.fold(value))
        return "".join(parts)

    def _namedexpr(self, node: ast.NamedExpr) -> Any:
        self.names[node.target.id] = value = self.fold(node.value)
        return value

    def _lambda(self, node: ast.Lambda) -> Function:
        return Function(node)

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp) -> list[Any]:
        if len(node.generators) != 1:
            raise CannotFoldError("a nested comprehension is not folded")
        loop = node.generators[0]
        made = []
        for item in self.fold(loop.iter):
            bind(self.names, loop.target, item)
            if all(self.fold(test) for test in loop.ifs):
                made.append(self.fold(node.elt))
        return made

    _generatorexp = _listcomp


def bind(names: dict[str, Any], target: ast.expr, value: Any) -> None:
    """Assigns a folded value to a name or to a tuple of names; other targets are left alone."""
    if isinstance(target, ast.Name):
        names[target.id] = value
    elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, list | tuple):
        if len(value) != len(target.elts):
            raise CannotFoldError("an assignment of unequal lengths")
        for each, part in zip(target.elts, value, strict=True):
            bind(names, each, part)


def bound(
    parameters: ast.arguments, arguments: list[Any], keywords: dict[str, Any]
) -> dict[str, Any]:
    """The names that a call binds, by position and by keyword."""
    names = [parameter.arg for parameter in (*parameters.posonlyargs, *parameters.args)]
    return {**dict(zip(names, arguments, strict=False)), **keywords}


def _small(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > MAX_INT:
        raise CannotFoldError("a number too large")
    return value
