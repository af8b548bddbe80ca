"""Small tools that every patch uses."""

import importlib.machinery
import sys
import types
from collections import Counter
from collections.abc import Callable
from typing import Any

used: Counter[str] = Counter()  # how often the script came through which patch


def replace(owner: Any, **values: Any) -> None:
    """Sets attributes of a module or class, whatever a type checker knows of them."""
    for name, value in values.items():
        setattr(owner, name, value)


def nothing(*_: Any, **__: Any) -> None:
    """Stands for calls that only manage a device."""


def always(value: Any) -> Callable[..., Any]:
    """A function of anything that returns `value`."""
    return lambda *_, **__: value


def module(name: str, **contents: Any) -> types.ModuleType:
    """Puts a module in the place of `name`, as a package, and into its parent if that exists."""
    made = StandIn(name)
    made.__dict__.update(contents)
    made.__dict__.setdefault("__version__", "3.0.0")
    made.__path__ = []
    made.__file__ = f"<stand-in for {name}>"
    made.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    sys.modules[name] = made
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, made)
    return made


class StandIn(types.ModuleType):
    """A module of which we have a part: what is missing says so when it is asked for."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the stand-in for {self.__name__} has no {name!r}")


class Absent:
    """Anything of a package that is not installed: it may be named, not used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "Absent":
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ModuleNotFoundError(f"{self._name} is needed and not installed here")

    def __mro_entries__(self, _: Any) -> tuple[type, ...]:
        return (object,)


class AbsentModule(types.ModuleType):
    """A package that is not installed and that a script imports without a guard."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}")
