"""A claim held against logs in the shapes they come in: which runs it is of, and what each cost."""

import itertools
import json

import pytest

from auditor.dossier import Dossier
from auditor.evidence.books import Books, keep_books
from auditor.evidence.claims import read_claims
from auditor.finding import Audit, Readiness, Validity
from auditor.policy import POLICIES
from auditor.report.tables import tables
from auditor.submission.model import SourceFile, Submission

SCRIPT = "".join(f"value_{n} = {n}\n" for n in range(60))
FOLDER = "records/track_10min_16mb/2026-04-20_a"


def books(claim: object, logs: dict[str, str], script: str = SCRIPT) -> Books:
    """The books of a record folder."""
    texts = {"submission.json": json.dumps(claim), "train_gpt.py": script, **logs}
    files = {name: SourceFile.of(f"{FOLDER}/{name}", text.encode()) for name, text in texts.items()}
    submission = Submission(files["train_gpt.py"], files, is_folder=True)
    return keep_books(submission, read_claims(submission), POLICIES.values())


def shown(kept: Books) -> str:
    """Every cell and note of the tables of a report."""
    audit = Audit(
        1, "ab" * 20, "a.py", "cd" * 20, Validity.VALID, Readiness.READY, "p", 0.0, findings=()
    )
    found = tables(Dossier(audit, books=kept))
    cells = [cell.text for table in found for own in table.rows for cell in own]
    return "\n".join([*cells, *(note for table in found for note in table.notes)])


def log(seed: int, bpb: float, more: str = "") -> str:
    """A run with one score."""
    return f"seed:{seed}\n{more}final_exact val_loss:1.7 val_bpb:{bpb:.8f}\n"


def basis(kept: Books) -> tuple[str, int]:
    """On what the claim rests, and on how many runs."""
    assert kept.check is not None
    assert kept.check.scores is not None
    return kept.check.basis, len(kept.check.scores.values)


def test_a_claim_may_be_the_mean_of_the_runs_that_it_lists() -> None:
    logs = {
        "a_original.log": log(1, 1.1),
        "b_again.log": log(1, 1.3),
        "c_original.log": log(2, 1.104),
        "d_again.log": log(2, 1.304),
    }
    kept = books({"val_bpb": 1.102, "seed_results": {"1": 1.1, "2": 1.104}}, logs)
    assert basis(kept) == ("mean", 2)
    assert kept.check is not None
    assert "of 4 in the logs" in kept.check.words()
    assert basis(books({"val_bpb": 1.102}, logs))[0] == "none"


def test_a_claim_may_be_the_mean_of_logs_that_are_named_alike() -> None:
    logs = {f"train_seed{n}.log": log(n, 1.1 + n / 1000) for n in (1, 2, 3)}
    logs |= {f"ablation_seed{n}.log": log(n, 1.3 + n / 100) for n in (1, 2, 3)}
    assert basis(books({"val_bpb": 1.102}, logs)) == ("mean", 3)
    assert basis(books({"val_bpb": 1.32}, logs)) == ("mean", 3)
    assert basis(books({"val_bpb": 1.25}, logs))[0] == "none"


def test_a_log_that_is_shipped_twice_counts_once() -> None:
    logs = {f"train_seed{n}.log": log(n, 1.1 + n / 100) for n in (1, 2, 3)}
    twice = {**logs, "train.log": logs["train_seed1.log"]}
    assert basis(books({"val_bpb": 1.12}, twice)) == ("mean", 3)


def test_an_earlier_line_of_a_file_with_several_runs_is_found() -> None:
    kept = books({"val_bpb": 1.2}, {"train.log": log(1, 1.2) + log(1, 1.3)})
    assert basis(kept) == ("run", 1)
    assert kept.check is not None
    assert "an earlier line under 'final'" in kept.check.words()


