"""Claims held against logs: which tag, which bytes, which seconds, and how sure a gain is."""

import json
import math
import random
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.cli import main
from auditor.evidence.books import Books, keep_books
from auditor.evidence.catalogue import Catalogue, FrontierRow, measure, shipped
from auditor.evidence.claims import read_claims
from auditor.evidence.ledger import check_claim, differences, scores_by_tag
from auditor.evidence.packing import packed_bytes
from auditor.evidence.significance import (
    Sample,
    compare,
    pooled_deviation,
    seeds_needed,
)
from auditor.policy import FRONTIER_2026_04, POLICIES
from auditor.submission.model import SourceFile, Submission

SCRIPT = "".join(f"value_{n} = {n * n}\n" for n in range(400)).encode()
TOKENS = 62_021_632
NATS = 2.4359 * math.log(2)  # a bit a byte, for the vocabulary of 1,024 tokens


def log(seed: int, before: float, after: float, *, width: int = 512, scale: float = 1.0) -> str:
    """A log of a run whose scores are `before` and `after` adaptation, in bits per byte; with
    `scale` its bytes are that many times too many."""
    return f"""\
seed:{seed}
Hyperparameters:
  seed: {seed}
  model_dim: {width}
  matrix_lr: 0.02
  run_id: run{seed}
val_loader:shards pattern=fineweb_val_*.bin tokens:{TOKENS}
step:100/200 val_loss:2.9 val_bpb:1.7 train_time:9000ms
stopping_early: wallclock_cap train_time:599500ms step:150/200
gptq:calibrated 68 layers in 3.4s
Serialized model int6+lzma: 15800000 bytes
Code size: 4000 bytes
Total submission size int6+lzma: 15804000 bytes
diagnostic quantized val_loss:{before * NATS * scale:.8f} val_bpb:{before:.8f} eval_time:20000ms
final_ttt val_loss:{after * NATS * scale:.4f} val_bpb:{after:.4f} eval_time:300000ms
final_ttt_exact val_loss:{after * NATS * scale:.8f} val_bpb:{after:.8f}
"""


def books(claim: object, logs: dict[str, str], folder: str = "2026-04-20_a") -> Books:
    """The books of a record folder."""
    path = f"records/track_10min_16mb/{folder}"
    texts = {"submission.json": json.dumps(claim), **logs}
    files = {name: SourceFile.of(f"{path}/{name}", text.encode()) for name, text in texts.items()}
    files["train_gpt.py"] = SourceFile.of(f"{path}/train_gpt.py", SCRIPT)
    submission = Submission(files["train_gpt.py"], files, is_folder=True)
    return keep_books(submission, read_claims(submission), POLICIES.values())


THREE = {
    "train_seed1.log": log(1, 1.10, 1.0501),
    "train_seed2.log": log(2, 1.11, 1.0503),
    "train_seed3.log": log(3, 1.09, 1.0508),
}


@pytest.mark.parametrize(
    ("claim", "basis", "tag"),
    [
        (1.0504, "mean", "final_ttt"),
        (1.1, "mean", "diagnostic quantized"),
        (1.0501, "run", "final_ttt"),
        (1.09, "run", "diagnostic quantized"),
        (1.0499, "none", "final_ttt"),
        (0.99, "none", "final_ttt"),
    ],
)
def test_a_claim_is_the_mean_of_a_tag_or_one_run_or_in_no_log(
    claim: float, basis: str, tag: str
) -> None:
    check = books({"val_bpb": claim}, THREE).check
    assert check is not None
    assert check.scores is not None
    assert (check.basis, check.scores.tag) == (basis, tag)
    if basis == "mean":
        assert check.difference == pytest.approx(0, abs=1e-4)


def test_scores_stand_by_tag_and_run_with_mean_and_deviation() -> None:
    kept = books({"val_bpb": 1.0504}, THREE)
    before, after = kept.scores
    assert (before.tag, after.tag) == ("diagnostic quantized", "final_ttt")
    assert after.values == (1.0501, 1.0503, 1.0508)
    assert after.mean == pytest.approx(1.0504)
    assert after.deviation == pytest.approx(statistics.stdev(after.values))
    assert after.metrics[0].evidence.text.startswith("final_ttt_exact")


