"""Rewrites one statement of a source and leaves every other character as it is."""

import ast
from collections.abc import Iterator


def statements(source: str, *numbers: int) -> Iterator[ast.stmt]:
    """The simple statements that lie on any of some lines; none if the source does not parse."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.Expr):
            last = node.end_lineno or node.lineno
            if any(node.lineno <= number <= last for number in numbers):
                yield node


def text_of(source: str, node: ast.expr) -> str:
    """An expression as it is written."""
    return ast.get_source_segment(source, node) or ast.unparse(node)


def rewritten(source: str, node: ast.stmt, old: ast.expr, new: str) -> str | None:
    """The source with the expression `old` of a simple statement replaced by `new`.

    None where the statement does not stand alone on its lines, or holds the expression twice.
    """
    import libcst  # imported here: what has no fault to mend never needs it
    from libcst import matchers

    lines = source.splitlines(keepends=True)
    first, last = node.lineno - 1, node.end_lineno or node.lineno
    text = "".join(lines[first:last])
    indent = text[: len(text) - len(text.lstrip())]
    statement = libcst.parse_statement(text[len(indent) :])
    if not isinstance(statement, libcst.SimpleStatementLine) or len(statement.body) != 1:
        return None
    wanted = libcst.parse_expression(text_of(source, old))
    found = [
        leaf
        for leaf in matchers.findall(statement, matchers.MatchIfTrue(wanted.deep_equals))
        if isinstance(leaf, libcst.BaseExpression)
    ]
    if len(found) != 1:
        return None
    changed = statement.deep_replace(found[0], libcst.parse_expression(new))
    code = libcst.Module([libcst.ensure_type(changed, libcst.SimpleStatementLine)]).code
    return "".join([*lines[:first], indent, code, *lines[last:]])
