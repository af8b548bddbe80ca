"""Finds what a script can be set by: environment variables, and numbers written as named constants.

By syntax alone. `read("NAME", default)` reads the environment, whatever the function is called; a
constant is the default of a class attribute, a module variable or a command line option.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Value = int | float | str | None
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{1,60}")
_VARIABLES = re.compile(r"ema_decay$|^warmup_\w*iters$", re.IGNORECASE)  # inside of functions
_COUNT = re.compile(r"(?:^|_)tokens$|tokens_(?:seen|scored)|(?:^|_)(?:scored|seen)$", re.IGNORECASE)
_OPTION = re.compile(r"--[a-z][a-z0-9_-]{1,60}")


@dataclass(frozen=True)
class Constant:
    """A number in the source: `name = value` at a place that can be rewritten. `local` is what a
    function is called with, or its parameter's default."""

    name: str
    value: int | float
    line: int
    column: int
    end_line: int
    end_column: int
    local: bool = False


@dataclass(frozen=True)
class Settings:
    """`environment`: variable to its default as written, None where that is no literal.
    `constants`: the numbers that have a name in the source. `shared`: numbers that are divided by
    the number of ranks (`8 // world_size`), as gradient accumulation is. `gates`: numbers that
    counts of tokens are compared with (`total_tokens < 10000`)."""

    environment: Mapping[str, Value]
    constants: tuple[Constant, ...]
    shared: tuple[Constant, ...] = ()
    gates: tuple[Constant, ...] = ()


def find_settings(tree: ast.Module) -> Settings:
    """Everything of a script that a name can set."""
    environment: dict[str, Value] = {}
    for node in ast.walk(tree):
        for name, default in _reads(node):
            if environment.get(name) is None:
                environment[name] = default
    constants = tuple(_constants(tree))
    return Settings(environment, constants, tuple(_shared(tree)), tuple(_gates(tree)))


def _gates(tree: ast.Module) -> Iterator[Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and len(node.comparators) == 1:
            for count, number in (
                (node.left, node.comparators[0]),
                (node.comparators[0], node.left),
            ):
                name = count.attr if isinstance(count, ast.Attribute) else getattr(count, "id", "")
                if _COUNT.search(name) and isinstance(number, ast.Constant):
                    yield from _named(f"{name} gate", number, local=True)


def _shared(tree: ast.Module) -> Iterator[Constant]:
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(left=ast.Constant(value=int()) as number, op=ast.FloorDiv(), right=by):
                if "world_size" in ast.unparse(by).lower():
                    yield from _named("gradient accumulation", number, local=True)


def literal(node: ast.AST | None) -> Value:
    """The value of a number or string, also of a sum, product or power of numbers."""
    match node:
        case ast.Constant(value=bool(flag)):
            return int(flag)
        case ast.Constant(value=int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            number = literal(operand)
            return -number if isinstance(number, int | float) else None
        case ast.BinOp(left=left, op=operator, right=right):
            return _computed(literal(left), operator, literal(right))
        case ast.Call(func=ast.Name(id="int" | "float" | "str" | "bool"), args=[only]):
            return literal(only)
    return None


def _computed(left: Value, operator: ast.operator, right: Value) -> Value:
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        return None
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div() if right:
            return left / right
        case ast.FloorDiv() if right:
            return left // right
        case ast.LShift() if isinstance(left, int) and isinstance(right, int) and 0 <= right < 64:
            return left << right
        case ast.Pow() if abs(left) <= 10**6 and 0 <= right <= 40:
            return float(left**right) if isinstance(right, float) else left**right
    return None


def _reads(node: ast.AST) -> Iterator[tuple[str, Value]]:
    if isinstance(node, ast.Call) and node.args:
        first = node.args[0]
        if isinstance(first, ast.Constant) and _is_variable(first.value):
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            default = node.args[1] if len(node.args) > 1 else named.get("default")
            yield str(first.value), literal(default)
    match node:
        case (
            ast.Subscript(value=mapping, slice=ast.Constant(value=name))
            | ast.Compare(left=ast.Constant(value=name), comparators=[mapping])
        ):
            if _is_variable(name) and "environ" in ast.unparse(mapping):
                yield str(name), None


def _is_variable(value: object) -> bool:
    return isinstance(value, str) and _VARIABLE.fullmatch(value) is not None


def _constants(tree: ast.Module) -> Iterator[Constant]:
    bodies = [tree.body]
    bodies += [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for body in bodies:
        for statement in body:
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                yield from _constant(statement.targets[0], statement.value)
            elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
                yield from _constant(statement.target, statement.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            option = node.args[0].value
            if isinstance(option, str) and _OPTION.fullmatch(option):
                for keyword in node.keywords:
                    if keyword.arg == "default":
                        yield from _named(option[2:].replace("-", "_"), keyword.value)
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                yield from _named(keyword.arg or "", keyword.value, local=True)
        if isinstance(node, ast.FunctionDef):
            yield from _defaults(node.args)
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
            if isinstance(target, ast.Name) and _VARIABLES.search(target.id):
                yield from _named(target.id, node.value, local=True)


def _defaults(parameters: ast.arguments) -> Iterator[Constant]:
    positional = [*parameters.posonlyargs, *parameters.args]
    pairs = list(zip(reversed(positional), reversed(parameters.defaults), strict=False))
    pairs += [
        (a, d) for a, d in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True) if d
    ]
    for parameter, default in pairs:
        yield from _named(parameter.arg, default, local=True)


def _constant(target: ast.expr, value: ast.expr) -> Iterator[Constant]:
    if isinstance(target, ast.Name):
        yield from _named(target.id, value)


def _named(name: str, value: ast.expr, *, local: bool = False) -> Iterator[Constant]:
    number = literal(value)
    if isinstance(number, int | float) and not isinstance(value, ast.Call):
        end_line, end_column = value.end_lineno, value.end_col_offset
        if end_line is not None and end_column is not None:
            yield Constant(
                name, number, value.lineno, value.col_offset, end_line, end_column, local
            )
