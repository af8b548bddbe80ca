"""Batches: a line a script in the order of the jobs, resumable; no job takes the rest along."""

import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import auditor.batch
from auditor.batch import Job, Plan, audit_job, read_jobs, run_batch
from auditor.cli import main
from auditor.errors import AuditError

POLICY = "frontier-2026-04"


def plan(challenge: Any, tmp_path: Path, *jobs: Job, **changes: Any) -> Plan:
    """A plan over the test clone."""
    return Plan(challenge.path, jobs, tmp_path / "results.jsonl", POLICY, **changes)


def results(path: Path) -> list[dict[str, Any]]:
    """The objects of a results file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_job_has_its_lines_in_order(challenge: Any, tmp_path: Path) -> None:
    wanted = plan(challenge, tmp_path, (9, None), (5, None), (77, None), (1, None), processes=2)
    outcomes = list(run_batch(wanted))
    assert [dict(o) for o in outcomes] == [
        {"invalid": 1},
        {"valid": 2},
        {"unknown": 1},
        {"valid": 1},
    ]
    found = results(wanted.out)
    assert [r["pr"] for r in found] == [9, 5, 5, 77, 1]
    assert found[0]["head"] == challenge.heads[9]
    assert "no pull request 77" in found[3]["not_examined"][0]


def test_a_commit_is_read_instead_of_the_head(challenge: Any, tmp_path: Path) -> None:
    (line,) = audit_job(plan(challenge, tmp_path), (1, challenge.heads[2][:12]))
    assert json.loads(line)["head"] == challenge.heads[2]
    assert json.loads(line)["path"].endswith("merged/train_gpt.py")


def test_an_interrupted_run_goes_on_where_its_file_ends(challenge: Any, tmp_path: Path) -> None:
    whole = plan(challenge, tmp_path, (1, None), (9, challenge.heads[9][:8]), (5, None))
    list(run_batch(whole))
    lines = whole.out.read_text().splitlines(keepends=True)
    whole.out.write_text(lines[0] + lines[1] + lines[2][:50])
    outcomes = [dict(o) for o in run_batch(whole)]
    assert outcomes == [{"already there": 1}, {"already there": 1}, {"valid": 2}]
    assert [r["pr"] for r in results(whole.out)] == [1, 9, 5, 5]


def test_results_of_another_policy_are_not_mixed_in(challenge: Any, tmp_path: Path) -> None:
    first = plan(challenge, tmp_path, (1, None))
    list(run_batch(first))
    other = Plan(challenge.path, ((9, None),), first.out, "readme-2026-03")
    with pytest.raises(AuditError, match="holds results under policy"):
        list(run_batch(other))


def test_the_cache_gives_the_same_line_without_auditing(
    challenge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = plan(challenge, tmp_path, cache=tmp_path / "cache")
    first = audit_job(cached, (9, None))
    monkeypatch.setattr(auditor.batch, "audit_submission", None)
    assert audit_job(cached, (9, None)) == first
    (refused,) = audit_job(plan(challenge, tmp_path, cache=tmp_path / "other"), (9, None))
    assert json.loads(refused)["validity"] == "unknown"


def test_the_cache_knows_the_policy_the_files_and_the_auditor(
    challenge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from auditor.submission.load import load_pull_request

    (one,) = load_pull_request(challenge.path, 1)
    (other,) = load_pull_request(challenge.path, 2)
    base = plan(challenge, tmp_path)
    keys = [
        auditor.batch._key(base, one),
        auditor.batch._key(base, other),
        auditor.batch._key(Plan(base.repo, (), base.out, "readme-2026-03"), one),
        auditor.batch._key(plan(challenge, tmp_path, dynamic=True), one),
    ]
    assert auditor.batch._key(base, one) == keys[0]
    monkeypatch.setattr(auditor.batch, "_version", lambda: "another")
    keys.append(auditor.batch._key(base, one))
    assert len(set(keys)) == 5


def test_a_hanging_job_ends_at_its_limit(
    challenge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor.batch, "load_from_clone", lambda *_: time.sleep(30))
    started = time.monotonic()
    (line,) = audit_job(plan(challenge, tmp_path, seconds=1), (1, None))
    assert time.monotonic() - started < 5
    assert json.loads(line)["not_examined"] == ["took more than 1 s"]


def test_an_unforeseen_error_costs_one_result(
    challenge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor.batch, "load_from_clone", lambda *_: 1 // 0)
    (line,) = audit_job(plan(challenge, tmp_path), (1, None))
    assert "ZeroDivisionError" in json.loads(line)["not_examined"][0]


def _die_on_five(plan: Plan, job: Job) -> list[str]:
    if job[0] == 5:
        os._exit(1)
    return audit_job(plan, job)


def test_a_job_that_kills_its_process_costs_one_result(
    challenge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor.batch, "audit_job", _die_on_five)
    fork = multiprocessing.get_context("fork")  # so that the children know the function above
    monkeypatch.setattr(
        auditor.batch._Pool,
        "_new",
        lambda self: ProcessPoolExecutor(self.plan.processes, mp_context=fork),
    )
    wanted = plan(challenge, tmp_path, (1, None), (5, None), (9, None), (2, None), processes=2)
    list(run_batch(wanted))
    found = results(wanted.out)
    assert [(r["pr"], r["validity"]) for r in found] == [
        (1, "valid"),
        (5, "unknown"),
        (9, "invalid"),
        (2, "valid"),
    ]
    assert found[1]["not_examined"] == ["the process that audited it died"]


def test_a_list_of_jobs(tmp_path: Path) -> None:
    path = tmp_path / "prs.txt"
    path.write_text("700\n\n# a comment\n1019 D7FBE3d16  # with a commit\n")
    assert read_jobs(path) == [(700, None), (1019, "d7fbe3d16")]
    path.write_text("700\n#1\nseven\n")
    with pytest.raises(AuditError, match=r"prs.txt:3: .*'seven'"):
        read_jobs(path)
    with pytest.raises(AuditError, match="cannot be read"):
        read_jobs(tmp_path / "nowhere")


def test_the_command_writes_results_and_says_how_they_came_out(
    challenge: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prs, out = tmp_path / "prs.txt", tmp_path / "out" / "results.jsonl"
    prs.write_text("1\n9\n")
    arguments = ["batch", "--repo", str(challenge.path), "--prs", str(prs), "--out", str(out)]
    assert main([*arguments, "--jobs", "1", "--cache", str(tmp_path / "cache")]) == 0
    assert len(results(out)) == 2
    assert capsys.readouterr().out == f"{out}: 1 valid, 1 invalid\n"