def test_a_claim_that_was_corrected_for_its_bytes_is_no_stranger() -> None:
    tokens, logged = 60_000_000, 1.0
    bytes_implied = 160e6
    nats = logged * 0.6931471805599453 * bytes_implied / tokens
    text = f"val_tokens: {tokens}\nseed: 1\nfinal val_loss:{nats:.8f} val_bpb:{logged:.8f}\n"
    honest = logged * bytes_implied / 151_080_000
    kept = books({"val_bpb": round(honest, 6)}, {"train.log": text})
    assert basis(kept)[0] == "corrected"
    assert kept.check is not None
    assert kept.check.difference == pytest.approx(0, abs=1e-5)
    assert basis(books({"val_bpb": 1.0}, {"train.log": text}))[0] == "mean"


def test_a_part_of_the_text_is_not_corrected() -> None:
    text = "val_tokens: 9000000\nfinal val_loss:2.38 val_bpb:1.02\n"
    kept = books({"val_bpb": 1.02}, {"train.log": text})
    assert kept.corrected_bpb is None
    assert "a part of it" in shown(kept)


def test_a_claim_of_a_line_in_training_is_called_so() -> None:
    text = "step:900/1000 val_loss:1.7 val_bpb:1.0500 train_time:5000ms\n" + log(1, 1.2)
    kept = books({"val_bpb": 1.05}, {"train.log": text})
    assert basis(kept)[0] == "none"
    assert kept.in_training is not None
    assert kept.in_training.evidence.line == 1
    assert "printed in training" in shown(kept)
    assert books({"val_bpb": 1.2}, {"train.log": text}).in_training is None


def test_scores_by_seed_that_no_log_prints_are_listed() -> None:
    table = {"1": 1.1, "2": 1.19}
    kept = books({"val_bpb": 1.1, "val_bpb_seeds": table}, {"train.log": log(1, 1.1)})
    assert [figure.value for figure in kept.unlogged] == [1.19]
    assert "that no log prints: 1.19" in shown(kept)


SIZES = """\
Serialized model int6+lzma: {model} bytes
Code size (uncompressed): 9000 bytes
Code size (compressed): {code} bytes
Total submission size int6+lzma: {total} bytes
"""


def run(seed: int, stop: int, model: int) -> str:
    """A run with sizes, times and a score."""
    sizes = SIZES.format(model=model, code=3000, total=model + 3000)
    return (
        f"seed: {seed}\nstopping_early: wallclock_cap train_time: {stop}ms\n"
        f"gptq: calibrated in {seed}.5s\n{sizes}"
        f"final val_loss:1.7 val_bpb:1.1{seed} eval_time:{seed}0000ms\n"
    )


def test_every_run_of_a_file_has_a_row_of_its_own() -> None:
    text = run(1, 599_000, 15_000_000) + run(2, 598_000, 15_500_000)
    first, second = books({"val_bpb": 1.115}, {"train.log": text}).runs
    assert first.seed is not None
    assert second.seed is not None
    assert (first.seed.value, second.seed.value) == (1, 2)
    assert (first.trained, second.trained) == (599.0, 598.0)
    assert (first.calibration, second.calibration) == (1.5, 2.5)
    assert (first.evaluated, second.evaluated) == (10.0, 20.0)
    assert (first.totals.shipped, second.totals.shipped) == (
        15_000_000 + len(SCRIPT),
        15_500_000 + len(SCRIPT),
    )


def test_the_code_of_a_total_is_what_it_holds_beside_the_model() -> None:
    kept = books({"val_bpb": 1.11}, {"train.log": run(1, 599_000, 15_000_000)})
    assert kept.runs[0].code == 3000
    assert "printed are 3,000, 9,000 bytes of code" in shown(kept)


def test_one_evaluation_under_two_tags_is_the_one_that_the_claim_needs() -> None:
    text = (
        "roundtrip val_loss:1.8 val_bpb:1.1500 eval_time:9000ms\n"
        "sliding val_loss:1.7 val_bpb:1.1000 eval_time:90000ms\n"
        "sliding_exact val_loss:1.7 val_bpb:1.10000000\n"
        "final_exact val_loss:1.7 val_bpb:1.10000000\n"
    )
    kept = books({"val_bpb": 1.1}, {"train.log": text})
    assert kept.check is not None
    assert kept.check.scores is not None
    assert kept.check.scores.tag == "final"
    assert [(b.block.seconds, b.needed) for b in kept.runs[0].blocks] == [
        (9.0, False),
        (90.0, True),
    ]


