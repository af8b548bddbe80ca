"""Every script under `tests/cases` says in its first line what must be found in it.

`# expect: RULE` or `# expect: clean` or `# expect: unknown`; `# env: NAME=VALUE` is the environment
of the run; `# found: RULE` marks a line that the finding must quote.
"""

import ast
import builtins
import re
from pathlib import Path

import pytest
from auditor.evidence.claims import Claims
from auditor.finding import Finding, Readiness, Status, Validity
from auditor.policy import FRONTIER_2026_04
from auditor.program.configuration import Configuration, Setting
from auditor.program.index import build
from auditor.rules import Context, all_rules
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack
from auditor.verdict import judge

CASES = Path(__file__).parents[1] / "cases"
SCRIPTS = sorted(CASES.rglob("*.py"))
READABLE = [p for p in SCRIPTS if p.parent.name in ("bad", "good", "dead")]


class _Context(Context):
    """A context whose run configuration is the case's own."""

    settings: Configuration

    @property
    def configuration(self) -> Configuration:  # type: ignore[override]
        """The case's `# env:` line."""
        return self.settings


def audit(data: bytes, environment: dict[str, str]) -> tuple[list[Finding], Validity, Readiness]:
    main = SourceFile.of("train_gpt.py", data)
    submission = Submission(main, {"train_gpt.py": main})
    unpacked = unpack(main, submission.files)
    context = _Context(submission, build(submission, unpacked), Claims())
    nowhere = context.submission.main.path
    from auditor.finding import Evidence

    settings = {n: Setting(v, Evidence(nowhere, 0, "")) for n, v in environment.items()}
    object.__setattr__(context, "settings", Configuration(settings))
    findings = [f for rule in all_rules() for f in rule.check(context)]
    return findings, *judge(findings, FRONTIER_2026_04)


def header(data: bytes, name: str, otherwise: str = "") -> str:
    found = re.search(rb"^# " + name.encode() + rb": (.+)$", data, re.MULTILINE)
    return found[1].decode() if found else otherwise


def environment_of(data: bytes) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in header(data, "env").split())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_case(path: Path) -> None:
    data = path.read_bytes()
    expected = header(data, "expect", "unknown")
    findings, validity, _ = audit(data, environment_of(data))
    failed = {f.rule for f in findings if f.status is Status.FAIL}
    if expected == "unknown":
        assert (failed, validity) == (set(), Validity.UNKNOWN)
    elif expected == "clean":
        assert (failed, validity) == (set(), Validity.VALID)
    else:
        assert (failed, validity) == ({expected}, Validity.INVALID)
        quoted = {e.line for f in findings if f.rule == expected for e in f.evidence}
        marked = {
            number
            for number, line in enumerate(data.decode().splitlines(), 1)
            if f"# found: {expected}" in line
        }
        assert marked <= quoted


@pytest.mark.parametrize("path", READABLE, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_renaming_changes_no_verdict(path: Path) -> None:
    data = path.read_bytes()
    tree = ast.parse(data)
    renamed = ast.unparse(_Rename(tree).visit(tree)).encode()
    before, *verdict = audit(data, environment_of(data))
    after, *verdict_after = audit(renamed, environment_of(data))
    assert verdict == verdict_after
    assert [(f.rule, f.status) for f in before] == [(f.rule, f.status) for f in after]


class _Rename(ast.NodeTransformer):
    """Gives every name that the script binds, and every attribute it sets, a meaningless one."""

    def __init__(self, tree: ast.Module) -> None:
        imported = {
            (alias.asname or alias.name).partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        bound = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.add(node.id)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                bound.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                bound.add(node.attr)
        keep = imported | set(dir(builtins)) | {"forward", "__init__"}
        self.names = {name: f"v{number}" for number, name in enumerate(sorted(bound - keep))}

    def visit_Name(self, node: ast.Name) -> ast.Name:  # noqa: N802
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self.names.get(node.arg, node.arg)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.Attribute:  # noqa: N802
        self.generic_visit(node)
        own = not (
            isinstance(node.value, ast.Name) and node.value.id in ("torch", "np", "F", "math")
        )
        node.attr = self.names.get(node.attr, node.attr) if own else node.attr
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:  # noqa: N802
        self.generic_visit(node)
        node.name = self.names.get(node.name, node.name)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:  # noqa: N802
        self.generic_visit(node)
        node.name = self.names.get(node.name, node.name)
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        self.generic_visit(node)
        node.arg = self.names.get(node.arg, node.arg) if node.arg else None
        return node


RULES = [rule for rule in all_rules() if rule.valid or rule.invalid]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_examples_of_the_rule(rule: object) -> None:
    from auditor.rules import Rule

    assert isinstance(rule, Rule)
    for source in rule.valid:
        findings, *_ = audit(source.encode(), {})
        assert [f for f in findings if f.status is Status.FAIL] == []
    for source in rule.invalid:
        findings, *_ = audit(source.encode(), {})
        assert {f.rule for f in findings if f.status is Status.FAIL} == {rule.id}