def test_several_runs_in_one_file_are_told_apart_by_their_seeds() -> None:
    kept = books({"val_bpb": 1.0504}, {"train.log": "".join(THREE.values())})
    assert kept.scores[-1].values == (1.0501, 1.0503, 1.0508)
    closing = "".join(
        f"final val_bpb: {1 + n / 10}\n=== RUN COMPLETE ===\nseed: {n}\n" for n in (1, 2)
    )
    own = books({"val_bpb": 1.15}, {"train.log": closing})
    assert own.scores[-1].values == (1.1, 1.2)


def test_the_rows_of_the_runs_count_bytes_in_three_ways_and_seconds_by_block() -> None:
    run = books({"val_bpb": 1.0504}, THREE).runs[0]
    assert run.totals.logged is not None
    assert run.totals.logged.bytes == 15_804_000
    assert run.totals.shipped == 15_800_000 + len(SCRIPT)
    assert run.totals.packed == 15_800_000 + packed_bytes(SCRIPT)
    assert packed_bytes(SCRIPT) < len(SCRIPT)
    assert run.code == 4000
    assert [size.bytes for size in run.codes] == [4000]
    assert (run.trained, run.calibration) == (599.5, 3.4)
    assert [(b.block.seconds, b.validation, b.needed) for b in run.blocks] == [
        (20.0, True, False),
        (300.0, True, True),
    ]
    assert (run.evaluated, run.evaluated_with_all) == (300.0, 320.0)


def test_what_is_timed_on_random_tokens_reads_no_validation_text() -> None:
    text = log(1, 1.1, 1.05) + "ttt:compile warmup on random tokens eval_time: 90.0s\n"
    run = books({"val_bpb": 1.05}, {"train.log": text}).runs[0]
    assert [b.validation for b in run.blocks] == [True, True, False]
    assert run.evaluated == 300.0


def test_hyperparameters_that_differ_are_named_but_for_seeds_and_paths() -> None:
    logs = {**THREE, "train_seed4.log": log(4, 1.1, 1.0504, width=640)}
    (found,) = books({"val_bpb": 1.0504}, logs).differences
    assert found.name == "model_dim"
    assert {value for _, _, value in found.values} == {"512", "640"}
    assert [line for _, line, _ in found.values] == [4] * 4


def test_a_score_over_other_bytes_is_corrected_by_their_ratio() -> None:
    right = books({"val_bpb": 1.0504}, THREE)
    assert right.corrected_bpb is None
    assert right.texts[0].vocabulary == "1,024 tokens"
    assert right.texts[0].total == pytest.approx(151.08e6, rel=1e-4)
    wrong = books({"val_bpb": 1.05}, {"train.log": log(1, 1.1, 1.05, scale=1.17)})
    assert wrong.corrected_bpb == pytest.approx(1.05 * 1.17, rel=1e-4)
    assert wrong.texts[0].vocabulary is None


# The p-values that the challenge's own leaderboard states for these rows (Welch's test).
FIVE = (1.06356801, 1.0641313, 1.06466993, 1.06509678, 1.06516558)
BEFORE_FIVE = (1.0661, 1.06473, 1.06563)
TOP = (1.05662016, 1.05610947, 1.05679341)
BEFORE_TOP = (1.05740567, 1.05730104, 1.05807084)


@pytest.mark.parametrize(
    ("own", "row", "p"), [(FIVE, BEFORE_FIVE, 0.063), (TOP, BEFORE_TOP, 0.014)]
)
def test_p_values_are_those_of_the_leaderboard(
    own: tuple[float, ...], row: tuple[float, ...], p: float
) -> None:
    (found,) = compare(
        Sample.of(own), Sample.of(row), margin=0, alpha=0.25, sigma=8e-4, bytes_per_token=None
    )
    welch = next(test for test in found.tests if test.name == "Welch t")
    assert welch.p == pytest.approx(p, abs=5e-4)
    assert found.gain == pytest.approx(statistics.fmean(row) - statistics.fmean(own))


def test_a_margin_in_nats_is_answered_per_token_and_per_byte() -> None:
    token, byte = compare(
        Sample.of((1.0, 1.001, 1.002)),
        Sample(1.005),
        margin=0.005,
        alpha=0.01,
        sigma=1e-3,
        bytes_per_token=3.0,
    )
    assert (token.unit, byte.unit) == ("nats per token", "nats per byte")
    assert token.gain == pytest.approx(3 * byte.gain)
    assert token.gain > 0.005 > byte.gain
    assert token.seeds_needed is not None
    assert byte.seeds_needed is None
    assert "no number of seeds" in byte.words
    assert not any(word in token.words.split() for word in ("yes", "no"))


