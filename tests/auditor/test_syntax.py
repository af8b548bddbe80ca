"""Laws of the fast walks: what they visit, against `ast.walk`."""

import ast
from pathlib import Path

import pytest

import auditor
from auditor.syntax import inside, statements, tree_of, walk

HERE = Path(auditor.__file__).parent
TEXTS = [
    (HERE / "demo" / "train_gpt.py").read_text(encoding="utf-8"),
    (HERE / "program" / "python_steps.py").read_text(encoding="utf-8"),
    """
match x:
    case {"a": [1, *_], **rest} if y:
        f(*a, **{None: 1})
    case None | A(b=2):
        del q
""",
    """
async def f(a, /, b=1, *c, d, e=2, **g) -> int:
    global h
    async with a as b, c:
        await d
""",
    """
try:
    x: int = 1
except* E as e:
    raise
else:
    lambda: (yield)
finally:
    y += 1
""",
    """
{**a, "b": 1}
for i in (j for j in k if l):
    print(f"{x!r:>{w}}", end="")
while 1:
    pass
""",
]
PASSED_OVER = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context, ast.type_ignore)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_walk_visits_all_but_operators_and_contexts_in_the_order_of_ast(text: str) -> None:
    tree = ast.parse(text)
    assert walk(tree) == [n for n in ast.walk(tree) if not isinstance(n, PASSED_OVER)]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_statements_are_those_that_a_walk_meets(text: str) -> None:
    tree = ast.parse(text)
    assert list(statements(tree)) == [n for n in walk(tree) if isinstance(n, ast.stmt)]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_blocks_are_direct(text: str) -> None:
    for node in walk(ast.parse(text)):
        direct = [n for n in ast.iter_child_nodes(node) if not isinstance(n, PASSED_OVER)]
        blocks = (ast.stmt, ast.ExceptHandler, ast.match_case)
        assert inside(node) == [n for n in direct if isinstance(n, blocks)]


def test_a_text_is_parsed_once() -> None:
    text = "once = 'and for all'\n"
    assert tree_of(text) is tree_of(text)
