"""Loads the definitions of a script without running it as a program.

Its top-level statements are executed one by one, under a name other than `__main__`. One that
fails is noted and skipped: a missing data file must not hide the scorer defined below it. A module
that is not installed and imported without a guard becomes a stand-in, which raises as soon as it is
used for more than definitions. A bare call of one of the script's own functions is the program
itself and is skipped.
"""

import __future__

import ast
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

Literal = tuple[int, int, int, int]  # line, column, value written, value to use


class Loaded(types.SimpleNamespace):
    """`module`, what was `skipped` and why, and which modules are `absent`."""

    module: types.ModuleType
    skipped: list[str]
    absent: list[str]


class Absent:
    """Stands for anything of a module that is not installed."""

    defining = True  # once False, nothing may be called any more

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "Absent":
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __call__(self, *arguments: Any, **_: Any) -> Any:
        if not Absent.defining:
            raise RuntimeError(f"it calls {self._name}, which is not installed here")
        decorated = len(arguments) == 1 and callable(arguments[0])
        return arguments[0] if decorated else self

    def __getitem__(self, _: Any) -> Self:
        return self

    def __mro_entries__(self, _: Any) -> tuple[type, ...]:
        return (object,)


class _AbsentModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        return [] if name == "__path__" else Absent(f"{self.__name__}.{name}")


def load(path: Path, literals: Iterable[Literal] = ()) -> Loaded:
    """Defines what `path` defines. Raises `SyntaxError` where this Python cannot read it."""
    tree = ast.parse(path.read_bytes(), str(path))
    _Rewrite(literals).visit(tree)
    module = types.ModuleType("submission")
    module.__file__ = str(path)
    sys.modules["submission"] = module
    sys.argv = [str(path)]
    loaded = Loaded(module=module, skipped=[], absent=[])
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    flags = 0
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            for alias in statement.names:
                flags |= getattr(__future__, alias.name).compiler_flag
        if _starts_program(statement, functions):
            loaded.skipped.append(f"line {statement.lineno}: starts the program")
            continue
        code = compile(
            ast.Module([statement], []), str(path), "exec", flags=flags, dont_inherit=True
        )
        _execute(code, statement, loaded)
    return loaded


def _execute(code: types.CodeType, statement: ast.stmt, loaded: Loaded) -> None:
    for _ in range(50):  # each round supplies one more absent module
        try:
            exec(code, loaded.module.__dict__)
        except ModuleNotFoundError as error:
            if error.name is None or not isinstance(statement, ast.Import | ast.ImportFrom):
                loaded.skipped.append(_told(statement, error))
                return
            loaded.absent.append(error.name)
            sys.modules[error.name] = _AbsentModule(error.name)
        except BaseException as error:
            loaded.skipped.append(_told(statement, error))
            return
        else:
            return


def _told(statement: ast.stmt, error: BaseException) -> str:
    return f"line {statement.lineno}: {type(error).__name__}: {str(error)[:200]}"


def _starts_program(statement: ast.stmt, functions: set[str]) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    return (
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in functions
    )


class _Rewrite(ast.NodeTransformer):
    """Puts other values in the place of integer literals, found by line and column."""

    def __init__(self, literals: Iterable[Literal]) -> None:
        self.values = {(line, column, old): new for line, column, old, new in literals}

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, int | str) and str(node.value).isdecimal():
            new = self.values.get((node.lineno, node.col_offset, int(node.value)))
            if new is not None:
                return ast.copy_location(ast.Constant(type(node.value)(new)), node)
        return node
