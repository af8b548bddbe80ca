"""The rules' pages: one for every id, and those that are kept are those that the rules give."""

from pathlib import Path

import pytest

from auditor.cli import main
from auditor.report.rulebook import listing, page, pages
from auditor.rules import all_rules

KEPT = Path(__file__).parents[2] / "docs" / "rules"
RULES = all_rules()


def test_every_rule_is_listed_and_has_a_page() -> None:
    names = set(pages(RULES))
    assert names == {"README.md", *(f"{rule.id}.md" for rule in RULES)}
    for rule in RULES:
        assert f"  {rule.id:<4} {rule.title}\n" in listing(RULES)
        assert f"{rule.id}: {rule.title}\n" in page(RULES, rule.id)
        assert f"[{rule.id}]({rule.id}.md) | {rule.title}" in pages(RULES)["README.md"]


def test_the_kept_pages_are_those_that_the_rules_give() -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in KEPT.glob("*.md")}
    assert kept == pages(RULES), "run: auditor rules --markdown docs/rules"


def test_pages_are_written_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rules", "--markdown", str(tmp_path / "new")]) == 0
    written = {path.name for path in (tmp_path / "new").iterdir()}
    assert written == set(pages(RULES))
    assert capsys.readouterr().out.count("wrote ") == len(written)
