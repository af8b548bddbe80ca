"""Reports for machines: SARIF and JSON by their schemas, annotations that only annotate."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from markdown_it import MarkdownIt

from auditor.audit import audit_in_full, audit_submission
from auditor.dossier import Dossier
from auditor.finding import Status
from auditor.policy import FRONTIER_2026_04
from auditor.report import github, markdown, sarif
from auditor.report import json as json_report
from auditor.report.view import Audience, View
from auditor.submission.load import load_pull_request, load_target

SCHEMAS = Path(__file__).parent / "schemas"
PACKED = Path(__file__).parents[1] / "cases" / "packed"
EVIL = "</pre><script>alert(1)</script> [x](http://evil.example) {0} ::error::@someone #700"


def audited(path: Path) -> list[Dossier]:
    """The audits of what lies at a path."""
    return [audit_in_full(s, policy=FRONTIER_2026_04) for s in load_target(path)]


@pytest.fixture(name="leaky")
def _leaky(challenge: Any) -> list[Dossier]:
    found = load_pull_request(challenge.path, 9)
    return [audit_in_full(s, policy=FRONTIER_2026_04) for s in found]


@pytest.fixture(name="evil")
def _evil(challenge: Any, tmp_path: Path) -> list[Dossier]:
    """A record folder whose every name and text wishes the reader ill."""
    folder = tmp_path / "records" / "track_10min_16mb" / "<img src=x onerror=alert(2)>%,:\n::set"
    folder.mkdir(parents=True)
    source = load_pull_request(challenge.path, 9)[0].main.data.decode()
    (folder / "train_gpt.py").write_text(source.replace("total = 0.0", f"total = 0.0  # {EVIL}"))
    (folder / "submission.json").write_text(json.dumps({"val_bpb": 1.2, "track": EVIL}))
    (folder / "README.md").write_text(EVIL)
    (folder / "train_<b>.log").write_text(f"seed:1\n{EVIL} val_loss:2.0 val_bpb:1.2\n")
    return audited(folder)


@pytest.fixture(name="schema", scope="module")
def _schema() -> Any:
    held = json.loads((SCHEMAS / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
    return jsonschema.Draft4Validator(held)


@pytest.mark.parametrize("audience", list(Audience))
@pytest.mark.parametrize("case", ["leaky", "evil", "packed"])
def test_sarif_is_valid_by_its_schema(
    case: str, audience: Audience, schema: Any, request: pytest.FixtureRequest
) -> None:
    packed = sorted(PACKED.glob("*.py"))
    dossiers = (
        [d for path in packed for d in audited(path)]
        if case == "packed"
        else request.getfixturevalue(case)
    )
    log = json.loads(sarif.render(dossiers, View(audience)))
    assert [error.message for error in schema.iter_errors(log)] == []
    for run in log["runs"]:
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        artifacts = run["artifacts"]
        for result in run["results"]:
            assert rules[result["ruleIndex"]] == result["ruleId"]
            assert (result["level"] == "none") is (result["kind"] != "fail")
            for location in result["locations"]:
                place = location["physicalLocation"]["artifactLocation"]
                assert artifacts[place["index"]]["location"]["uri"] == place["uri"]
                assert not place["uri"].endswith("!unpacked")
        for artifact in artifacts:
            if artifact["location"]["uri"].endswith("!unpacked"):
                parent = artifacts[artifact["parentIndex"]]["location"]["uri"]
                assert artifact["location"]["uri"] == parent + "!unpacked"
                assert artifact["contents"]["text"]


def test_a_failure_has_its_places_as_a_flow_and_a_fingerprint(leaky: list[Dossier]) -> None:
    (run,) = json.loads(sarif.render(leaky))["runs"]
    result = next(r for r in run["results"] if r["ruleId"] == "C2b")
    finding = next(f for f in leaky[0].audit.findings if f.rule == "C2b")
    assert (result["kind"], result["level"]) == ("fail", "error")
    steps = result["codeFlows"][0]["threadFlows"][0]["locations"]
    lines = [s["location"]["physicalLocation"]["region"]["startLine"] for s in steps]
    assert lines == [e.line for e in finding.evidence]
    assert re.fullmatch(r"[0-9a-f]{32}", result["partialFingerprints"]["findingHash/v1"])
    assert run["properties"]["validity"] == "invalid"
    notes = run["invocations"][0]["toolExecutionNotifications"]
    assert [n["message"]["text"] for n in notes] == list(leaky[0].audit.not_examined)


def test_a_fingerprint_outlives_moved_lines_and_not_changed_ones(
    challenge: Any, tmp_path: Path
) -> None:
    source = load_pull_request(challenge.path, 9)[0].main.data.decode()

    def fingerprints(text: str) -> set[str]:
        script = tmp_path / "train_gpt.py"
        script.write_text(text)
        (dossier,) = audited(script)
        failed = [f for f in dossier.audit.findings if f.status is Status.FAIL]
        assert failed
        return {sarif.fingerprint(dossier, finding) for finding in failed}

    first = fingerprints(source)
    assert fingerprints("# a line\n\n" + source) == first
    assert not fingerprints(source.replace("pairs", "doubles")) & first


@pytest.fixture(name="published", scope="module")
def _published() -> Any:
    held = json.loads(json_report.schema())
    jsonschema.Draft202012Validator.check_schema(held)
    return jsonschema.Draft202012Validator(held)


def test_json_is_valid_by_the_published_schema(
    leaky: list[Dossier], evil: list[Dossier], challenge: Any, published: Any
) -> None:
    texts = json_report.render([*leaky, *evil]).splitlines()
    for pr in (1, 7, 9):
        (submission, *_) = load_pull_request(challenge.path, pr)
        texts.append(json_report.line(audit_submission(submission, policy=FRONTIER_2026_04)))
    for text in texts:
        assert [error.message for error in published.iter_errors(json.loads(text))] == []
    broken = {**json.loads(texts[0]), "validity": "perhaps"}
    assert not published.is_valid(broken)
    assert not published.is_valid({**json.loads(texts[0]), "unheard_of": 1})


def test_annotations_stand_at_their_lines(leaky: list[Dossier]) -> None:
    lines = github.render(leaky).splitlines()
    finding = next(f for f in leaky[0].audit.findings if f.rule == "C2b")
    path, line = leaky[0].audit.path, finding.evidence[0].line
    assert f"::error file={path},line={line},title=C2b%3A " in "\n".join(lines)
    assert lines[-1].startswith(f"::notice file={path},title=Audit::The score does not stand")


def test_nothing_that_a_submission_says_becomes_a_command(evil: list[Dossier]) -> None:
    for line in github.render(evil, View(Audience.AUDITOR)).splitlines():
        assert re.match(r"::(error|warning|notice) file=[^:,]*(,line=\d+)?,title=[^:,]*::", line)


def test_a_review_of_it_pings_nobody_and_links_nowhere(evil: list[Dossier]) -> None:
    text = markdown.render(evil, View(Audience.AUDITOR))
    assert "Scores in the logs" in text
    blocks = MarkdownIt("commonmark").enable("table").parse(text)
    tokens = [*blocks, *(child for block in blocks for child in block.children or ())]
    assert not {token.type for token in tokens} & {"link_open", "image", "html_inline"}
    for token in tokens:
        if token.type == "text":  # what is inside code neither pings nor links
            assert not re.search(r"@\w|#\d|https?:|www\.", token.content)
        if token.type == "html_block":
            assert re.fullmatch(r"(?:</?(?:details|summary)>[^<]*)+", token.content)


@pytest.mark.parametrize("name", ["markdown", "html", "sarif", "github", "terminal"])
def test_the_same_files_give_the_same_bytes(name: str, challenge: Any) -> None:
    from auditor.delivery import rendered

    def once() -> str:
        found = load_pull_request(challenge.path, 9)
        dossiers = [audit_in_full(s, policy=FRONTIER_2026_04) for s in found]
        return rendered(dossiers, name, View(Audience.AUDITOR))

    assert once() == once()


def test_the_example_is_valid_and_finds_the_expert_that_is_no_probability(published: Any) -> None:
    folder = Path(__file__).parents[2] / "docs" / "examples"
    found = json.loads((folder / "pr700.json").read_text(encoding="utf-8"))
    assert [error.message for error in published.iter_errors(found)] == []
    failed = [f for f in found["findings"] if (f["rule"], f["status"]) == ("C2", "fail")]
    assert {f["basis"] for f in failed} == {"static", "dynamic"}
    assert 160 in {place["line"] for f in failed for place in f["evidence"]}
    for name in ("pr700.md", "pr700.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "train_gpt.py:160" in text
        assert "close" in text
