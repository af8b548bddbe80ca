"""Native code of a submission: C, C++ and CUDA, in files beside the script or in its strings.

It is parsed with tree-sitter where that is installed (the extra `native`) and never compiled. What
cannot be read is listed with the reason.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from auditor.program.index import Module
from auditor.program.native_steps import routines
from auditor.program.steps import Routine
from auditor.submission.model import SourceFile

MAX_SOURCE = 1_000_000  # bytes of one source that are parsed
_LANGUAGES = {
    ".c": "C",
    ".h": "C++",
    ".cc": "C++",
    ".cpp": "C++",
    ".cxx": "C++",
    ".hpp": "C++",
    ".cu": "CUDA",
    ".cuh": "CUDA",
}
_UNREADABLE = {".so": "a compiled library", ".rs": "Rust", ".pyx": "Cython", ".a": "a library"}
_INCLUDE = re.compile(r"^[ \t]{0,20}#[ \t]{0,4}include[ \t]{0,4}[<\"]", re.MULTILINE)
_CUDA = re.compile(r"__global__|__device__|<cuda")


@dataclass(frozen=True)
class NativeSource:
    """One source, from `line` to `last` of its file; `problem` says why it was not read."""

    path: str
    line: int
    last: int
    language: str
    text: str
    routines: tuple[Routine, ...] = ()
    problem: str | None = None

    @property
    def note(self) -> str | None:
        """What a report says of code that was not read."""
        if self.problem is None:
            return None
        place = f"{self.path}:{self.line}" if self.line > 1 else self.path
        return f"{place}: {self.language} code: {self.problem}"


def native_sources(
    modules: Iterable[Module], files: Mapping[str, SourceFile]
) -> tuple[NativeSource, ...]:
    """Every native source, files first; parsed where that is possible. Never raises."""
    found = [*_in_files(files), *(s for m in modules for s in _in_strings(m))]
    return tuple(_parsed(s) if s.problem is None else s for s in found)


def _in_files(files: Mapping[str, SourceFile]) -> Iterator[NativeSource]:
    for name in sorted(files):
        suffix = PurePosixPath(name).suffix.lower()
        file = files[name]
        if suffix in _UNREADABLE:
            yield NativeSource(file.path, 1, 1, _UNREADABLE[suffix], "", (), "no reader for it")
        elif suffix in _LANGUAGES:
            text = file.data[:MAX_SOURCE].decode("utf-8", errors="replace")
            problem = "too large" if len(file.data) > MAX_SOURCE else None
            last = text.count("\n") + 1
            yield NativeSource(file.path, 1, last, _LANGUAGES[suffix], text, (), problem)


def _in_strings(module: Module) -> Iterator[NativeSource]:
    """Texts that include headers or define functions with braces; Triton kernels by decorator."""
    if "#include" in module.source or "__global__" in module.source:
        for node in module.nodes_of(ast.Constant):
            if isinstance(node.value, str):
                text, cuda = node.value, _CUDA.search(node.value) is not None
                if (cuda or _INCLUDE.search(text)) and "{" in text:
                    problem = "too large" if len(text) > MAX_SOURCE else None
                    language = "CUDA" if cuda else "C++"
                    last = node.end_lineno or node.lineno
                    yield NativeSource(module.path, node.lineno, last, language, text, (), problem)
    if "triton" in module.source:
        kernels = [
            (function.lineno, name)
            for name, function in module.functions.items()
            if any("triton.jit" in ast.unparse(d) for d in function.decorator_list)
        ]
        for first, _ in sorted(kernels)[:1]:
            names = ", ".join(name for _, name in sorted(kernels))
            problem = f"what kernels compute is not followed: {names}"
            yield NativeSource(module.path, first, first, "Triton", "", (), problem)


def _parsed(source: NativeSource) -> NativeSource:
    try:
        import tree_sitter
        import tree_sitter_c
        import tree_sitter_cpp
    except ImportError:
        return replace(source, problem="not read; it needs the extra `native`")
    grammar = tree_sitter_c if source.language == "C" else tree_sitter_cpp
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    root = parser.parse(source.text.encode()).root_node
    try:
        found = routines(root, source.path, source.line, source.last)
    except RecursionError:
        return replace(source, problem="nested too deeply to be read")
    return replace(source, routines=tuple(found))
