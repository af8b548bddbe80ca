"""What the logs hold decides whether a branch ran, and how sure a finding is."""

import pytest

from auditor.evidence.claims import read_claims
from auditor.finding import Confidence, Finding, Status
from auditor.program.index import build
from auditor.rules import Context
from auditor.rules.update_before_score import UpdateBeforeScore
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack

SCRIPT = """
import math, os, numpy as np, torch
import torch.nn.functional as F
stream = torch.from_numpy(np.fromfile("fineweb_val_0.bin", dtype=np.uint16)).long()
net = torch.nn.Linear(16, 1024)
adapt = os.environ.get("ADAPT", "{default}") == "1"
if adapt:
    print(f"adaptation begins: lr={{0.1}}")
if adapt:
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    F.cross_entropy(net(stream[:-1]), stream[1:]).backward()
    opt.step()
    print(f"adaptation took {{1}} seconds")
loss = F.cross_entropy(net(stream[:-1]), stream[1:]).item()
print(f"final val_loss:{{loss}} val_bpb:{{loss / math.log(2)}}")
"""
SILENT = SCRIPT.replace('    print(f"adaptation took {{1}} seconds")\n', "")
FINAL = "final val_loss:2.0 val_bpb:1.2\n"


def check(default: str, log: str, encoding: str = "utf-8", script: str = SCRIPT) -> Finding:
    files = {
        "train_gpt.py": SourceFile.of("train_gpt.py", script.format(default=default).encode()),
        "train.log": SourceFile.of("train.log", log.encode(encoding)),
    }
    submission = Submission(files["train_gpt.py"], files, is_folder=True)
    program = build(submission, unpack(submission.main, files))
    (found,) = UpdateBeforeScore().check(Context(submission, program, read_claims(submission)))
    return found


@pytest.mark.parametrize(
    ("default", "log", "status", "confidence"),
    [
        ("0", FINAL, Status.PASS, Confidence.HIGH),
        ("0", "adaptation took 12 seconds\n" + FINAL, Status.FAIL, Confidence.HIGH),
        ("1", "adaptation begins: lr=0.1\n" + FINAL, Status.FAIL, Confidence.LOW),
        ("1", "adaptation took 12 seconds\n" + FINAL, Status.FAIL, Confidence.LOW),
        ("1", "adaptation begins: lr=1\nadaptation took 3\n" + FINAL, Status.FAIL, Confidence.HIGH),
        ("1", FINAL, Status.FAIL, Confidence.LOW),
        # a score that the script cannot have printed: the log is another version's
        ("1", FINAL.replace("final", "final_adapted"), Status.FAIL, Confidence.HIGH),
        ("1", FINAL.replace("final", "final_adapted") + FINAL, Status.FAIL, Confidence.LOW),
    ],
)
def test_logs_prove_or_doubt_a_branch(
    default: str, log: str, status: Status, confidence: Confidence
) -> None:
    found = check(default, log)
    assert (found.status, found.confidence) == (status, confidence)


@pytest.mark.parametrize("switch", ["adapt", "adapt and net is not None"])
def test_a_switch_that_was_on_for_one_branch_is_on_for_those_that_print_nothing(
    switch: str,
) -> None:
    script = SILENT.replace("if adapt:", f"if {switch}:", 1)
    assert check("0", "adaptation begins: lr=1\n" + FINAL, script=script).status is Status.FAIL
    assert check("0", FINAL, script=script).status is Status.PASS


@pytest.mark.parametrize(
    "before",
    ["[2026-03-23 04:39:11] INFO: ", "[rank0]: ", "12:00:01.250 - INFO - ", "\x1b[32m", "| "],
)
def test_a_line_is_known_behind_what_a_logger_sets_before_it(before: str) -> None:
    log = f"{before}adaptation begins: lr=1\n{before}adaptation took 3\n" + FINAL
    assert check("1", log).confidence is Confidence.HIGH


def test_lines_of_a_utf_16_log_count() -> None:
    log = "adaptation begins: lr=1\nadaptation took 3\n" + FINAL
    assert check("1", log, "utf-16").confidence is Confidence.HIGH


def test_the_end_of_a_long_log_counts() -> None:
    log = "step:1 of many\n" * 100_000 + "adaptation begins: lr=1\nadaptation took 3\n" + FINAL
    assert check("1", log).confidence is Confidence.HIGH
