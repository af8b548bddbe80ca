"""Text of a submission made harmless for a terminal, a Markdown comment and a page.

Whatever a report quotes was written by somebody who may wish the reader ill: escape sequences,
bidirectional overrides, mentions, links and markup all become visible characters.
"""

import re
import unicodedata
from html import escape

MAX_LINE = 400
SHOWN = {"\t": "    ", "\n": " ", "\r": " "}
HIDDEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~&$])")
MENTION = re.compile(r"@(?=\w)")
REFERENCE = re.compile(r"(?:\b(PRs?|issues?) ?)?#(\d)")
LINK = re.compile(r"(?i)\b(https?|ftp|mailto|xmpp):|\bwww\.")
BREAK = "\u200b"  # keeps GitHub from making a mention or a link of what follows


def visible(text: str, limit: int = MAX_LINE) -> str:
    """`text` on one line, cut at `limit`, with every invisible character shown as an escape."""
    shown = "".join(_shown(character) for character in text[:limit])
    return shown + "…" if len(text) > limit else shown


def _shown(character: str) -> str:
    if character in SHOWN:
        return SHOWN[character]
    if character.isascii() and character.isprintable():
        return character
    if unicodedata.category(character) in HIDDEN:
        code = ord(character)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return character


def html_text(text: str, limit: int = 2000) -> str:
    """Text for HTML, within elements and within attributes alike."""
    return escape(visible(text, limit), quote=True)


def markdown(text: str) -> str:
    """Prose for Markdown: no markup, no mention, no link, no reference to an issue."""
    named = REFERENCE.sub(lambda m: f"{m[1] or 'PR'} {m[2]}", visible(text, 2000))
    escaped = MARKDOWN.sub(r"\\\1", named)
    escaped = MENTION.sub("@" + BREAK, escaped)
    return LINK.sub(lambda m: m.group()[:-1] + BREAK + m.group()[-1], escaped)


def code_span(text: str, in_table: bool = False) -> str:
    """`text` as Markdown code, whatever backticks it holds."""
    shown = visible(text).strip() or " "
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if "`" in shown else ""
    span = f"{fence}{space}{shown}{space}{fence}"
    return span.replace("|", "\\|") if in_table else span


def code_block(lines: list[str], language: str = "") -> str:
    """Lines as a fenced Markdown block that they cannot end."""
    shown = [visible(line) for line in lines]
    longest = max((len(run) for line in shown for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence + language, *shown, fence])
