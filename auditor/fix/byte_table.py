"""B1: takes the mark of a leading space out of the byte table where the scorer adds its byte.

Certain only where the table's line adds one to the rest of the piece, or where one expression of it
writes a space in the place of the mark.
"""

import ast

from auditor.finding import Finding
from auditor.fix.lines import rewritten, statements, text_of

WORDS = "the table counts a piece without the mark of its leading space, which the scorer adds"


def rewrite(finding: Finding, path: str, source: str) -> str | None:
    """The source with the mark removed before the bytes are counted."""
    place = finding.evidence[0] if finding.evidence else None
    if place is None or place.path != path:
        return None
    for statement in statements(source, place.line):
        if isinstance(statement, ast.Assign) and (rest := _without_one(statement.value)):
            return rewritten(source, statement, statement.value, text_of(source, rest))
        found = [pair for node in ast.walk(statement) if (pair := _writes_space(node)) is not None]
        if len(found) == 1:
            ((call, piece),) = found
            plain = f'{text_of(source, piece)}.removeprefix("\\u2581").replace("\\u2581", " ")'
            return rewritten(source, statement, call, plain)
    return None


def _without_one(value: ast.expr) -> ast.expr | None:
    """The other side of a sum with one, if `value` is such a sum."""
    match value:
        case ast.BinOp(left=rest, op=ast.Add(), right=ast.Constant(value=1)):
            return rest
        case ast.BinOp(left=ast.Constant(value=1), op=ast.Add(), right=rest):
            return rest
    return None


def _writes_space(node: ast.AST) -> tuple[ast.Call, ast.expr] | None:
    """A call `piece.replace(MARK, " ")`, with the piece."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=piece, attr="replace"),
            args=[ast.Constant(value="\u2581"), ast.Constant(value=" ")],
            keywords=[],
        ):
            return node, piece
    return None
