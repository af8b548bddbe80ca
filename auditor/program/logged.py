"""Compares what branches print with what the logs hold: a proof, or a doubt, that a branch ran."""

import ast
import re
from bisect import bisect_left
from collections import Counter
from functools import cached_property

from auditor.program.configuration import Configuration, fingerprint
from auditor.program.index import Program

_SCORE = "val_bpb"
_LOOSE = " \t:=|,-"  # what joins the name of a score to its number
_NAMES = re.compile(r"val_(?:loss|bpb)")
_TEXTS = (ast.Constant, ast.JoinedStr)
_Place = tuple[int, int, int]  # the module's number, line, column
TELLING = 12  # characters by which a logged line is told from others


class Logged:
    """The logs' lines, against the lines that a program can print."""

    def __init__(self, program: Program, configuration: Configuration) -> None:
        self._program = program
        self._printed = configuration.printed
        self._scores = configuration.scores
        self._known: dict[ast.If, bool | None] = {}

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
        first, last = self._span(node)
        starts = Counter(start for _, start in self._starts[first:last])
        own = [s for s, count in starts.items() if self._everywhere[s] == count]
        if not own:
            return None
        return any(map(self._holds, own)) or (None if self._of_another_version else False)

    @cached_property
    def _of_another_version(self) -> bool:
        """Whether each log ends with a score that no line of the program can have printed."""
        lines = [pieces[0] for _, pieces in self._pieces if any(_SCORE in p for p in pieces)]
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

    def _span(self, node: ast.If) -> tuple[int, int]:
        """Which of the starts are those of the calls in a branch's body."""
        first, last, number = node.body[0], node.body[-1], self._modules[node]
        end = last.end_lineno or last.lineno, last.end_col_offset or last.col_offset
        return (
            bisect_left(self._starts, ((number, first.lineno, first.col_offset), "")),
            bisect_left(self._starts, ((number, *end), "")),
        )

    @cached_property
    def _everywhere(self) -> Counter[str]:
        return Counter(start for _, start in self._starts)

    @cached_property
    def _starts(self) -> list[tuple[_Place, str]]:
        """How the line of each call begins, if that is telling, by the call's place."""
        return sorted((at, start) for at, pieces in self._pieces if (start := _start(pieces)))

    @cached_property
    def _pieces(self) -> list[tuple[_Place, list[str]]]:
        """The pieces of the text that each call is given, and the call's place."""
        return [
            ((number, node.lineno, node.col_offset), _text(node.args[0]))
            for number, module in enumerate(self._program.modules)
            for node in module.nodes_of(ast.Call)
            if node.args and type(node.args[0]) in _TEXTS
        ]

    @cached_property
    def _modules(self) -> dict[ast.AST, int]:
        """The number of the module that a branch is in."""
        return {
            node: number
            for number, module in enumerate(self._program.modules)
            for node in module.nodes_of(ast.If)
        }


def _text(node: ast.expr) -> list[str]:
    """The pieces of a text; empty where they are not constant."""
    return [_constant(p) for p in (node.values if isinstance(node, ast.JoinedStr) else [node])]


def _start(pieces: list[str]) -> str:
    """How a line begins up to the first piece that is not constant, if that is telling."""
    start = fingerprint(pieces[0]) if pieces else ""
    return start if len(start) >= TELLING and (" " in start or ":" in start) else ""


def _constant(node: ast.expr) -> str:
    """A constant text; empty where it is none."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
