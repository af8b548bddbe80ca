"""Reading source: the newer grammar, limits, and what is no program."""

import ast
import subprocess
import sys

import pytest

from auditor.program.fstrings import respell
from auditor.program.source import SOURCE_LIMIT, parse

WIDTH, DATA = 7, {"a": [1, 2], "b": 2.5}
NEWER = [
    """f"{", ".join(str(v) for v in DATA["a"])}" """,
    """f"{DATA["b"]:>{WIDTH}.2f}|{WIDTH!r}" """,
    """"a{b}" f"{DATA["b"]}{{x}}" "tail" """,
    """f"{f"{f"{WIDTH}"}"}" """,
    """f"{DATA["b"]=}" """,
    '''f"""{DATA["b"]}
{WIDTH}""" ''',
    r"""f"{"\n".join(["x", "y"])}" """,
    """(f"{DATA["b"]}" f'{WIDTH}')""",
    """f"{WIDTH, "x"}" """,
    """f"{WIDTH if DATA["b"] != 2 else (lambda: 1)():>{WIDTH}}" """,
    """"a"if f"{DATA["b"]}"else"b" """,
    r"""rf"\d{DATA["b"] = !s:>4}" """,
]


@pytest.mark.parametrize("expression", NEWER)
def test_respelled_fstring_has_the_same_value_and_lines(expression: str) -> None:
    respelled = respell(f"value = {expression}\nafter = 1\n")
    assert respelled is not None
    names: dict[str, object] = {"WIDTH": WIDTH, "DATA": DATA}
    exec(respelled, names)  # our own text
    assert names["value"] == _EXPECTED[expression]
    assert ast.parse(respelled).body[1].lineno == expression.count("\n") + 2


_EXPECTED = dict(
    zip(
        NEWER,
        [
            *(
                "1, 2",
                "   2.50|7",
                "a{b}2.5{x}tail",
                "7",
                'DATA["b"]=2.5',
                "2.5\n7",
                "x\ny",
                "2.57",
            ),
            *("(7, 'x')", "      7", "a", '\\dDATA["b"] =  2.5'),
        ],
        strict=True,
    )
)


def test_tight_spelling_of_minifiers_is_read() -> None:
    source = 'x=[1for y in"ab"if y]\nz=f"{"q"if x else"r"}"\n'
    parsed = parse(source)
    assert parsed.tree is not None
    assert [type(s) for s in parsed.tree.body] == [ast.Assign, ast.Assign]


def test_newer_grammar_is_read_without_libcst() -> None:
    code = (
        "import sys\nfrom auditor.program.source import parse\n"
        "assert parse('x = f\"{\"a\"}\"\\n').tree is not None\nprint('libcst' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_byte_order_mark_is_ignored() -> None:
    assert parse("\ufeffx = 1\n").tree is not None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("x = 1\0", "null"),
        ("import io import math\n", "line 1"),
        ("a" * (SOURCE_LIMIT + 1), "limit"),
        ("x = " + "+".join(["1"] * 60_000), "nested"),
    ],
)
def test_what_is_no_program_is_named(source: str, said: str) -> None:
    parsed = parse(source)
    assert parsed.tree is None
    assert said in (parsed.problem or "")


def test_literals_of_two_statements_are_not_joined() -> None:
    respelled = respell('x = f"{"a"}"  # a comment\n"of its own"\ny = (f"{"a"}"  # another\n"b")\n')
    assert respelled is not None
    assert [type(s) for s in ast.parse(respelled).body] == [ast.Assign, ast.Expr, ast.Assign]


@pytest.mark.parametrize("source", ['x = f"{"a"}\n', 'x = f"{"a"', 'x = "a', 'f"{' * 5000])
def test_what_does_not_end_is_no_program(source: str) -> None:
    assert parse(source).problem is not None
    assert respell(source) is None


def test_nested_fstrings_are_read_in_linear_time() -> None:
    nested = "1"
    for _ in range(60):
        nested = f'f"{{{nested}}}"'
    assert parse(f"x = {nested}\n").tree is not None
