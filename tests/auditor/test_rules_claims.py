"""What a record claims of itself: its score by its logs (F1), its seeds and configuration (S2)."""

import json

import pytest

from auditor.evidence.claims import read_claims
from auditor.finding import Finding, Status
from auditor.program.index import build
from auditor.rules.base import Context, Rule
from auditor.rules.claim_not_logged import ClaimNotLogged
from auditor.rules.too_few_seeds import TooFewSeeds
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack

FOLDER = "records/track_10min_16mb/a"
NON_RECORD = "records/track_non_record_16mb/a"


def check(rule: Rule, claim: object, logs: list[str], folder: str = FOLDER) -> list[Finding]:
    """What a rule says of a folder with these logs."""
    texts = {"submission.json": json.dumps(claim), "train_gpt.py": "print(1)\n"}
    texts |= {f"train_{n}.log": text for n, text in enumerate(logs)}
    files = {name: SourceFile.of(f"{folder}/{name}", t.encode()) for name, t in texts.items()}
    submission = Submission(files["train_gpt.py"], files, is_folder=True)
    program = build(submission, unpack(submission.main, submission.files))
    return list(rule.check(Context(submission, program, read_claims(submission))))


def log(seed: int, bpb: float, width: int = 512) -> str:
    return f"seed:{seed}\n  model_dim: {width}\nfinal val_loss:2.0 val_bpb:{bpb:.6f}\n"


LOGS = [log(1, 1.10), log(2, 1.11), log(3, 1.12)]


@pytest.mark.parametrize(
    ("claim", "logs", "status"),
    [
        ({"val_bpb": 1.11}, LOGS, Status.PASS),
        ({"val_bpb": 1.1204}, [*LOGS[:2], log(3, 1.1204)], Status.NOTE),
        ({"val_bpb": 1.1107}, LOGS, Status.NOTE),
        ({"val_bpb": 1.0}, LOGS, Status.FAIL),
        ({"val_bpb": 1.0}, [], Status.NOT_APPLICABLE),
        ({}, LOGS, Status.NOT_APPLICABLE),
    ],
)
def test_a_claim_is_held_against_the_logs(claim: object, logs: list[str], status: Status) -> None:
    (finding,) = check(ClaimNotLogged(), claim, logs)
    assert finding.status is status
    if status is Status.FAIL:
        assert [e.path.rpartition("/")[2] for e in finding.evidence] == [
            "submission.json",
            *(f"train_{n}.log" for n in range(3)),
        ]


@pytest.mark.parametrize(
    ("claim", "logs", "statuses"),
    [
        ({}, LOGS, [Status.PASS]),
        ({"seeds": [1, 2, 3]}, [], [Status.PASS]),
        ({}, LOGS[:2], [Status.FAIL]),
        ({}, [], [Status.FAIL]),
        ({}, [*LOGS, log(4, 1.1, width=640)], [Status.PASS, Status.NOTE]),
    ],
)
def test_seeds_are_counted_and_configurations_compared(
    claim: object, logs: list[str], statuses: list[Status]
) -> None:
    found = check(TooFewSeeds(), claim, logs)
    assert [finding.status for finding in found] == statuses
    assert [f.status for f in check(TooFewSeeds(), claim, logs, NON_RECORD)] == [
        Status.NOT_APPLICABLE
    ]