@pytest.mark.parametrize(("evaluation", "seconds"), [(80, 580.0), (505, 505.0)])
def test_adaptation_ahead_of_the_evaluation_adds_to_it(evaluation: int, seconds: float) -> None:
    """An evaluation that takes hardly longer holds the adaptation within its own timer."""
    text = (
        f"ttt_x:done elapsed=500.0s\nfinal val_loss:1.7 val_bpb:1.1 eval_time:{evaluation}000ms\n"
    )
    assert books({"val_bpb": 1.1}, {"train.log": text}).runs[0].evaluated == seconds


def test_the_script_that_a_log_repeats_is_held_against_the_shipped_one() -> None:
    text = f"import math\n{SCRIPT}{'=' * 100}\n" + log(1, 1.1)
    same = books({"val_bpb": 1.1}, {"train.log": text}, f"import math\n\n{SCRIPT}")
    assert same.runs[0].source is not None
    assert (same.runs[0].source.missing, same.runs[0].source.added) == (0, 0)
    other = books({"val_bpb": 1.1}, {"train.log": text}, f"import math\n{SCRIPT}".replace("7", "8"))
    assert other.runs[0].source is not None
    assert other.runs[0].source.missing == SCRIPT.count("7\n")
    assert other.runs[0].source.first is not None
    assert "value_7" in other.runs[0].source.first.text
    assert "is not the shipped one" in shown(other)
    packed = books({"val_bpb": 1.1}, {"train.log": text}, "import lzma\nexec(lzma)\n")
    assert packed.runs[0].source is None


def test_fingerprints_devices_and_gates_stand_in_a_table() -> None:
    text = (
        "|   0  NVIDIA H100 80GB HBM3          On  | 00000000:01:00.0 Off |\n"
        "|   1  NVIDIA H100 80GB HBM3          On  | 00000000:02:00.0 Off |\n"
        "world_size:8 grad_accum_steps:1\ntrain_shards: 80\nval_tokens: 47851520\n"
        "ngram_tilt:hints total=9 gated=8 token_gate=5 within_gate=1234567 word_gate=0\n"
        "smear_gate=1\n"
    )
    table = shown(books({"val_bpb": 1.1}, {"train.log": text + log(1, 1.1)})).split("\n")
    pairs = dict(itertools.pairwise(table))
    assert pairs["devices"] == "2 x NVIDIA H100 80GB HBM3"
    assert pairs["ranks"] == "8"
    assert pairs["training shards"] == "80"
    assert pairs["validation tokens"] == "47,851,520"
    assert pairs["positions that within_gate decides"] == "1,234,567"
    assert pairs["positions that word_gate decides"] == "0"
    assert not any("smear_gate" in text for text in table)


def test_no_column_is_empty_and_no_score_stands_twice() -> None:
    text = (
        "seed: 1\nquantized val_loss:1.8 val_bpb:1.2\n"
        "sliding:done val_loss:1.7 val_bpb:1.100001\nfinal val_loss:1.7 val_bpb:1.1\n"
    )
    kept = books({"val_bpb": 1.1}, {"train.log": text})
    audit = Audit(
        1, "ab" * 20, "a.py", "cd" * 20, Validity.VALID, Readiness.READY, "p", 0.0, findings=()
    )
    found = {table.title: table for table in tables(Dossier(audit, books=kept))}
    scores = found["Scores in the logs"]
    assert scores.head == ("tag", "by run", "mean")
    assert [own[0].text for own in scores.rows] == ["quantized", "final (claimed)"]
    assert "1 more tag in" in scores.notes[0]
    for table in found.values():
        for column in range(len(table.head)):
            assert not table.rows or any(own[column].text for own in table.rows)
