"""How a run is planned: its settings found, made small together, and written where they belong."""

import ast
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.dynamic.data import BOS, HEADER, MAGIC, make_data, make_pieces, make_shard
from auditor.dynamic.device.sources import digest
from auditor.dynamic.plan import FOLDER, RunPlan, plan_run
from auditor.dynamic.rehearsal import find_metric, metrics
from auditor.dynamic.rewriting import Edit, readable, rewrite
from auditor.dynamic.settings import find_settings
from auditor.dynamic.shrink import LADDER, Sizes, ladder, shrink_all
from auditor.program.index import build
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack

RUN = {
    "TRAIN_SEQ_LEN": 2048,
    "EVAL_SEQ_LEN": 2048,
    "EVAL_STRIDE": 64,
    "TTT_CHUNK_TOKENS": 32768,
    "TTT_CHUNK_SIZE": 256,
    "WINDOW_SIZE": 512,
    "MODEL_DIM": 512,
    "NUM_HEADS": 8,
    "NUM_KV_HEADS": 4,
    "NUM_LAYERS": 11,
    "ITERATIONS": 20000,
    "WARMUP_STEPS": 20,
    "WARMDOWN_ITERS": 3500,
    "TRAIN_BATCH_TOKENS": 786432,
    "TTT_BATCH_SEQS": 32,
    "TTT_EPOCHS": 30,
    "NGRAM_BUCKETS": 4_194_304,
    "NGRAM_MIN_TOKENS": 10_000,
    "XSA_LAST_N": 4,
    "MATRIX_LR": 0,
}


def shrunk(sizes: Sizes = LADDER[0], **changes: float) -> dict[str, float]:
    """The settings of `RUN` with changes, after shrinking."""
    values: dict[str, float | None] = {**RUN, **changes}
    after = {name: new for name, _, new in shrink_all(values, sizes)}
    return {name: after.get(name, value or 0) for name, value in values.items()}


def test_lengths_keep_their_order() -> None:
    small = shrunk()
    assert small["EVAL_STRIDE"] < small["EVAL_SEQ_LEN"] == small["TRAIN_SEQ_LEN"] == 64
    assert small["WINDOW_SIZE"] == small["TRAIN_SEQ_LEN"] / 4
    assert small["TTT_CHUNK_SIZE"] < small["EVAL_SEQ_LEN"]


@given(st.sampled_from([256, 512, 1024, 2048, 4096]), st.sampled_from([16, 32, 64, 128, 256, 512]))
def test_stride_below_the_window_stays_below_it(length: int, stride: int) -> None:
    small = shrunk(TRAIN_SEQ_LEN=length, EVAL_SEQ_LEN=length, EVAL_STRIDE=stride)
    assert stride >= length or small["EVAL_STRIDE"] < small["EVAL_SEQ_LEN"]


def test_longer_evaluation_window_keeps_its_ratio() -> None:
    small = shrunk(TRAIN_SEQ_LEN=1024, EVAL_SEQ_LEN=2048)
    assert small["EVAL_SEQ_LEN"] == 2 * small["TRAIN_SEQ_LEN"]


def test_stream_has_several_chunks_of_several_sequences() -> None:
    chunk = shrunk()["TTT_CHUNK_TOKENS"]
    assert 2 * 64 <= chunk <= LADDER[0].tokens / 4


def test_an_average_of_weights_reaches_back_two_steps_at_least() -> None:
    assert shrunk(EMA_DECAY=0.997)["EMA_DECAY"] == 0.5
    assert shrunk(Sizes(iterations=200), EMA_DECAY=0.999)["EMA_DECAY"] == pytest.approx(0.9)
    assert shrunk(EMA_DECAY=0.0)["EMA_DECAY"] == 0.0


def test_layers_and_what_is_indexed_by_them_stay() -> None:
    small = shrunk()
    assert (small["NUM_LAYERS"], small["XSA_LAST_N"]) == (11, 4)


def test_heads_keep_their_ratio_and_divide_the_width() -> None:
    small = shrunk()
    assert small["NUM_HEADS"] == 2 * small["NUM_KV_HEADS"]
    assert small["MODEL_DIM"] % small["NUM_HEADS"] == 0


def test_tables_keep_their_tokens_per_bucket() -> None:
    buckets = shrunk(sizes := Sizes(tokens=4096))["NGRAM_BUCKETS"]
    assert buckets == 256  # 62 million over 4,194,304 is 14.8 tokens a bucket
    assert abs(sizes.tokens / buckets - 62_021_632 / 4_194_304) < 2


def test_gate_on_scored_tokens_is_passed() -> None:
    assert shrunk()["NGRAM_MIN_TOKENS"] < LADDER[0].tokens / 10


