"""Size, files and hardware: what the folder, its logs and submission.json say."""

import json

import pytest

from auditor.evidence.claims import read_claims
from auditor.finding import Confidence, Finding, Status
from auditor.program.index import build
from auditor.rules import Context
from auditor.rules.artifact_too_large import ArtifactTooLarge
from auditor.rules.base import Rule
from auditor.rules.hardware import Hardware
from auditor.rules.missing_files import MissingFiles
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack

MAIN = b"x = 1\n" * 10_000


def check(rule: Rule, *, folder: bool = True, **files: str) -> Finding:
    held = {"train_gpt.py": SourceFile.of("train_gpt.py", MAIN)}
    for name, text in files.items():
        path = name.replace("_DOT_", ".")
        held[path] = SourceFile.of(path, text.encode())
    submission = Submission(held["train_gpt.py"], held, is_folder=folder)
    program = build(submission, unpack(submission.main, held))
    (found,) = rule.check(Context(submission, program, read_claims(submission)))
    return found


def log(model: int, total: int) -> str:
    return (
        f"Serialized model int6+lzma: {model} bytes\n"
        f"Total submission size int6+lzma: {total} bytes\n"
        "final val_loss:2.0 val_bpb:1.18\n"
    )


@pytest.mark.parametrize(
    ("model", "total", "status"),
    [
        (15_000_000, 15_060_000, Status.PASS),
        (15_990_000, 16_050_000, Status.FAIL),  # within if packed, but stated to be over
        (16_010_000, 16_070_000, Status.FAIL),
        (15_999_000, 15_999_999, Status.NOTE),
    ],
)
def test_size_by_three_conventions(model: int, total: int, status: Status) -> None:
    assert check(ArtifactTooLarge(), train_DOT_log=log(model, total)).status is status


def test_size_is_unknown_without_any_number() -> None:
    assert check(ArtifactTooLarge()).status is Status.NOT_APPLICABLE


def test_the_largest_seed_counts() -> None:
    found = check(
        ArtifactTooLarge(),
        a_DOT_log=log(15_000_000, 15_060_000),
        b_DOT_log=log(16_010_000, 16_070_000),
    )
    assert found.status is Status.FAIL


def test_a_stated_total_within_the_cap_leaves_a_note() -> None:
    described = json.dumps({"bytes_total": 15_990_000})
    found = check(
        ArtifactTooLarge(),
        train_DOT_log=log(15_990_000, 16_050_000),
        submission_DOT_json=described,
    )
    assert found.status is Status.NOTE


def test_missing_files_are_all_named() -> None:
    found = check(MissingFiles(), README_DOT_md="hello")
    assert found.status is Status.FAIL
    assert "submission.json" in found.reason
    assert "log" in found.reason
    assert "README" not in found.reason
    assert check(MissingFiles(), folder=False).status is Status.NOT_APPLICABLE


def test_malformed_json_is_named() -> None:
    found = check(
        MissingFiles(), README_DOT_md="x", submission_DOT_json="{", train_DOT_log=log(1, 2)
    )
    assert found.status is Status.FAIL
    assert found.evidence[0].path == "submission.json"


def test_hardware_of_the_record_track() -> None:
    cpu = json.dumps({"track": "track_10min_16mb", "hardware": "2 CPU cores"})
    h100 = json.dumps({"track": "track_10min_16mb", "hardware": "8xH100 80GB SXM"})
    other = json.dumps({"track": "non-record", "hardware": "1xA100"})
    assert check(Hardware(), submission_DOT_json=cpu).status is Status.FAIL
    assert check(Hardware(), submission_DOT_json=h100).status is Status.PASS
    assert check(Hardware(), submission_DOT_json=other).status is Status.NOT_APPLICABLE


def hardware(**files: str) -> tuple[Status, Confidence]:
    found = check(Hardware(), **files)
    return found.status, found.confidence


def test_the_readme_counts_where_nothing_else_names_the_devices() -> None:
    said = "Trained for 600 s on 8xH100 SXM."
    one = "final val_loss:2.0 val_bpb:1.18\nworld_size:1 grad_accum_steps:8\n"
    assert hardware(README_DOT_md=said) == (Status.PASS, Confidence.LOW)
    assert hardware(README_DOT_md=said, train_DOT_log=one) == (Status.FAIL, Confidence.HIGH)
    assert hardware(README_DOT_md="Trained on one A100.") == (Status.NOTE, Confidence.LOW)
    assert hardware(README_DOT_md="A model.")[0] is Status.UNKNOWN
