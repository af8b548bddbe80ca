"""Applies the fixers to a script and shows what they change; the submission stays as it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff

from auditor.finding import Basis, Finding, Status
from auditor.fix import byte_table, mask_before_score, uniform_expert, update_after_score
from auditor.program.index import Module, Program
from auditor.program.source import parse
from auditor.rules import Context, all_rules
from auditor.submission.model import SourceFile

# A fixer takes a finding of its rule and a file's source; it returns the source rewritten, or None
# where it cannot be certain.
Fixer = Callable[[Finding, str, str], str | None]
_FIXERS: Mapping[str, tuple[Fixer, str]] = {
    "B1": (byte_table.rewrite, byte_table.WORDS),
    "C2": (uniform_expert.rewrite, uniform_expert.WORDS),
    "C3": (update_after_score.rewrite, update_after_score.WORDS),
    "C7": (mask_before_score.rewrite, mask_before_score.WORDS),
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
    """A patch for each rule and file where one is certain, against the shipped source.

    A patch is kept only if its rule finds nothing in what it gives.
    """
    patches = []
    for rule, (fixer, words) in _FIXERS.items():
        failed = [f for f in findings if f.rule == rule and _is_read(f, Status.FAIL)]
        for module in context.program.modules if failed else ():
            source = module.source
            for finding in failed:
                source = fixer(finding, module.path, source) or source
            if source != module.source and not _fails(rule, context, module, source):
                diff = difference(module.path, module.source, source)
                patches.append(Patch(rule, module.path, words, source, diff))
    return tuple(patches)


def _with_source(program: Program, module: Module, source: str) -> Program:
    """The program with another text in the place of one of its modules."""
    if module.name != program.main.name:
        file = SourceFile.of(module.path, source.encode())
        return replace(program, files={**program.files, module.name: file})
    parsed = parse(source)
    return replace(program, source=source, tree=parsed.tree, problem=parsed.problem)


def _fails(rule: str, context: Context, module: Module, source: str) -> bool:
    """Whether the script still has the fault with a module changed, as far as reading it shows."""
    program = _with_source(context.program, module, source)
    again = replace(context, program=program, dynamic={})
    found = (f for check in all_rules() if check.id == rule for f in check.check(again))
    return any(_is_read(f, Status.FAIL, Status.UNKNOWN) for f in found)


def _is_read(finding: Finding, *statuses: Status) -> bool:
    """Whether a finding comes from the script alone: no patch changes what a log holds."""
    return finding.basis is Basis.STATIC and finding.status in statuses


def difference(path: str, old: str, new: str) -> str:
    """A unified diff of two texts."""
    lines = unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
