"""The Python functions of a program, lowered to steps one by one when they are asked for."""

from collections.abc import Callable, Sequence

from auditor.program.index import FunctionNode, Module
from auditor.program.python_steps import lower
from auditor.program.steps import Routine


class Routines:
    """Functions by the last part of their name; lowering them all would take most of an audit."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self._found: dict[str, list[tuple[Module, FunctionNode]]] = {}
        for module in modules:
            for name, node in module.functions.items():
                self._found.setdefault(name.rpartition(".")[2], []).append((module, node))
        self._lowered: dict[FunctionNode, Routine] = {}

    def named(self, name: str) -> tuple[Routine, ...]:
        """The functions of that name."""
        return tuple(self._routine(m, name, node) for m, node in self._found.get(name, ()))

    def where(self, accepts: Callable[[str], bool]) -> list[Routine]:
        """The functions whose text is accepted."""
        return [
            self._routine(module, name, node)
            for name, found in self._found.items()
            for module, node in found
            if accepts(module.text(node))
        ]

    def _routine(self, module: Module, name: str, node: FunctionNode) -> Routine:
        if node not in self._lowered:
            self._lowered[node] = lower(module, name, node)
        return self._lowered[node]
