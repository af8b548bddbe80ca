"""Evaluates the script's own expressions in its own namespace, to pass what the script passes.

An expression such as `args.mixer_eta` names local variables of a function that does not run here.
Such a name stands for the script's configuration: its attributes are looked up in the instances
that the module holds, then in the instances inside those, then in the class bodies.
"""

import ast
import builtins
import types
from collections.abc import Iterator
from typing import Any


class Unresolved(Exception):  # noqa: N818
    """An expression depends on something that only a run of the script would know."""


class _Configuration:
    """Stands for a variable of which only attributes are known."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        for holder in _holders(self._module):
            if name in vars(holder):
                return vars(holder)[name]
        # Not AttributeError: getattr(args, name, default) must not take the default for granted.
        raise Unresolved(name)


def evaluate(module: types.ModuleType, text: str) -> Any:
    """The value of `text`. Raises `Unresolved` where the namespace does not decide it."""
    names = {n.id for n in ast.walk(ast.parse(text, mode="eval")) if isinstance(n, ast.Name)}
    namespace = dict(vars(module))
    for name in names - namespace.keys() - vars(builtins).keys():
        namespace[name] = _Configuration(module)
    try:
        value = eval(text, namespace)
    except Unresolved:
        raise
    except Exception as error:
        raise Unresolved(f"{text}: {error}") from None
    if isinstance(value, _Configuration):
        raise Unresolved(text)
    return value


def _holders(module: types.ModuleType) -> Iterator[Any]:
    values = list(vars(module).values())
    instances = [v for v in values if _is_instance(module, v)]
    yield from instances
    for instance in instances:
        yield from (v for v in vars(instance).values() if _is_instance(module, v))
    yield from (v for v in values if isinstance(v, type) and v.__module__ == module.__name__)


def _is_instance(module: types.ModuleType, value: Any) -> bool:
    return type(value).__module__ == module.__name__ and hasattr(value, "__dict__")