def test_batch_of_tokens_holds_sequences_and_a_batch_of_sequences_stays_one() -> None:
    small = shrunk(TTT_BATCH_SIZE=64)
    assert small["TRAIN_BATCH_TOKENS"] == 16 * 64
    assert small["TTT_BATCH_SIZE"] == 8


@given(st.sampled_from(sorted(RUN)))
def test_what_is_off_stays_off(name: str) -> None:
    if "BATCH_TOKENS" not in name:
        assert shrunk(LADDER[0], **{name: -1})[name] == -1
    if name in ("WARMDOWN_ITERS", "WARMUP_STEPS", "EVAL_STRIDE", "TTT_EPOCHS"):
        assert shrunk(LADDER[0], **{name: 0})[name] == 0


def test_last_rung_leaves_widths_and_vocabulary_as_submitted() -> None:
    small = shrunk(LADDER[-1], VOCAB_SIZE=1024)
    assert (small["MODEL_DIM"], small["NUM_HEADS"], small["VOCAB_SIZE"]) == (512, 8, 1024)


def test_interpreted_kernels_are_given_fewer_rows() -> None:
    assert ladder("import triton")[0].tokens < ladder("import torch")[0].tokens


def test_sizes_in_calls_shrink_and_other_numbers_stay() -> None:
    changed = planned().changed[digest(SCRIPT)]
    assert "calibrate(num_seqs=4, seq_len=64, temperature=0.8)" in changed


def test_numbers_inside_of_functions_that_size_a_run_shrink() -> None:
    changed = planned().changed[digest(SCRIPT)]
    assert "1 // world_size" in changed
    assert "total_tokens < 16 else 8 // rounds" in changed
    assert "2 // world_size" in planned(world_size=2).changed[digest(SCRIPT)]


def test_settings_are_found_by_syntax() -> None:
    source = """
import os
def number(name, default): return int(os.environ.get(name, default))
class Arguments:
    iterations = number("ITERATIONS", 20_000)
    path = os.environ.get("DATA_PATH", "./data")
    stride: int = 1 << 6
SEQ_LEN = 1024 * 2
def generate(model, num_seqs=64, *, temperature=0.8): ...
flag = "TTT_ENABLED" in os.environ
key = os.environ["RUN_ID"]
parser.add_argument("--model-dim", type=int, default=512)
"""
    found = find_settings(ast.parse(source))
    assert found.environment == {
        "ITERATIONS": 20_000, "DATA_PATH": "./data", "TTT_ENABLED": None, "RUN_ID": None,
    }  # fmt: skip
    assert {c.name: c.value for c in found.constants if not c.local} == {
        "stride": 64, "SEQ_LEN": 2048, "model_dim": 512,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "value", "wanted"),
    [
        ("a = 1\nN = 2048  # é\n", 64, "a = 1\nN = 64  # é\n"),
        ("é = 'é'; N = 4_194_304; b = 2", 16, "é = 'é'; N = 16; b = 2"),
        ("N = 8 * (\n    256)\nb = 2", 32, "N = (32\n)\nb = 2"),
    ],
)
def test_number_is_rewritten_in_its_place(source: str, value: int, wanted: str) -> None:
    place = next(c for c in find_settings(ast.parse(source)).constants if c.name == "N")
    changed = rewrite(source, [Edit(place, value)])
    assert changed == wanted
    namespace: dict[str, Any] = {}
    exec(changed, namespace)
    assert namespace["N"] == value


def test_newer_grammar_is_respelled_line_by_line() -> None:
    source = 'x = [1, 2]\nt = f"{", ".join(map(str, x))}"\nlast = t\n'
    namespace: dict[str, Any] = {}
    exec(readable(source), namespace)
    assert namespace["last"] == "1, 2"
    assert readable(source).count("\n") == source.count("\n")


@given(st.sampled_from([57, 64, 319, 320, 1024, 8192]))
def test_vocabulary_has_its_size_and_no_piece_twice(size: int) -> None:
    pieces = make_pieces(size)
    assert len({piece.text for piece in pieces}) == len(pieces) == size


@pytest.mark.parametrize("size", [64, 320, 1024])
def test_tokenizer_is_one_that_sentencepiece_reads(size: int) -> None:
    spm = pytest.importorskip("sentencepiece")
    data = make_data(size)
    reader = spm.SentencePieceProcessor(model_proto=data.files["tokenizer.model"])
    assert reader.vocab_size() == size
    assert (reader.bos_id(), reader.unk_id()) == (BOS, 3)
    for number, piece in enumerate(data.pieces):
        assert reader.id_to_piece(number) == piece.text
    plain = [token for token in data.validation if token != BOS]
    text = reader.decode(plain)
    assert len(text.encode()) == sum(data.pieces[token].size for token in plain)


