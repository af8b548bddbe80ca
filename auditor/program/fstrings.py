"""Respells f-strings that need the grammar of Python 3.12 for an older interpreter.

`f"{", ".join(x):>{width}}"` becomes `"{:>{}}".format(", ".join(x), width)`: the same value, and
every line break stays where it was. LibCST does the reading, for its parser knows the new grammar.
"""

import re
from collections.abc import Sequence

import libcst as cst

# LibCST insists on a space that the language does not: `1for x in`, `)if`, as minifiers write.
_TIGHT = re.compile(r"(?<=[0-9)\]}\"'])(?=(?:if|else|for|in|and|or|is|not|as)\b)")


def respell(source: str) -> str | None:
    """The same program in the older grammar; None where LibCST cannot read it either."""
    for text in (source, _TIGHT.sub(" ", source)):
        try:
            return cst.parse_module(text.removeprefix("\ufeff")).visit(_Respell()).code
        except cst.ParserSyntaxError:
            continue
    return None


class _Respell(cst.CSTTransformer):
    def __init__(self) -> None:
        super().__init__()
        self._pieces: set[int] = set()  # ids of strings that are joined to a neighbour

    def visit_ConcatenatedString(self, node: cst.ConcatenatedString) -> None:  # noqa: N802
        self._pieces |= {id(node.left), id(node.right)}

    def leave_FormattedString(  # noqa: N802 - LibCST names its visitors after the node
        self, original_node: cst.FormattedString, updated_node: cst.FormattedString
    ) -> cst.BaseExpression:
        return updated_node if id(original_node) in self._pieces else _formatted(updated_node)

    def leave_ConcatenatedString(  # noqa: N802
        self, original_node: cst.ConcatenatedString, updated_node: cst.ConcatenatedString
    ) -> cst.BaseExpression:
        return updated_node if id(original_node) in self._pieces else _joined(updated_node)


def _formatted(string: cst.BaseExpression) -> cst.BaseExpression:
    """`string`, as a call of `format` where it is an f-string of the newer grammar."""
    if not isinstance(string, cst.FormattedString) or not any(map(_is_new, string.parts)):
        return string
    arguments: list[cst.Arg] = []
    text = _template(string.parts, arguments)
    prefix = string.prefix.lower().replace("f", "")
    literal = cst.SimpleString(f"{prefix}{string.quote}{text}{string.quote}")
    return cst.Call(
        cst.Attribute(literal, cst.Name("format")), arguments, lpar=string.lpar, rpar=string.rpar
    )


def _joined(string: cst.BaseExpression) -> cst.BaseExpression:
    """Neighbouring literals, as a sum where one of them became a call."""
    if not isinstance(string, cst.ConcatenatedString):
        return _formatted(string)
    left, right = _formatted(string.left), _joined(string.right)
    if left is string.left and right is string.right:
        return string
    plus = cst.Add(whitespace_before=string.whitespace_between)
    return cst.BinaryOperation(
        left,
        plus,
        right,
        lpar=[*string.lpar, cst.LeftParen()],
        rpar=[cst.RightParen(), *string.rpar],
    )


def _is_new(part: cst.BaseFormattedStringContent) -> bool:
    """Whether the expression holds what the older grammar forbids inside an f-string."""
    if not isinstance(part, cst.FormattedStringExpression):
        return False
    code = cst.Module([]).code_for_node(part.expression)
    return any(sign in code for sign in "\"'\\\n#") or any(
        _is_new(inner) for inner in part.format_spec or ()
    )


def _template(parts: Sequence[cst.BaseFormattedStringContent], out: list[cst.Arg]) -> str:
    """The text of a format string whose fields are `out`, in the order of `str.format`."""
    text = ""
    for part in parts:
        if isinstance(part, cst.FormattedStringText):
            text += part.value
        elif isinstance(part, cst.FormattedStringExpression):
            expression = part.expression
            if part.equal is not None:  # f"{x=}" prints the expression's own text first
                shown = cst.Module([]).code_for_node(expression)
                text += shown.replace("{", "{{").replace("}", "}}").replace('"', "'") + "="
            out.append(cst.Arg(expression))
            text += "{"
            if part.conversion is not None:
                text += f"!{part.conversion}"
            if part.format_spec is not None:
                text += ":" + _template(part.format_spec, out)
            text += "}"
    return text
