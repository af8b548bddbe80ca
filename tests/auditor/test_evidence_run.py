"""What a log says of its run: tokens, shards, calibration after the stop, timed blocks."""

import pytest

from auditor.evidence.figures import LogClaims
from auditor.evidence.logs import read_log
from auditor.evidence.scored_bytes import claimed_line, scored_bytes
from auditor.submission.model import SourceFile

LOG = """\
val_loader:shards pattern=./data/fineweb_val_*.bin tokens:62021632
train_loader:dataset:fineweb10B train_shards:80
gptq:reserving 14000ms from training budget, effective=586000ms
step:100/200 val_loss:2.0 val_bpb:1.2 train_time:9000ms
stopping_early: wallclock_cap train_time:586012ms step:150/200
gptq:calibrating with 64 batches (training data)...
gptq:calibrated 68 layers in 3.4s
gptq:generated 64 sequences in 196.7s
final_int6_sliding_window_exact val_loss:1.96000000 val_bpb:1.16083000 eval_time:74595ms
final_ngram_exact val_loss:1.9 val_bpb:0.9 ngram_eval_time:890878ms
"""


def read(text: str) -> LogClaims:
    claims = read_log(SourceFile.of("train.log", text.encode()))
    assert isinstance(claims, LogClaims)
    return claims


def test_the_facts_of_a_run() -> None:
    run = read(LOG).run
    assert run.val_tokens is not None
    assert (run.val_tokens.value, run.val_tokens.evidence.line) == (62_021_632, 1)
    assert run.train_shards is not None
    assert run.train_shards.value == 80
    assert run.reserve is not None
    assert run.reserve.value == 14.0
    assert [(c.data, c.seconds, c.after) for c in run.calibrations] == [
        ("training", None, True),
        ("unknown", 3.4, True),
        ("generated", 196.7, True),
    ]
    assert [b.seconds for b in run.blocks] == [74.595, 890.878]


def test_a_setting_is_no_calibration() -> None:
    run = read("  gptq_calibration_batches: 64\n  gptq_reserve_seconds: 4.0\nval_bpb:1.0\n").run
    assert run.calibrations == ()
    assert run.reserve is not None
    assert run.reserve.value == 4.0


def test_the_bytes_that_a_score_implies() -> None:
    right, wrong = scored_bytes(read(LOG))
    assert right.total == pytest.approx(151.08e6, rel=1e-4)
    assert wrong.excess == pytest.approx(0.25, abs=0.01)
    assert claimed_line([right, wrong], None) is wrong
    assert claimed_line([right, wrong], right.tokens) is wrong
