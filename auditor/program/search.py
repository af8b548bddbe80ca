"""Finds what holds some text in a module, without walking its whole tree."""

import ast
import re
from collections.abc import Collection, Iterator, Mapping

from auditor.program.index import FunctionNode, Module
from auditor.syntax import statements, walk


def functions_holding(
    module: Module, pattern: re.Pattern[str], words: Collection[str]
) -> list[FunctionNode]:
    """The innermost functions with a match, in order of their places. Every match holds one of
    `words`: most modules hold none of them, and are not searched.
    """
    if not any(word in module.source for word in words):
        return []
    found: dict[int, FunctionNode] = {}
    for line in _lines_matching(module, pattern):
        inner = innermost(module, line)
        if inner is not None:
            found[inner.lineno] = inner
    return [found[line] for line in sorted(found)]


def innermost(module: Module, line: int) -> FunctionNode | None:
    """The innermost function around a line."""
    around = [
        node
        for node in module.functions.values()
        if node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=lambda node: node.lineno, default=None)


def calls_matching(module: Module, pattern: re.Pattern[str]) -> Iterator[tuple[ast.Call, str]]:
    """Calls in statements that match, each with its dotted name as imported (`os.path.join`).

    A statement also matches where it uses a name under which an import binds what matches. Whether
    a call runs is not looked at. A name that no import binds stays as written.
    """
    lines = _lines_matching(module, pattern)
    if not lines:
        return
    names = imported_as(module)
    others = "|".join(re.escape(name) for name, full in names.items() if pattern.search(full))
    if others:
        lines += _lines_matching(module, re.compile(rf"\b(?:{others})\b"))
    for root in _roots(module, lines):
        for node in walk(root):
            if isinstance(node, ast.Call) and (dotted := _dotted(node.func)) is not None:
                first, _, rest = dotted.partition(".")
                full = names.get(first, first) + (f".{rest}" if rest else "")
                yield node, full


def imported_as(module: Module) -> Mapping[str, str]:
    """What each name stands for that an import binds, wherever in the module it is."""
    found: dict[str, str] = {}
    for root in module.tree.body:
        for node in (root, *statements(root)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def is_conditional(module: Module, line: int) -> bool:
    """True if a branch, a handler or a function stands between the module's level and a line."""
    body: list[ast.stmt] = module.tree.body
    while True:
        around = next((n for n in body if n.lineno <= line <= (n.end_lineno or n.lineno)), None)
        if isinstance(around, ast.With):
            body = around.body
        elif isinstance(around, ast.Try) and around.body[-1].end_lineno is not None:
            if line > around.body[-1].end_lineno:
                return True
            body = around.body
        else:
            return isinstance(around, ast.stmt) and hasattr(around, "body")


def _lines_matching(module: Module, pattern: re.Pattern[str]) -> list[int]:
    lines: list[int] = []
    line, at = 1, 0
    for match in pattern.finditer(module.source):
        line += module.source.count("\n", at, match.start())
        at = match.start()
        lines.append(line)
    return lines


def _roots(module: Module, lines: list[int]) -> list[ast.AST]:
    """The outermost statements of the module around some lines, each once."""
    wanted = sorted(set(lines))
    found: list[ast.AST] = []
    index = 0
    for node in module.tree.body:
        last = node.end_lineno or node.lineno
        while index < len(wanted) and wanted[index] < node.lineno:
            index += 1
        if index < len(wanted) and wanted[index] <= last:
            found.append(node)
    return found


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}" if inner is not None else None
    return None
