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
        self._lowered: dict[str, tuple[Routine, ...]] = {}

    def named(self, name: str) -> tuple[Routine, ...]:
        """The functions of that name."""
        if name not in self._lowered:
            found = self._found.get(name, ())
            self._lowered[name] = tuple(lower(m, name, node) for m, node in found)
        return self._lowered[name]

    def where(self, accepts: Callable[[str], bool]) -> list[Routine]:
        """The functions whose text is accepted."""
        chosen: list[Routine] = []
        for name, found in self._found.items():
            for number, (module, node) in enumerate(found):
                if accepts(module.text(node)):
                    chosen.append(self.named(name)[number])
        return chosen
