"""JSON that remembers on which line each value stands, so that a report can point at it."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_DEPTH = 12
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')

Path = tuple[str | int, ...]


class JsonError(Exception):
    """What is wrong with a JSON text, and where: `line` and `column` count from 1."""

    def __init__(self, what: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {what}")
        self.line = line
        self.column = column


def parse(text: str) -> tuple[Any, Mapping[Path, int]]:
    """The value of a JSON text, and the line of every value by its path of keys and indices.

    A byte order mark is accepted. Raises `JsonError`.
    """
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise JsonError("the file is empty", 1, 1)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, error.lineno, error.colno) from None
    except RecursionError:
        raise JsonError("nested too deeply", 1, 1) from None
    except ValueError as error:  # a number with too many digits
        raise JsonError(str(error).split(";")[0], 1, 1) from None
    return value, dict(_lines(text))


def _lines(text: str) -> Iterator[tuple[Path, int]]:
    """The path and line of every value of a text that is known to be valid JSON."""
    # One entry for each open container: its key (None while one is awaited) or its index.
    path: list[str | int | None] = []
    line, at = 1, 0
    for match in TOKEN.finditer(text):
        token = match.group()
        line += text.count("\n", at, match.start())
        at = match.start()
        if token == ",":
            path[-1] = path[-1] + 1 if isinstance(path[-1], int) else None
        elif token in ("}", "]"):
            path.pop()
        elif token != ":":
            if path and path[-1] is None:
                path[-1] = str(json.loads(token))
                continue
            if len(path) <= MAX_DEPTH:
                yield tuple(part for part in path if part is not None), line
            if token in ("{", "["):
                path.append(None if token == "{" else 0)
