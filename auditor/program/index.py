"""The index of a submission's program: its main script, the modules beside it, their definitions.

Built without importing anything of the submission. A script that cannot be parsed still gets a
`Program`, whose `problem` says why; rules then answer `unknown`.
"""

import ast
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from auditor.program.source import parse
from auditor.submission.model import SourceFile, Submission
from auditor.syntax import inside, statements, walk

if TYPE_CHECKING:
    from auditor.program.native import NativeSource
    from auditor.program.routines import Routines
    from auditor.submission.unpack import Unpacked

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
N = TypeVar("N", bound=ast.AST)


@dataclass(frozen=True)
class Module:
    """One parsed file. `name` is what `import` calls it; the main script is `__main__`."""

    name: str
    path: str
    source: str
    tree: ast.Module

    def line(self, number: int) -> str:
        """The text of line `number` (from 1), stripped; empty where there is none."""
        lines = self._lines
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""

    def text(self, node: FunctionNode) -> str:
        """The lines of a function."""
        return "\n".join(self._lines[node.lineno - 1 : node.end_lineno])

    @cached_property
    def _lines(self) -> list[str]:
        return self.source.splitlines()

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree but operators and contexts, breadth first."""
        return walk(self.tree)

    def nodes_of(self, kind: type[N]) -> list[N]:
        """The nodes of that very class, breadth first."""
        return self._by_kind.get(kind, [])

    @cached_property
    def _by_kind(self) -> Mapping[type[ast.AST], list[Any]]:
        found: defaultdict[type[ast.AST], list[Any]] = defaultdict(list)
        for node in self.nodes:
            found[type(node)].append(node)
        return found

    @cached_property
    def functions(self) -> Mapping[str, FunctionNode]:
        """Every function by qualified name (`Class.method`, `outer.inner`)."""
        return {
            name: node for name, node in self._definitions if not isinstance(node, ast.ClassDef)
        }

    @cached_property
    def classes(self) -> Mapping[str, ast.ClassDef]:
        """Every class by qualified name."""
        return {name: node for name, node in self._definitions if isinstance(node, ast.ClassDef)}

    @cached_property
    def _definitions(self) -> list[tuple[str, FunctionNode | ast.ClassDef]]:
        found: list[tuple[str, FunctionNode | ast.ClassDef]] = []
        open_bodies: list[tuple[str, ast.AST]] = [("", self.tree)]
        while open_bodies:
            prefix, parent = open_bodies.pop()
            for node in inside(parent):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    found.append((prefix + node.name, node))
                    open_bodies.append((f"{prefix}{node.name}.", node))
                else:
                    open_bodies.append((prefix, node))
        return found


@dataclass(frozen=True)
class Program:
    """What the rules and probes know of a script.

    `path` is the shipped main file, followed by `!unpacked` where `source` was decoded from it.
    `tree` is None exactly if `problem` says why. `files` holds the record folder's other Python
    files, by module name (`helpers.mixer`); `others` its files of any other kind, by path.
    """

    path: str
    source: str
    tree: ast.Module | None
    problem: str | None = None
    files: Mapping[str, SourceFile] = field(default_factory=dict)
    others: Mapping[str, SourceFile] = field(default_factory=dict)

    @cached_property
    def main(self) -> Module:
        """The main script as a module; empty where it could not be parsed."""
        return Module("__main__", self.path, self.source, self.tree or ast.Module([], []))

    @cached_property
    def siblings(self) -> Mapping[str, Module]:
        """The files of the folder that the main script imports, directly or not, if they parse."""
        found: dict[str, Module] = {}
        waiting = [self.main]
        while waiting:
            for name in imported_names(waiting.pop().tree):
                if name in self.files and name not in found:
                    file = self.files[name]
                    source = file.data.decode("utf-8", errors="replace")
                    tree = parse(source).tree
                    if tree is not None:
                        found[name] = Module(name, file.path, source, tree)
                        waiting.append(found[name])
        return found

    @property
    def modules(self) -> tuple[Module, ...]:
        """The main script, then the siblings that it imports."""
        return (self.main, *self.siblings.values())

    @cached_property
    def routines(self) -> "Routines":
        """The functions of the modules, lowered to steps when asked for."""
        from auditor.program.routines import Routines

        return Routines(self.modules)

    @cached_property
    def native(self) -> "tuple[NativeSource, ...]":
        """C, C++ and CUDA sources beside the script or inside it."""
        from auditor.program.native import native_sources

        return native_sources(self.modules, self.others)


def imported_names(tree: ast.Module) -> set[str]:
    """Every module that some `import` may name; `from a import b` names `a` and `a.b`."""
    names: set[str] = set()
    for node in statements(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names.add(base)
            names.update(f"{base}.{alias.name}".lstrip(".") for alias in node.names)
    return names


def build(submission: Submission, unpacked: "Unpacked") -> Program:
    """Indexes the unpacked main script and the Python files beside it. Never raises."""
    main = submission.main.path
    path = f"{main}!unpacked" if unpacked.layers else main
    if unpacked.problem is not None:
        return Program(path, unpacked.source, None, unpacked.problem)
    parsed = parse(unpacked.source)
    files = {
        _module_name(path): file
        for path, file in submission.files.items()
        if path.endswith(".py") and file.path != main
    }
    others = {p: file for p, file in submission.files.items() if not p.endswith(".py")}
    return Program(path, unpacked.source, parsed.tree, parsed.problem, files, others)


def _module_name(path: str) -> str:
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
