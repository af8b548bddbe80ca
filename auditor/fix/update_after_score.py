"""C3: moves a training step behind the score of the same tokens, inside one loop body.

Certain only where the two stand next to each other and share no name that either of them binds.
"""

import ast
from collections.abc import Iterator, Sequence

from auditor.finding import Finding

WORDS = "the step on a chunk comes after the chunk's own score"
_PREPARES = {"zero_grad", "backward", "train", "clip_grad_norm_"}


def rewrite(finding: Finding, path: str, source: str) -> str | None:
    """The source with the training step of `finding` behind the score that follows it."""
    place = finding.evidence[0] if finding.evidence else None
    if place is None or place.path != path:
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for block in _loop_bodies(tree):
        for index, statement in enumerate(block):
            if statement.lineno <= place.line <= _end(statement):
                moved = _moved(source, block, index)
                if moved is not None:
                    return moved
    return None


def _moved(source: str, block: Sequence[ast.stmt], index: int) -> str | None:
    """The source with the step at `index`, and what prepares it, behind the sums that follow."""
    first = index
    while first and _prepares(block[first - 1]):
        first -= 1
    last = index
    while last + 1 < len(block) and isinstance(block[last + 1], ast.AugAssign):
        last += 1
    step, score = block[first : index + 1], block[index + 1 : last + 1]
    if (
        not score
        or _names(step, ast.Store) & _names(score)
        or _names(score, ast.Store) & _names(step)
    ):
        return None
    ends = [_end(block[first - 1]) if first else 0, _end(block[index]), _end(block[last])]
    starts = [block[first].lineno, block[index + 1].lineno]
    if starts[0] <= ends[0] or starts[1] <= ends[1]:  # several statements on a line
        return None
    lines = source.splitlines(keepends=True)
    a, b, c = starts[0] - 1, ends[1], ends[2]
    tail = lines[b:c]
    if not tail[-1].endswith("\n"):
        return None
    return "".join([*lines[:a], *tail, *lines[a:b], *lines[c:]])


def _prepares(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and isinstance(statement.value.func, ast.Attribute)
        and statement.value.func.attr in _PREPARES
    )


def _names(
    statements: Sequence[ast.stmt], context: type[ast.expr_context] | None = None
) -> set[str]:
    """The names in some statements; those in one context only, if it is given."""
    return {
        node.id
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and (context is None or isinstance(node.ctx, context))
    }


def _loop_bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.While):
            yield node.body


def _end(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno
