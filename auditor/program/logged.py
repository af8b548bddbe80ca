"""Compares what branches print with what the logs hold: a proof, or a doubt, that a branch ran."""

import ast
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

from auditor.program.configuration import fingerprint
from auditor.program.index import Program
from auditor.syntax import walk

TELLING = 12  # characters by which a logged line is told from others


class Logged:
    """The logs' lines, against the lines that a program can print."""

    def __init__(self, program: Program, printed: tuple[str, ...]) -> None:
        self._program = program
        self._printed = printed
        self._known: dict[ast.If, bool | None] = {}

    def show(self, node: ast.If) -> bool | None:
        """Whether the branch taken by `node` ran: True if the logs hold a line that nothing else
        prints, False if they hold none of the lines it prints, None if it prints nothing telling.
        """
        if not self._printed:
            return None
        if node not in self._known:
            self._known[node] = self._compare(node)
        return self._known[node]

    def _compare(self, node: ast.If) -> bool | None:
        starts = Counter(s for statement in node.body for s in _prints(statement))
        own = [s for s, count in starts.items() if self._everywhere[s] == count]
        if not own:
            return None
        return any(map(self._holds, own))

    def _holds(self, start: str) -> bool:
        at = bisect_left(self._printed, start)
        return at < len(self._printed) and self._printed[at].startswith(start)

    @cached_property
    def _everywhere(self) -> Counter[str]:
        return Counter(s for module in self._program.modules for s in _prints(module.tree))


def _prints(node: ast.AST) -> Iterator[str]:
    """How the lines begin that a call under `node` is given, as far as they are constant."""
    for inner in walk(node):
        if isinstance(inner, ast.Call) and inner.args:
            text = inner.args[0]
            if isinstance(text, ast.JoinedStr) and text.values:
                text = text.values[0]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                start = fingerprint(text.value)
                if len(start) >= TELLING and (" " in start or ":" in start):
                    yield start
