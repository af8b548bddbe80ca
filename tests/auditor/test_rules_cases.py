"""Every script under `tests/cases` says in its first line what must be found in it.

`# expect: RULE`, or `clean`, `noted RULE`, `pending`, `unknown`; `# env: NAME=VALUE` is the
environment of the run; `# found: RULE` marks a line that the finding must quote.
"""

import ast
import builtins
import re
from pathlib import Path

import pytest

from auditor.evidence.claims import Claims
from auditor.finding import Finding, Readiness, Status, Validity
from auditor.policy import FRONTIER_2026_04
from auditor.program.index import build
from auditor.rules import Context, Rule, all_rules
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack
from auditor.verdict import judge

CASES = Path(__file__).parents[1] / "cases"
SCRIPTS = sorted(CASES.rglob("*.py"))
READABLE = [p for p in SCRIPTS if p.parent.name in ("bad", "good", "dead")]


def audit(data: bytes, variables: str) -> tuple[list[Finding], Validity, Readiness]:
    """Audits a script whose folder holds a `run.sh` with the given environment variables."""
    main = SourceFile.of("train_gpt.py", data)
    launcher = SourceFile.of("run.sh", f"{variables} python train_gpt.py\n".encode())
    submission = Submission(main, {"train_gpt.py": main, "run.sh": launcher})
    unpacked = unpack(main, submission.files)
    context = Context(submission, build(submission, unpacked), Claims())
    findings = [f for rule in all_rules() for f in rule.check(context)]
    return findings, *judge(findings, FRONTIER_2026_04)


def header(data: bytes, name: str, otherwise: str = "") -> str:
    found = re.search(rb"^# " + name.encode() + rb": (.+)$", data, re.MULTILINE)
    return found[1].decode() if found else otherwise


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_case(path: Path) -> None:
    data = path.read_bytes()
    expected = header(data, "expect", "unknown")
    findings, validity, _ = audit(data, header(data, "env"))
    failed = {f.rule for f in findings if f.status is Status.FAIL}
    if expected == "unknown":
        assert (failed, validity) == (set(), Validity.UNKNOWN)
    elif expected == "pending":
        assert (failed, validity) == (set(), Validity.PENDING)
    elif expected.startswith("noted "):
        assert (failed, validity) == ({expected.removeprefix("noted ")}, Validity.VALID)
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
    before, *verdict = audit(data, header(data, "env"))
    after, *verdict_after = audit(renamed, header(data, "env"))
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

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self.names.get(node.arg, node.arg)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.Attribute:
        self.generic_visit(node)
        own = not (
            isinstance(node.value, ast.Name) and node.value.id in ("torch", "np", "F", "math")
        )
        node.attr = self.names.get(node.attr, node.attr) if own else node.attr
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.name = self.names.get(node.name, node.name)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.name = self.names.get(node.name, node.name)
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        self.generic_visit(node)
        node.arg = self.names.get(node.arg, node.arg) if node.arg else None
        return node


RULES = [rule for rule in all_rules() if rule.valid or rule.invalid]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_examples_of_the_rule(rule: Rule) -> None:
    for source in rule.valid:
        findings, *_ = audit(source.encode(), "")
        assert [f for f in findings if f.status is Status.FAIL] == []
    for source in rule.invalid:
        findings, *_ = audit(source.encode(), "")
        assert {f.rule for f in findings if f.status is Status.FAIL} == {rule.id}
