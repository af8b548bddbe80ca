"""Compares what branches print with what the logs hold: a proof, or a doubt, that a branch ran."""

import ast
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

from auditor.program.configuration import Configuration, fingerprint
from auditor.program.index import Program
from auditor.syntax import children, walk

_SCORE = "val_bpb"
_LOOSE = " \t:=|,-"  # what joins the name of a score to its number
_NAMES = re.compile(r"val_(?:loss|bpb)")
TELLING = 12  # characters by which a logged line is told from others


class Logged:
    """The logs' lines, against the lines that a program can print."""

    def __init__(self, program: Program, configuration: Configuration) -> None:
        self._program = program
        self._printed = configuration.printed
        self._scores = configuration.scores
        self._known: dict[ast.If, bool | None] = {}
        self._spans: dict[ast.If, tuple[int, int]] = {}  # of a branch's lines among all

    def show(self, node: ast.If) -> bool | None:
        """Whether the branch taken by `node` ran: True if the logs hold a line that nothing else
        prints, False if they hold none of the lines it prints, None if it prints nothing telling.

        That a line is missing says nothing where the logs are another version's.
        """
        if not self._printed:
            return None
        if node not in self._known:
            self._known[node] = self._compare(node)
        return self._known[node]

    def _compare(self, node: ast.If) -> bool | None:
        everything = self._starts
        first, last = self._spans[node]
        starts = Counter(everything[first:last])
        own = [s for s, count in starts.items() if self._everywhere[s] == count]
        if not own:
            return None
        return any(map(self._holds, own)) or (None if self._of_another_version else False)

    @cached_property
    def _of_another_version(self) -> bool:
        """Whether each log ends with a score that no line of the program can have printed."""
        lines = [line for m in self._program.modules for line in _lines(m.tree, _SCORE)]
        known = [_NAMES.split(line, 1) for line in lines if not _NAMES.match(line)]
        return bool(known and self._scores) and not any(
            # What stands before the number's name is known to its end, or only how it begins.
            score.endswith(begin.strip(_LOOSE)) if rest else begin.strip(_LOOSE) in score
            for score in self._scores
            for begin, *rest in known
        )

    def _holds(self, start: str) -> bool:
        at = bisect_left(self._printed, start)
        return at < len(self._printed) and self._printed[at].startswith(start)

    @cached_property
    def _everywhere(self) -> Counter[str]:
        return Counter(self._starts)

    @cached_property
    def _starts(self) -> list[str]:
        """How the lines begin that calls are given, each branch's next to each other."""
        starts: list[str] = []
        # What is still to be visited, last first; an `if` and a number end that `if`'s body.
        waiting: list[ast.AST | tuple[ast.If, int]] = [m.tree for m in self._program.modules]
        while waiting:
            node = waiting.pop()
            if isinstance(node, tuple):
                self._spans[node[0]] = (node[1], len(starts))
                continue
            if isinstance(node, ast.Call):
                starts += _start(node)
            if isinstance(node, ast.If):
                waiting += [*node.orelse, node.test, (node, len(starts)), *node.body]
            else:
                waiting += children(node)
        return starts


def _start(call: ast.Call) -> list[str]:
    """How the line begins that a call is given, where that tells it from others."""
    return [
        start
        for line in _line(call, "")
        if len(start := fingerprint(line)) >= TELLING and (" " in start or ":" in start)
    ]


def _lines(node: ast.AST, holding: str) -> Iterator[str]:
    """The lines that hold some text of those that calls under `node` are given."""
    for inner in walk(node):
        if isinstance(inner, ast.Call):
            yield from _line(inner, holding)


def _line(call: ast.Call, holding: str) -> list[str]:
    """The text that a call is given, up to the first piece that is not constant; none if no piece
    of it holds `holding`.
    """
    if not call.args:
        return []
    text = call.args[0]
    pieces = text.values if isinstance(text, ast.JoinedStr) else [text]
    constants = [_constant(piece) for piece in pieces]
    return constants[:1] if any(text and holding in text for text in constants) else []


def _constant(node: ast.expr) -> str:
    """A constant text; empty where it is none."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
