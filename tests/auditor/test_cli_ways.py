"""The ways in beside `audit TARGET`: a branch, a hook, several reports, the action's scripts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from auditor.cli import main
from auditor.submission.load import load_pull_request

ROOT = Path(__file__).parents[2]
NAMES = ("review.md", "report.html", "audit.json", "audit.sarif")


@pytest.fixture(name="folder")
def _folder(challenge: Any, tmp_path: Path) -> Path:
    """A working tree with a record folder whose script has a fault."""
    folder = tmp_path / "records" / "track_10min_16mb" / "leaky"
    folder.mkdir(parents=True)
    (submission,) = load_pull_request(challenge.path, 9)
    for name, file in submission.files.items():
        (folder / name).write_bytes(file.data)
    return folder


def test_what_a_branch_changes_is_audited_from_git_alone(
    challenge: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    change = ["audit", "--repo", str(challenge.path), "--base", "main", "--format", "json"]
    assert main([*change, "--at", challenge.heads[9]]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["pr"], result["head"]) == (None, challenge.heads[9])
    assert result["path"] == "records/track_10min_16mb/leaky/train_gpt.py"
    assert main([*change, "--at", challenge.heads[8]]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no training script changed since main" in captured.err
    assert main([*change, "--at=--upload-pack=x"]) == 2
    assert main([*change, "--at", "nowhere"]) == 2
    assert "names no commit" in capsys.readouterr().err


def test_one_audit_writes_several_reports(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [flag for name in NAMES for flag in ("--output", str(tmp_path / "out" / name))]
    assert main(["audit", str(folder), *outputs, "--format", "github"]) == 1
    starts = ("### Audit of", "<!doctype html>", '{"schema": 1', "{\n")
    for name, start in zip(NAMES, starts, strict=True):
        assert (tmp_path / "out" / name).read_text(encoding="utf-8").startswith(start)
    printed = capsys.readouterr().out
    assert printed.count("wrote ") == len(NAMES)
    assert "::error file=" in printed


@pytest.mark.parametrize("name", ["train_gpt.py", "train_seed1.log", "submission.json"])
def test_the_hook_audits_the_folder_of_a_changed_file(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hook", str(folder / name), str(folder / "README.md")]) == 1
    printed = capsys.readouterr().out
    assert printed.count("fail[C2b]") == 1
    assert "legal:" in printed


def test_the_hook_passes_what_is_not_invalid(folder: Path, tmp_path: Path) -> None:
    (folder / "train_gpt.py").write_text("def (:\n")
    assert main(["hook", str(folder / "train_gpt.py")]) == 0
    other = tmp_path / "notes.txt"
    other.write_text("nothing\n")
    assert main(["hook", str(other)]) == 0


@pytest.mark.parametrize(
    ("shell", "words"), [("bash", "complete -"), ("zsh", "#compdef"), ("fish", "complete -c")]
)
def test_completion_knows_every_command(
    shell: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert words in script
    for command in ("audit", "batch", "replay", "rules", "serve", "hook"):
        assert command in script
    if shell == "bash":
        checked = subprocess.run(["bash", "-n"], input=script, text=True, check=False)
        assert checked.returncode == 0


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:parameter-golf-proof:audit:1"


def script(name: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs one of the action's scripts as GitHub would."""
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": str(folder),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "REPORT": str(folder / "report"),
        **variables,
    }
    command = ["bash", str(ROOT / ".github" / name)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("pr", "fail_on", "status", "validity"),
    [
        (9, "invalid", 1, "invalid"),
        (9, "never", 0, "invalid"),
        (1, "invalid", 0, "valid"),
        (8, "undecided", 0, "none"),
    ],
)
def test_the_action_audits_and_says_what_came_out(
    challenge: Any, tmp_path: Path, pr: int, fail_on: str, status: int, validity: str
) -> None:
    auditor = tmp_path / "auditor"
    auditor.write_text(f'#!/bin/sh\nexec {sys.executable} -m auditor.cli "$@"\n')
    auditor.chmod(0o755)
    done = script(
        "audit.sh",
        tmp_path,
        AUDITOR=str(auditor),
        BASE="main",
        HEAD=challenge.heads[pr],
        REPOSITORY=str(challenge.path),
        POLICY="",
        FAIL_ON=fail_on,
        PYTHONPATH=str(ROOT),
    )
    assert done.returncode == status, done.stderr
    assert f"validity={validity}\n" in (tmp_path / "output").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "report").iterdir()} == set(NAMES)
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("No training script" if validity == "none" else "### Audit of")


def test_the_action_keeps_one_comment(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "review.md").write_text("### Audit\n" + "é" * 50_000, encoding="utf-8")
    shutil.copy(ROOT / "tests" / "auditor" / "gh_stub.sh", tmp_path / "gh")
    (tmp_path / "gh").chmod(0o755)
    variables = {"GITHUB_REPOSITORY": "a/b", "PULL": "7", "CALLS": str(tmp_path / "calls")}
    assert script("comment.sh", tmp_path, **variables).returncode == 0
    assert script("comment.sh", tmp_path, **variables, LAST="41").returncode == 0
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    writes = [call for call in calls if "--method" in call]
    assert "--method POST repos/a/b/issues/7/comments" in writes[0]
    assert "--method PATCH repos/a/b/issues/comments/41" in writes[1]
    body = (tmp_path / "report" / "comment.md").read_text(encoding="utf-8")
    assert body.startswith("<!-- parameter-golf-audit -->\n### Audit\n")
    assert len(body.encode()) < 61_000