def test_one_seed_has_no_t_test_and_still_a_z() -> None:
    (found,) = compare(
        Sample(1.0), Sample(1.001), margin=0, alpha=0.25, sigma=1e-3, bytes_per_token=2.4
    )
    assert [test.name for test in found.tests] == ["z"]
    assert found.tests[0].p == pytest.approx(0.158655, abs=1e-5)


@given(
    excess=st.floats(1e-4, 1e-2),
    sigma=st.floats(1e-4, 5e-3),
    alpha=st.sampled_from([0.01, 0.05, 0.25]),
)
def test_a_larger_gain_never_needs_more_seeds(excess: float, sigma: float, alpha: float) -> None:
    few, many = seeds_needed(2 * excess, sigma, alpha), seeds_needed(excess, sigma, alpha)
    assert many is None or (few is not None and few <= many)
    assert seeds_needed(-excess, sigma, alpha) is None


def test_the_pooled_deviation_is_found_and_no_odd_table_moves_it_far() -> None:
    draw = random.Random(7)
    samples = [[draw.gauss(1.0, 0.001) for _ in range(3)] for _ in range(2000)]
    assert pooled_deviation(samples) == pytest.approx(0.001, rel=0.05)
    odd = [[1.0, 2.0, 9.0]] * 20
    assert pooled_deviation(samples + odd) == pytest.approx(0.001, rel=0.06)


def test_the_row_to_beat_is_the_best_that_stood_on_the_day() -> None:
    rows = (
        FrontierRow("2026-04-01", 1.2, 1, ()),
        FrontierRow("2026-04-03", 1.1, 2, (1.1, 1.1001)),
        FrontierRow("2026-04-05", 1.0, 3, ()),
    )
    catalogue = Catalogue("0" * 40, 1e-3, 10, rows)
    assert catalogue.before("2026-04-04", 1.05, None) is rows[1]
    assert catalogue.before("2026-04-03", 1.1, 2) is rows[0]
    assert catalogue.before("2026-04-03", 1.1, None) is rows[0]
    assert catalogue.before("2026-03-01", 1.3, None) is None


def test_a_record_folder_stands_against_the_row_of_its_day() -> None:
    standing = books({"val_bpb": 1.0504}, THREE).standing
    assert standing.row is not None
    assert standing.row.date <= "2026-04-20"
    assert [p.name for p, _ in standing.comparisons].count(FRONTIER_2026_04.name) == 1
    assert len(standing.comparisons) == 3
    assert books({"val_bpb": 1.0504}, THREE, "no_date").standing.problem is not None
    assert books({"name": "x"}, THREE).standing.problem == "no score is claimed"
    other = books({"val_bpb": 1.0504, "track": "non-record"}, THREE)
    assert other.standing.row is None


def test_without_scipy_the_report_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    standing = books({"val_bpb": 1.0504}, THREE).standing
    assert standing.row is not None
    assert standing.comparisons == ()
    assert standing.problem is not None
    assert "pip install '.[statistics]'" in standing.problem


def test_the_shipped_catalogue_is_sound() -> None:
    catalogue = shipped()
    assert 1e-4 < catalogue.sigma < 2e-3
    assert catalogue.submissions > 100
    assert len(catalogue.rows) > 40
    for row in catalogue.rows:
        assert abs(row.sample.mean - row.bpb) <= 1e-4


def test_the_catalogue_of_a_clone_is_measured(
    challenge: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exception, match="no leaderboard"):
        measure(challenge.path)
    output = tmp_path / "catalogue.json"
    commit = challenge.heads[11]
    arguments = ["--repo", str(challenge.path), "--at", commit, "--output", str(output)]
    assert main(["catalogue", *arguments]) == 0
    assert "2 rows" in capsys.readouterr().out
    held = json.loads(output.read_text(encoding="utf-8"))
    assert held["commit"] == commit
    assert held["rows"] == [
        {"date": "2026-04-02", "bpb": 1.2002, "pr": 11, "seeds": [1.2, 1.2001, 1.2005]},
        {"date": "2026-04-01", "bpb": 1.25, "pr": None, "seeds": []},
    ]
    assert held["submissions"] == 1


def test_nothing_is_checked_where_nothing_is_claimed() -> None:
    assert (
        check_claim(None, scores_by_tag(read_claims(Submission(SourceFile.of("a.py", b"")))))
        is None
    )
    assert differences([]) == []
