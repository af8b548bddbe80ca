"""What ran: every environment variable that the script reads, its value, and who decided it.

Also tells which of them decide whether a line runs at all: those that the conditions test which
stand around it, and around every call on the way to it.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from auditor.finding import Evidence
from auditor.program.configuration import Configuration
from auditor.program.index import FunctionNode, Module, Program
from auditor.syntax import walk

_SWITCH = {"0": False, "1": True, "false": False, "true": True, "off": False, "on": True}

_NUMBERS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "SEED"}  # a 0 or 1 here switches nothing


class Decider(StrEnum):
    """Who decided a variable's value, by rising weight."""

    DEFAULT = "default"
    LAUNCHER = "launcher"
    README = "README"
    SCRIPT = "shell script"
    LOG = "log"
    OVERRIDE = "override"


@dataclass(frozen=True)
class Variable:
    """An environment variable that the script reads, as the run had it.

    `evidence` is the line that the value is known from.
    """

    name: str
    value: str
    decider: Decider
    evidence: Evidence

    @property
    def switch(self) -> bool | None:
        """On or off; None where the value is neither."""
        if self.name in _NUMBERS:
            return None
        return _SWITCH.get(self.value.strip().lower())

    def to_json(self) -> dict[str, Any]:
        """As a report for machines holds it."""
        return {
            "name": self.name,
            "value": self.value,
            "decided_by": self.decider.value,
            "evidence": self.evidence.to_json(),
        }


class WhatRan:
    """The run of a program under a configuration. `read` maps the variables that the script asked
    for to the values that it got.
    """

    def __init__(
        self, program: Program, configuration: Configuration, read: Mapping[str, str]
    ) -> None:
        self._program = program
        self._configuration = configuration
        self._read = read

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """Every variable that was read, by name."""
        return tuple(self._variable(name) for name in sorted(self._read))

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Overrides that the script never asked for."""
        settings = self._configuration.settings
        return tuple(
            name
            for name in sorted(settings)
            if name not in self._read and _decider(settings[name].evidence) is Decider.OVERRIDE
        )

    def _variable(self, name: str) -> Variable:
        setting = self._configuration.settings.get(name)
        if setting is None:
            return Variable(name, self._read[name], Decider.DEFAULT, self._default(name))
        return Variable(name, setting.value, _decider(setting.evidence), setting.evidence)

    def _default(self, name: str) -> Evidence:
        module, line = self._mentions.get(name, (self._program.main, 0))
        return Evidence(module.path, line, module.line(line)[:200])

    @cached_property
    def _mentions(self) -> dict[str, tuple[Module, int]]:
        """The first line that names each variable."""
        found: dict[str, tuple[Module, int]] = {}
        for module in self._program.modules:
            for node in module.nodes_of(ast.Constant):
                name = node.value
                if isinstance(name, str) and name in self._read:
                    known = found.get(name)
                    if known is None or (known[0] is module and node.lineno < known[1]):
                        found[name] = (module, node.lineno)
        return found

    def deciding(self, places: Iterable[Evidence]) -> tuple[str, ...]:
        """The variables that decide whether any of some lines run."""
        found: set[str] = set()
        for place in places:
            for module in self._program.modules:
                if module.path == place.path:
                    found |= self._around(module, place.line, frozenset())
        return tuple(sorted(found))

    def _around(self, module: Module, line: int, via: frozenset[str]) -> frozenset[str]:
        """The variables tested around a line and around all calls of the function that holds it."""
        found: set[str] = set()
        for test, first, last in self._tests[module.path]:
            if first <= line <= last:
                found |= self._named_in(test)
        function = _innermost(module, line)
        if function is not None and function.name not in via:
            calls = self._calls.get(function.name, [])
            ways = [self._around(m, at, via | {function.name}) for m, at in calls]
            if ways:  # what every call is under
                found |= frozenset.intersection(*ways)
        return frozenset(found)

    def _named_in(self, test: ast.expr) -> set[str]:
        return {name for word in _words(test) for name in self._variables_of.get(word, ())}

    @cached_property
    def _variables_of(self) -> Mapping[str, frozenset[str]]:
        """Names and attributes that hold a variable's value, or something made only under it."""
        held: defaultdict[str, set[str]] = defaultdict(set)
        made_under: list[tuple[ast.expr, ast.expr]] = []
        for module in self._program.modules:
            for node in module.nodes:
                if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                    continue
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if isinstance(node.value, ast.IfExp):
                    made_under += [(target, node.value.test) for target in targets]
                elif not (isinstance(node.value, ast.Call) and node.value.keywords):
                    for word in (w for target in targets for w in _words(target)):
                        held[word] |= _constants(node.value).intersection(self._read)
        for target, test in made_under:
            names = _constants(test).intersection(self._read)
            names.update(*(held.get(word, ()) for word in _words(test)))
            for word in _words(target):
                held[word] |= names
        return {word: frozenset(names) for word, names in held.items() if len(names) == 1}

    @cached_property
    def _tests(self) -> dict[str, list[tuple[ast.expr, int, int]]]:
        """Conditions with the lines of what they decide."""
        return {module.path: list(_conditions(module)) for module in self._program.modules}

    @cached_property
    def _calls(self) -> dict[str, list[tuple[Module, int]]]:
        """Where something of a name is called."""
        found: dict[str, list[tuple[Module, int]]] = {}
        for module in self._program.modules:
            for node in module.nodes_of(ast.Call):
                if isinstance(node.func, ast.Name | ast.Attribute):
                    func = node.func
                    name = func.id if isinstance(func, ast.Name) else func.attr
                    found.setdefault(name, []).append((module, node.lineno))
        return found


def _decider(evidence: Evidence) -> Decider:
    name = PurePosixPath(evidence.path).name.lower()
    if not evidence.path:
        return Decider.OVERRIDE if evidence.text.startswith("--set ") else Decider.LAUNCHER
    if name.startswith("readme"):
        return Decider.README
    return Decider.SCRIPT if name.endswith(".sh") else Decider.LOG


def _conditions(module: Module) -> Iterator[tuple[ast.expr, int, int]]:
    branches: list[ast.If | ast.While] = [*module.nodes_of(ast.If), *module.nodes_of(ast.While)]
    for node in branches:
        first = node.body[0].lineno
        yield node.test, first, node.end_lineno or first
    for choice in module.nodes_of(ast.IfExp):
        yield choice.test, choice.lineno, choice.end_lineno or choice.lineno


def _innermost(module: Module, line: int) -> FunctionNode | None:
    around = [
        node
        for node in module.functions.values()
        if node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=lambda node: node.lineno, default=None)


def _words(node: ast.expr) -> set[str]:
    """The names and attributes in an expression."""
    return {
        inner.id if isinstance(inner, ast.Name) else inner.attr
        for inner in walk(node)
        if isinstance(inner, ast.Name | ast.Attribute)
    }


def _constants(node: ast.expr) -> set[str]:
    return {
        inner.value
        for inner in walk(node)
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
    }