def test_shard_has_the_header_of_the_challenge() -> None:
    shard = make_shard([1, 2, 65_535])
    assert struct.unpack_from("<3i", shard) == (MAGIC, 1, 3)
    assert struct.unpack_from("<3H", shard, 4 * HEADER) == (1, 2, 65_535)
    assert len(shard) == 4 * HEADER + 6


SCRIPT = """
import os, torch, gone.away
import flash_attn_interface
class Hyperparameters:
    vocab_size = int(os.environ.get("VOCAB_SIZE", 1024))
    train_seq_len = int(os.environ.get("TRAIN_SEQ_LEN", 1024))
    ttt_enabled = bool(int(os.environ.get("TTT_ENABLED", "0")))
    eval_stride = 64
    path = os.environ.get("DATA_PATH", "./data")
    max_wallclock_seconds = float(os.environ.get("MAX_WALLCLOCK_SECONDS", 600.0))
if Hyperparameters.max_wallclock_seconds > 0: pass
def calibrate(num_seqs=64, seq_len=1024, temperature=0.8): ...
calibrate(num_seqs=64, seq_len=1024, temperature=0.8)
def train(world_size, total_tokens):
    rounds = 8 // world_size
    return rounds if total_tokens < 10_000 else 8 // rounds
print(f"{"nested"}")
"""
README = """
```bash
TTT_ENABLED=1 torchrun --nproc_per_node=8 train_gpt.py --mode eval --iterations=9000
```
"""
LOG = """\
step:5/5 val_loss:2.1 val_bpb:1.2500
final_roundtrip val_loss:2.0 val_bpb:1.2000 eval_time:3ms
legal_ttt_exact val_loss:1.9 val_bpb:1.1234
  args: Hyperparameters,
"""


def planned(claim: str = '{"val_bpb": 1.1234}', **options: Any) -> RunPlan:
    """The plan of a small submission of our own."""
    texts = {
        "train_gpt.py": SCRIPT,
        "README.md": README,
        "train.log": LOG,
        "submission.json": claim,
    }
    files = {name: SourceFile.of(name, text.encode()) for name, text in texts.items()}
    submission = Submission(files["train_gpt.py"], files, is_folder=True)
    unpacked = unpack(submission.main, submission.files)
    return plan_run(submission, build(submission, unpacked), **options)


def test_submitted_command_decides_what_is_on() -> None:
    assert planned().environment["TTT_ENABLED"] == "1"


def test_command_line_is_the_submitted_one_made_small() -> None:
    assert planned().argv == ("--mode", "eval", "--iterations=6")


def test_overrides_win() -> None:
    assert planned(overrides={"TTT_ENABLED": "0"}).environment["TTT_ENABLED"] == "0"


def test_submitted_metric_is_the_one_that_was_claimed() -> None:
    assert planned().tag == "legal_ttt_exact"
    assert planned('{"val_bpb": 1.2}').tag == "final_roundtrip"
    assert set(planned().wanted) == {"final_roundtrip", "legal_ttt_exact"}


def test_schedule_goes_by_steps_and_data_lie_in_the_sandbox() -> None:
    environment = planned().environment
    assert environment["MAX_WALLCLOCK_SECONDS"] == "0"
    assert environment["DATA_PATH"] == "/scratch/data/shards"
    assert environment["VOCAB_SIZE"] == "320"


def test_source_is_changed_by_its_hash_and_every_change_is_told() -> None:
    plan = planned()
    changed = plan.changed[digest(SCRIPT)]
    assert "eval_stride = 16" in changed
    assert ("eval_stride", "64", "16", "line 8") in {
        (c.name, c.before, c.after, c.where) for c in plan.changes
    }
    assert changed.count("\n") == SCRIPT.count("\n")
    assert plan.files[f"{FOLDER}/train_gpt.py"] == SCRIPT.encode()


def test_absent_packages_are_named_and_those_of_the_device_are_not() -> None:
    assert planned().absent == ("gone.away",)


def test_metric_is_known_by_its_tag_whatever_the_numbers_in_it() -> None:
    output = "ttt T=0.98 val_bpb:1.5\nfinal_int6 val_bpb:1.2\nttt T=0.90 val_bpb:1.4\n"
    found = metrics(output + "final_int8 val_bpb:1.1\n")
    for tag, score in (("ttt T=0.95", 1.4), ("final_int6", 1.2), ("", 1.1)):
        metric = find_metric(found, tag)
        assert metric is not None
        assert metric.val_bpb == score
    assert find_metric(found, "legal_ttt") is None
