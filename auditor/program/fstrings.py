"""Respells f-strings that need the grammar of Python 3.12 for an older interpreter.

`f"{", ".join(x):>{width}}"` becomes `"{:>{}}".format((", ".join(x)), (width))`: the same value, and
every line break stays. Strings, comments and brackets are all that is read for it; whatever else
is no Python in a script is left to the parser of the result.
"""

import re
from dataclasses import dataclass, field

# A string with what stands before its quote, a comment, a name, a bracket; what may end a field.
_TOKEN = re.compile(
    r"\#[^\n]*|([^\W\d]\w*)?(\"\"\"|'''|\"|')|[^\W\d]\w*|[()\[\]{}]|[=!<>]=|:|!|=\s*(?=[!:}])"
)
_ALONG = re.compile(r"(?:[ \t\f]|\\\r?\n)*")  # between two literals that are joined: on a line,
_ACROSS = re.compile(r"(?:\s|\\\r?\n|\#[^\n]*)*")  # inside brackets
_PREFIXES = frozenset({"", "r", "u", "b", "br", "rb", "f", "fr", "rf"})
_QUOTES = ('"""', "'''", '"', "'")
_REST = {
    quote: re.compile(
        rf"(?:[^\\{quote[0]}]|\\.{f'|{quote[0]}(?!{quote[1:]})' if quote[1:] else ''})*{quote}",
        re.DOTALL,
    )
    for quote in _QUOTES
}
_STOP = {end: re.compile(rf"{end}|\\|[{{}}]") for end in (*_QUOTES, "}")}
_CONVERSION = re.compile(r"!(\w+)\s*")


class _UnreadableError(Exception):
    """A literal or a bracket is not closed."""


@dataclass
class _Template:
    """A format string being put together, with the expressions of its fields."""

    text: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    newer: bool = False  # a field holds what the older grammar forbids


def respell(source: str) -> str | None:
    """The same program in the older grammar; None where its strings do not end."""
    try:
        return _code(source, 0)[1]
    except (_UnreadableError, RecursionError):
        return None


def _code(source: str, at: int, in_field: bool = False) -> tuple[int, str]:
    """Code with its f-strings respelled, and its end: that of the text, or of a field's code at
    its `=`, `!`, `:` or closing brace.
    """
    out: list[str] = []
    depth = 0
    while (token := _TOKEN.search(source, at)) is not None:
        sign = token[0]
        out.append(source[at : token.start()])
        at = token.end()
        if token[2] is not None:
            at, sign = _literals(source, token, depth > 0 or in_field)
        elif sign in "([{":
            depth += 1
        elif in_field and depth == 0 and (sign in "}:!" or (sign[0] == "=" and sign != "==")):
            return token.start(), "".join(out)
        elif sign in ")]}":
            depth -= 1
        out.append(sign)
    if in_field:
        raise _UnreadableError
    return len(source), "".join([*out, source[at:]])


def _literals(source: str, token: re.Match[str], in_brackets: bool) -> tuple[int, str]:
    """The end of a literal and of those joined to it, and how they are spelled: as a sum where
    one of them became a call.
    """
    keyword = "" if _prefix(token) is not None else token[1]  # as in `"a"if"b"else"c"`
    between = _ACROSS if in_brackets else _ALONG
    literals, gaps, newer = [], [""], False
    while True:
        end, text, changed = _literal(source, token)
        literals.append(text)
        newer |= changed
        gap = between.match(source, end)
        following = _TOKEN.match(source, gap.end()) if gap is not None else None
        if gap is None or following is None or not following[2] or _prefix(following) is None:
            break
        gaps.append(gap[0])
        token = following
    plus = "+" if newer else ""
    text = literals[0] + "".join(
        plus + gap + literal for gap, literal in zip(gaps[1:], literals[1:], strict=True)
    )
    return end, keyword + (f"({text})" if newer and gaps[1:] else text)


def _prefix(token: re.Match[str]) -> str | None:
    """The prefix of a literal, in small letters; None where another word stands before it."""
    prefix = (token[1] or "").lower()
    return prefix if prefix in _PREFIXES else None


def _literal(source: str, token: re.Match[str]) -> tuple[int, str, bool]:
    """The end of a literal, how it is spelled, and whether that is another way."""
    prefix, quote = _prefix(token), token[2]
    start = token.start() if prefix is not None else token.start(2)
    if prefix is None or "f" not in prefix:
        rest = _REST[quote].match(source, token.end())
        if rest is None:
            raise _UnreadableError
        return rest.end(), source[start : rest.end()], False
    template = _Template()
    end = _text(source, token.end(), quote, "r" in prefix, template) + len(quote)
    if not template.newer:
        return end, source[start:end], False
    arguments = ", ".join(f"({expression})" for expression in template.fields)
    text = "".join(template.text)
    return end, f"{prefix.replace('f', '')}{quote}{text}{quote}.format({arguments})", True


def _text(source: str, at: int, end: str, raw: bool, template: _Template) -> int:
    """Reads up to `end`, a quote or the brace that closes a format specification; its place."""
    while (found := _STOP[end].search(source, at)) is not None:
        sign, begin = found[0], at
        at = found.start()
        if sign == end:
            template.text.append(source[begin:at])
            return at
        if sign == "\\":
            at += _escape(source, at, raw)
        elif end != "}" and source.startswith(("{{", "}}"), at):
            at += 2
        template.text.append(source[begin:at])
        if at == found.start():
            if sign == "}":
                break
            at = _field(source, at + 1, raw, template)
    raise _UnreadableError


def _escape(source: str, at: int, raw: bool) -> int:
    """The length of an escape; a backslash before a brace stands for itself."""
    if not raw and source.startswith("\\N{", at):
        return max(source.find("}", at) + 1 - at, 3)
    return 1 if source.startswith(("{", "}"), at + 1) else 2


def _field(source: str, at: int, raw: bool, template: _Template) -> int:
    """Reads a replacement field whose brace was opened; the place behind the closing one."""
    end, code = _code(source, at, in_field=True)
    expression = source[at:end]
    template.newer |= any(mark in expression.strip() for mark in "\"'\\\n#")
    shown = _TOKEN.match(source, end)
    if shown is not None and shown[0].startswith("="):  # f"{x = }" begins with its own text
        end = shown.end()
        template.text.append("{}")
        template.fields.append(repr(expression + shown[0]))
    template.fields.append(code)
    template.text.append("{")
    conversion = _CONVERSION.match(source, end)
    if conversion is not None:
        template.text.append("!" + conversion[1])
        end = conversion.end()
    elif shown is not None and shown[0].startswith("=") and source.startswith("}", end):
        template.text.append("!r")
    if source.startswith(":", end):
        template.text.append(":")
        end = _text(source, end + 1, "}", raw, template)
    if not source.startswith("}", end):
        raise _UnreadableError
    template.text.append("}")
    return end + 1
