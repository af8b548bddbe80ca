"""Size, files and hardware: what the folder, its logs and submission.json say."""

import json

import pytest

from auditor.evidence.claims import read_claims
from auditor.finding import Confidence, Finding, Status
from auditor.program.index import build
from auditor.rules import Context
from auditor.rules.artifact_too_large import ArtifactTooLarge
from auditor.rules.base import Rule
from auditor.rules.byte_count_wrong import ByteCountWrong
from auditor.rules.evaluation_too_long import EvaluationTooLong
from auditor.rules.hardware import Hardware
from auditor.rules.implausible_score import ImplausibleScore
from auditor.rules.late_training_data import LateTrainingData
from auditor.rules.missing_files import MissingFiles
from auditor.rules.native_payload import NativePayload
from auditor.rules.split_not_canonical import SplitNotCanonical
from auditor.rules.training_too_long import TrainingTooLong
from auditor.rules.validation_data_in_training import ValidationDataInTraining
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


def hardware(*, log: str = "", readme: str) -> tuple[Status, Confidence]:
    files = {"README_DOT_md": readme} | ({"train_DOT_log": log} if log else {})
    found = check(Hardware(), folder=True, **files)
    return found.status, found.confidence


def test_the_readme_counts_where_nothing_else_names_the_devices() -> None:
    said = "Trained for 600 s on 8xH100 SXM."
    one = "final val_loss:2.0 val_bpb:1.18\nworld_size:1 grad_accum_steps:8\n"
    assert hardware(readme=said) == (Status.PASS, Confidence.LOW)
    assert hardware(readme=said, log=one) == (Status.FAIL, Confidence.HIGH)
    assert hardware(readme="Trained on one A100.") == (Status.NOTE, Confidence.LOW)
    assert hardware(readme="A model.")[0] is Status.UNKNOWN


def test_machine_code_is_known_by_its_first_bytes() -> None:
    named = "\x7fELF" + "x" * 100
    assert check(NativePayload(), helper_DOT_bin=named).status is Status.NOTE
    assert check(NativePayload(), x=named).status is Status.FAIL
    assert check(NativePayload(), helper_DOT_bin="a text").status is Status.PASS


RUN = """\
val_loader:shards pattern=fineweb_val_*.bin tokens:62021632
train_loader:dataset:fineweb train_shards:{shards}
{before}stopping_early: wallclock_cap train_time:{stop}ms step:150/200
{after}final_exact val_loss:{loss} val_bpb:1.16083000 eval_time:{evaluation}ms
"""


def run_log(
    *,
    shards: int = 80,
    before: str = "",
    stop: int = 600_050,
    after: str = "",
    loss: float = 1.96,
    evaluation: int = 90_000,
) -> str:
    return RUN.format(
        shards=shards, before=before, stop=stop, after=after, loss=loss, evaluation=evaluation
    )


RESERVED = "gptq:reserving 4s, effective=596000ms\n"
TOOK = "gptq:calibrated 68 layers in {}s\n"
SAMPLED = "gptq:generated 64 sequences in 196.7s\n"


@pytest.mark.parametrize(
    ("log", "status"),
    [
        (run_log(after="gptq:calibrating with training data...\n"), Status.FAIL),
        (run_log(after=TOOK.format(3.4)), Status.FAIL),
        (run_log(before=RESERVED, stop=596_100, after=TOOK.format(3.4)), Status.PASS),
        (run_log(before=RESERVED, stop=599_600, after=TOOK.format(6.9)), Status.NOTE),
        (run_log(before=RESERVED, stop=599_600, after=TOOK.format(12.7)), Status.FAIL),
        (run_log(after=SAMPLED), Status.PASS),
        (run_log(), Status.NOT_APPLICABLE),
        (run_log(stop=14_400_000, after=TOOK.format(16.1)), Status.NOT_APPLICABLE),
    ],
)
def test_calibration_belongs_to_the_training_window(log: str, status: Status) -> None:
    assert check(LateTrainingData(), train_DOT_log=log).status is status


def test_the_validation_set_is_scored_whole_and_kept_from_training() -> None:
    assert check(SplitNotCanonical(), a_DOT_log=run_log()).status is Status.PASS
    assert check(SplitNotCanonical(), a_DOT_log=run_log(shards=1499)).status is Status.FAIL
    assert check(SplitNotCanonical(), a_DOT_log=run_log(loss=0.39)).status is Status.FAIL
    assert check(SplitNotCanonical(), a_DOT_log=run_log(loss=1.955)).status is Status.NOTE
    outside = json.dumps({"track": "non_record_16mb"})
    other = check(SplitNotCanonical(), a_DOT_log=run_log(loss=0.39), submission_DOT_json=outside)
    assert other.status is Status.NOTE


