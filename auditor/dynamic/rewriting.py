"""Changes numbers in a source without moving a line, and its grammar where that is too new.

Columns are `ast`'s: bytes of UTF-8 in the line.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from auditor.dynamic.settings import Constant
from auditor.program.fstrings import respell


@dataclass(frozen=True)
class Edit:
    """The number of `constant` is to be `value`."""

    constant: Constant
    value: int | float


def readable(source: str) -> str:
    """`source` in a grammar that this interpreter reads, if it can be had; lines stay in place."""
    try:
        ast.parse(source.removeprefix("\ufeff"))
    except SyntaxError:
        return respell(source) or source
    except (ValueError, RecursionError, MemoryError):
        return source
    return source


def rewrite(source: str, edits: Iterable[Edit]) -> str:
    """`source` with other numbers. An expression over several lines keeps its line breaks."""
    lines = [line.encode() for line in source.split("\n")]
    for edit in sorted(edits, key=lambda e: (e.constant.line, e.constant.column), reverse=True):
        place = edit.constant
        first, last = lines[place.line - 1], lines[place.end_line - 1]
        breaks = place.end_line - place.line
        # Parentheses hold the expression's lines together, so the breaks may stand inside them.
        number = repr(edit.value).encode()
        new = b"(" + number + b"\n" * breaks + b")" if breaks else number
        changed = first[: place.column] + new + last[place.end_column :]
        lines[place.line - 1 : place.end_line] = changed.split(b"\n")
    return b"\n".join(lines).decode()
