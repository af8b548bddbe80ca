"""C7: masks the fit of a per-window tensor to the context, `[:s]`, where it was the scored `[s:]`.

Whether fitting to the context is legal waits for issue 1336; that fitting to what is then scored is
not, is what this mends.
"""

import ast

from auditor.finding import Finding
from auditor.fix.lines import rewritten, statements, text_of

WORDS = (
    "the tensor is fitted to the context ahead of the scored positions, which waits for issue "
    "1336; a first window has no context, and nothing to fit"
)
REACH = 60  # lines above the step in which its mask is made


def rewrite(finding: Finding, path: str, source: str) -> str | None:
    """The source with the one mask above the step of `finding` turned round."""
    place = finding.evidence[0] if finding.evidence else None
    if place is None or place.path != path:
        return None
    above = range(max(1, place.line - REACH), place.line)
    masks = [
        (statement, statement.targets[0])
        for statement in statements(source, *above)
        if isinstance(statement, ast.Assign) and _marks_scored(statement)
    ]
    if len(masks) != 1:
        return None
    ((statement, target),) = masks
    assert isinstance(target, ast.Subscript)
    index = target.slice.elts if isinstance(target.slice, ast.Tuple) else [target.slice]
    last = index[-1]
    assert isinstance(last, ast.Slice)
    assert last.lower is not None
    rows = "".join(f"{text_of(source, row)}, " for row in index[:-1])
    turned = f"{text_of(source, target.value)}[{rows}:{text_of(source, last.lower)}]"
    return rewritten(source, statement, target, turned)


def _marks_scored(statement: ast.Assign) -> bool:
    """`mask[row, s:e] = 1`: from a computed place on, the mask is set."""
    match statement:
        case ast.Assign(
            targets=[ast.Subscript(value=ast.Name(), slice=index)],
            value=ast.Constant(value=1 | 1.0 | True),
        ):
            last = index.elts[-1] if isinstance(index, ast.Tuple) else index
            return (
                isinstance(last, ast.Slice)
                and last.step is None
                and isinstance(last.lower, ast.Name | ast.BinOp)
            )
    return False
