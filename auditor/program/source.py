"""Source text to syntax tree, within limits, whatever the running interpreter's grammar.

`ast` is the front end. Where it refuses a script only because the script's nested f-strings
(PEP 701, Python 3.12) are newer than the interpreter, each such f-string is respelled as an
equivalent `str.format` call on the same lines, so that the rest of the auditor sees the same
program with the same line numbers. Third-party code is never imported or executed.
"""

import ast
import sys
from dataclasses import dataclass

from auditor.program.fstrings import respell
from auditor.syntax import tree_of

SOURCE_LIMIT = 8_000_000  # bytes; the largest script of the field has 1.6 million


@dataclass(frozen=True)
class Parsed:
    """A tree, or the one line that says why there is none."""

    tree: ast.Module | None
    problem: str | None = None


def parse(source: str) -> Parsed:
    """Parses `source`. Never raises: one tree or one problem comes back, whatever the text."""
    if len(source) > SOURCE_LIMIT:
        return Parsed(None, f"{len(source):,} characters, the limit is {SOURCE_LIMIT:,}")
    if not source.strip():
        return Parsed(None, "the file is empty")
    try:
        return Parsed(_parse(source))
    except SyntaxError as error:
        refusal = f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    except ValueError as error:  # null bytes, lone surrogates
        return Parsed(None, str(error))
    except (RecursionError, MemoryError):
        return Parsed(None, "nested too deeply to be parsed")
    return _parse_newer_grammar(source, refusal)


def _parse(source: str) -> ast.Module:
    return tree_of(source.removeprefix("\ufeff"))


def _parse_newer_grammar(source: str, refusal: str) -> Parsed:
    if sys.version_info >= (3, 12) or ("f'" not in source and 'f"' not in source):
        return Parsed(None, refusal)
    try:
        respelled = respell(source)
        return Parsed(_parse(respelled) if respelled is not None else None, refusal)
    except (SyntaxError, ValueError):
        return Parsed(None, refusal)
    except (RecursionError, MemoryError):
        return Parsed(None, "nested too deeply to be parsed")
