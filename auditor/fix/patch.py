"""Applies the fixers to a script and shows what they change; the submission stays as it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff

from auditor.finding import Finding, Status
from auditor.fix import uniform_expert, update_after_score
from auditor.program.source import parse
from auditor.rules import Context, all_rules

# A fixer takes a finding of its rule and a file's source; it returns the source rewritten, or None
# where it cannot be certain.
Fixer = Callable[[Finding, str, str], str | None]
_FIXERS: Mapping[str, tuple[Fixer, str]] = {
    "C2": (uniform_expert.rewrite, uniform_expert.WORDS),
    "C3": (update_after_score.rewrite, update_after_score.WORDS),
}


@dataclass(frozen=True)
class Patch:
    """A suggestion: `source` is the whole file at `path` as it would be, `words` say what changes.

    `diff` is unified, with `a/` and `b/` before the path. A packed script's is of its unpacked
    source, and its path says so.
    """

    rule: str
    path: str
    words: str
    source: str
    diff: str


def suggest(context: Context, findings: Sequence[Finding]) -> tuple[Patch, ...]:
    """A patch of the main script for each rule that has one, against the shipped source.

    A patch is kept only if its rule finds nothing in what it gives.
    """
    patches = []
    program = context.program
    for rule, (fixer, words) in _FIXERS.items():
        failed = [f for f in findings if f.rule == rule and f.status is Status.FAIL]
        source = program.source
        for finding in failed:
            source = fixer(finding, program.path, source) or source
        if source != program.source and not _fails(rule, context, source):
            diff = difference(program.path, program.source, source)
            patches.append(Patch(rule, program.path, words, source, diff))
    return tuple(patches)


def _fails(rule: str, context: Context, source: str) -> bool:
    """Whether the script with another source still has the fault, as far as reading it shows."""
    parsed = parse(source)
    program = replace(context.program, source=source, tree=parsed.tree, problem=parsed.problem)
    again = replace(context, program=program, dynamic={})
    found = (f for check in all_rules() if check.id == rule for f in check.check(again))
    return any(f.status in (Status.FAIL, Status.UNKNOWN) for f in found)


def difference(path: str, old: str, new: str) -> str:
    """A unified diff of two texts."""
    lines = unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
