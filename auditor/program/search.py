"""Finds the functions of a module that hold some text, without walking its whole tree."""

import re

from auditor.program.index import FunctionNode, Module


def functions_holding(module: Module, pattern: re.Pattern[str]) -> list[FunctionNode]:
    """The innermost functions with a match, in order of their places."""
    found: dict[int, FunctionNode] = {}
    line, at = 1, 0
    for match in pattern.finditer(module.source):
        line += module.source.count("\n", at, match.start())
        at = match.start()
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