def test_the_bytes_that_a_log_implies() -> None:
    assert check(ByteCountWrong(), a_DOT_log=run_log()).status is Status.PASS
    assert check(ByteCountWrong(), a_DOT_log=run_log(loss=2.3)).status is Status.FAIL
    assert check(ByteCountWrong(), a_DOT_log=run_log(loss=1.964)).status is Status.NOTE
    more_tokens = run_log().replace("tokens:62021632", "tokens:63779840")
    assert check(ByteCountWrong(), a_DOT_log=more_tokens).status is Status.NOTE
    right = json.dumps({"val_bpb": round(2.3 / 1.96 * 1.16083, 6)})
    mended = check(ByteCountWrong(), a_DOT_log=run_log(loss=2.3), submission_DOT_json=right)
    assert mended.status is Status.NOTE
    folded = check(ByteCountWrong(), a_DOT_log="  tokenizer_path: ./sp_casefold.model\nval_bpb:1\n")
    assert folded.status is Status.PENDING


def test_time_limits_of_the_record_track() -> None:
    late = run_log(stop=601_150, evaluation=700_000)
    outside = json.dumps({"track": "non-record"})
    for rule in (TrainingTooLong(), EvaluationTooLong()):
        assert check(rule, a_DOT_log=run_log()).status is Status.PASS
        assert check(rule, a_DOT_log=late).status is Status.FAIL
        assert check(rule, a_DOT_log=late, b_DOT_log=run_log()).status is Status.NOTE
        found = check(rule, a_DOT_log=late, submission_DOT_json=outside)
        assert found.status is Status.NOT_APPLICABLE
        slower = check(rule, a_DOT_log="world_size:1 grad_accum_steps:8\n" + late)
        assert slower.status is Status.NOT_APPLICABLE  # seconds of another machine


def test_what_is_computed_outside_of_the_timer_counts() -> None:
    ahead = "ngram:precompute_outside_timer_done elapsed=164.53s\n"
    found = check(EvaluationTooLong(), a_DOT_log=run_log(after=ahead, evaluation=553_000))
    assert found.status is Status.FAIL
    adapted = "ttt_adapt:done elapsed:523.5s\n"
    beside = check(EvaluationTooLong(), a_DOT_log=run_log(after=adapted, evaluation=115_000))
    assert beside.status is Status.FAIL
    within = check(EvaluationTooLong(), a_DOT_log=run_log(after=adapted, evaluation=540_000))
    assert within.status is Status.PASS


@pytest.mark.parametrize(
    ("loss", "status"), [(3.1434, Status.FAIL), (2.6705, Status.NOT_APPLICABLE)]
)
def test_without_a_log_the_claim_itself_implies_bytes_a_token(loss: float, status: Status) -> None:
    described = json.dumps({"val_loss": loss, "val_bpb": 1.03386})
    assert check(ByteCountWrong(), submission_DOT_json=described).status is status


WHOLE = "val_tokens: 40540160\nfinal val_loss:2.80000000 val_bpb:1.08398700\n"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("The training shards are those of `val_docs=10000`; all documents are scored.", "fail"),
        ("The training shards were made with `--val-docs 10000`, since fixed.", "pass"),
        ("The training shards were made with `--val-docs=50000`.", "pass"),
    ],
)
def test_training_documents_that_begin_too_early(words: str, status: str) -> None:
    found = check(SplitNotCanonical(), train_DOT_log=WHOLE, README_DOT_md=words)
    assert found.status == status


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("5. **Val-only training**: it memorises the text.", "fail"),
        ("A GPT trained on the validation shard.", "fail"),
        ("Non-val-only training, unlike the others.", "pass"),
        ("It was not trained on the validation shard.", "pass"),
    ],
)
def test_a_model_trained_on_validation_text_by_its_own_words(words: str, status: str) -> None:
    assert check(ValidationDataInTraining(), README_DOT_md=words).status == status


@pytest.mark.parametrize(
    ("claim", "log", "readme", "status"),
    [
        (0.4512, "final val_loss:0.9 val_bpb:0.4513\n", "", Status.FAIL),  # the log says so too
        (0.4512, "final val_loss:2.0 val_bpb:1.18\n", "val_bpb: **0.4512**", Status.FAIL),
        (0.1179, "final val_loss:2.0 val_bpb:1.1791\n", "1.1791 (mean)", Status.NOTE),  # a slip
        (1.0612, "final val_loss:2.0 val_bpb:1.0612\n", "", Status.PASS),
    ],
    ids=["logged", "in the README", "a slip of the pen", "plausible"],
)
def test_a_score_below_one_bit_a_byte_is_not_believed(
    claim: float, log: str, readme: str, status: Status
) -> None:
    found = check(
        ImplausibleScore(),
        train_DOT_log=log,
        README_DOT_md=readme,
        submission_DOT_json=json.dumps({"val_bpb": claim}),
    )
    assert found.status is status


def test_without_a_claim_the_highest_score_of_the_logs_counts() -> None:
    low, high, told = "final val_bpb:0.9715\n", "final val_bpb:1.2000\n", "We reach 0.9715."
    rule = ImplausibleScore()
    assert check(rule, a_DOT_log=low, README_DOT_md=told).status is Status.FAIL
    assert check(rule, a_DOT_log=low).status is Status.NOTE
    assert check(rule, a_DOT_log=low, b_DOT_log=high, README_DOT_md=told).status is Status.PASS
    assert check(ImplausibleScore()).status is Status.NOT_APPLICABLE
