"""The command line's contract: exit codes, messages, formats, and what is loaded for it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import auditor.audit
from auditor.audit import audit_in_full
from auditor.cli import main
from auditor.commands import exit_status
from auditor.finding import Axis, Finding, Status, Validity
from auditor.policy import FRONTIER_2026_04
from auditor.rules import Context, Rule, all_rules
from auditor.submission.load import load_pull_request, load_target


@pytest.fixture(name="clean")
def _clean(challenge: Any, tmp_path: Path) -> Path:
    script = tmp_path / "clean.py"
    script.write_bytes(load_pull_request(challenge.path, 1)[0].main.data)
    return script


@pytest.fixture(name="leaky")
def _leaky(challenge: Any, tmp_path: Path) -> Path:
    script = tmp_path / "leaky.py"
    script.write_bytes(load_pull_request(challenge.path, 9)[0].main.data)
    return script


def test_the_exit_status_is_that_of_the_gravest_script(
    clean: Path, leaky: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def (:\n")
    assert main(["audit", str(clean)]) == 0
    assert main(["audit", str(leaky)]) == 1
    assert main(["audit", str(broken)]) == 3
    assert main(["audit", str(clean), str(broken)]) == 3
    assert main(["audit", str(broken), str(leaky), str(clean)]) == 1


def test_a_pending_script_is_neither_valid_nor_invalid(clean: Path) -> None:
    audit = audit_in_full(load_target(clean)[0], policy=FRONTIER_2026_04).audit
    pending = auditor.finding.Audit(**{**vars(audit), "validity": Validity.PENDING})
    assert exit_status([pending, audit]) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit"], "nothing to audit"),
        (["audit", "nowhere.py"], "nowhere.py: no such file"),
        (["audit", "--pr", "7"], "PARAMETER_GOLF_REPO"),
        (["audit", "x.py", "--pr", "7", "--repo", "."], "not both"),
        (["audit", "x.py", "--at", "abcd"], "add --pr"),
        (["audit", "x.py", "--policy", "mine"], "no policy is called 'mine'"),
        (["batch", "--prs", "nowhere.txt", "--out", "x.jsonl"], "PARAMETER_GOLF_REPO"),
        (["audit", "x.py", "--set", "TTT_ENABLED"], "NAME=VALUE is wanted"),
        (["fix"], "nothing to audit"),
        (["rules", "Z9"], "no rule 'Z9'"),
        (["replay", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PARAMETER_GOLF_REPO", raising=False)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("auditor: ")
    assert message.count("\n") == 1
    assert words in message


def test_a_pull_request_of_the_clone_that_the_environment_names(
    challenge: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARAMETER_GOLF_REPO", str(challenge.path))
    assert main(["audit", "--pr", "9", "--format", "json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["schema"], result["pr"], result["head"]) == (1, 9, challenge.heads[9])
    assert result["path"] == "records/track_10min_16mb/leaky/train_gpt.py"
    assert "C2b" in {f["rule"] for f in result["findings"] if f["status"] == "fail"}
    assert main(["audit", "--pr", "9", "--at", challenge.heads[1][:10], "--format", "json"]) == 0


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("review.md", "### Audit of"),
        ("review.html", "<!doctype html>"),
        ("review.json", '{"schema": 1'),
        ("review.svg", "<svg"),
        ("review.txt", "leaky.py"),
    ],
)
def test_the_suffix_of_the_output_chooses_the_format(
    leaky: Path, tmp_path: Path, name: str, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / name
    assert main(["audit", str(leaky), "--output", str(output)]) == 1
    assert output.read_text(encoding="utf-8").startswith(start)
    assert capsys.readouterr().out == f"wrote {output}\n"


def test_an_output_that_cannot_be_written_is_named(
    clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(clean), "--output", f"{clean}/x.md"]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\xff\xfe\xff", "not Python source"),
        ("\ufeffx = 1".encode("utf-16"), "not Python source"),
        (b"x = '\xe9'\n", "not Python source"),
        (b"# coding: latin-1\nx = '\xe9'\n", ""),
        (b"\xef\xbb\xbf# a comment\n", ""),
        (b"x = 1\0\n", "train_gpt.py: source code"),
        (b"x = (" * 400, "train_gpt.py"),
        (b"\x7fELF\0\0\0", "not"),
        (b"import urllib.request\nexec(urllib.request.urlopen('http://x').read())\n", "line 2"),
        (b"# a comment\n", ""),
    ],
)
def test_bad_input_is_one_named_result(
    tmp_path: Path, data: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train_gpt.py"
    script.write_bytes(data)
    assert main(["audit", str(script), "--format", "json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert result["validity"] == "unknown"
    assert any(words in text for text in result["not_examined"])


def test_a_huge_file_of_a_folder_is_unknown_and_named(tmp_path: Path) -> None:
    with (tmp_path / "train_gpt.py").open("wb") as file:
        file.truncate(200 << 20)
    audit = audit_in_full(load_target(tmp_path)[0], policy=FRONTIER_2026_04).audit
    assert audit.validity == Validity.UNKNOWN
    assert any("over the limit" in text for text in audit.not_examined)


class _Failing(Rule):
    id, title, axis = "Z9", "always breaks", Axis.VALIDITY
    what = why = source = ""

    def check(self, context: Context) -> Iterator[Finding]:  # noqa: ARG002
        raise ZeroDivisionError("a hostile script")


def test_a_rule_that_breaks_costs_itself_and_makes_nothing_valid(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = all_rules()
    monkeypatch.setattr(auditor.audit, "all_rules", lambda: (*others, _Failing()))
    audit = audit_in_full(load_target(clean)[0], policy=FRONTIER_2026_04).audit
    (broken,) = (f for f in audit.findings if f.rule == "Z9")
    assert broken.status == Status.UNKNOWN
    assert "ZeroDivisionError: a hostile script" in broken.reason
    assert len(audit.findings) >= len(others) + 1
    assert audit.validity == Validity.UNKNOWN


def test_what_was_not_examined_is_said(challenge: Any) -> None:
    audit = audit_in_full(load_pull_request(challenge.path, 7)[0], policy=FRONTIER_2026_04).audit
    text = "\n".join(audit.not_examined)
    assert "weights.py: its blob is missing from this clone" in text
    assert "secrets.txt: a symbolic link: not followed" in text
    assert "the dynamic probes were not asked for" in text
    assert "rules without a check in this version: " in text


def test_rules_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == 0
    assert "  C2b  a lookup key is mixed with the token" in capsys.readouterr().out
    assert main(["rules", "c2b"]) == 0
    page = capsys.readouterr().out
    for part in ("C2b: ", "What: ", "Why: ", "Source: ", "Legal: ", "Invalid:", "Valid:"):
        assert part in page


def _child(code: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )


def test_the_static_path_loads_no_heavy_package(clean: Path) -> None:
    done = _child(
        "import sys\nfrom auditor.cli import main\n"
        f"main(['audit', {str(clean)!r}, '--format', 'json'])\n"
        "print(sorted({'torch', 'numpy', 'libcst', 'rich', 'hedge_record'} & set(sys.modules)))"
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_answers_at_once() -> None:
    done = _child(
        "import time\nfrom auditor.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\nprint(time.process_time())"
    )
    assert "examples:" in done.stdout
    assert float(done.stdout.splitlines()[-1]) < 0.3
