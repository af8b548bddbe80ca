"""The rules as text: the list, and the page of one."""

from collections.abc import Sequence
from textwrap import fill, indent

from auditor.errors import AuditError
from auditor.rules import Rule

WIDTH = 96


def listing(rules: Sequence[Rule]) -> str:
    """One line a rule."""
    rows = [f"{rule.id:<4} {rule.axis.value:<9}  {rule.title}" for rule in rules]
    return "\n".join([*rows, "", "auditor rules ID explains one."]) + "\n"


def page(rules: Sequence[Rule], wanted: str) -> str:
    """Everything that a rule says of itself; raises `AuditError` for an unknown id."""
    found = [rule for rule in rules if rule.id.lower() == wanted.lower()]
    if not found:
        known = ", ".join(dict.fromkeys(rule.id for rule in rules))
        raise AuditError(f"no rule {wanted!r}; there are {known}")
    return "\n".join(_page(rule) for rule in found)


def _page(rule: Rule) -> str:
    parts = [
        f"{rule.id}: {rule.title}",
        f"version {rule.version}, {rule.axis.value}",
        "",
        _paragraph("What", rule.what),
        _paragraph("Why", rule.why),
        _paragraph("Source", rule.source),
    ]
    if rule.precedents:
        parts.append(_paragraph("Precedents", ", ".join(rule.precedents)))
    if rule.legal:
        parts.append(_paragraph("Legal", rule.legal))
    if rule.known_misses:
        parts.append(_paragraph("Known misses", "; ".join(rule.known_misses)))
    for name, examples in (("Invalid", rule.invalid), ("Valid", rule.valid)):
        for example in examples:
            parts += [f"{name}:", "", indent(example.strip("\n"), "    "), ""]
    return "\n".join(parts).rstrip() + "\n"


def _paragraph(name: str, text: str) -> str:
    return fill(f"{name}: {' '.join(text.split())}", WIDTH) + "\n"
