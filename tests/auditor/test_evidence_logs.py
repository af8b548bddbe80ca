"""Logs: every number with its line, whatever the encoding, and never more time than their size."""

import time

import pytest

from auditor.evidence.claims import read_claims
from auditor.evidence.figures import LogClaims
from auditor.evidence.logs import is_log, read_log
from auditor.evidence.numbers import logged_total
from auditor.finding import Evidence
from auditor.submission.model import SourceFile, Submission

LOG = """\
import os
{source}
{rule}
Running Python 3.12
|   0  NVIDIA H100 80GB HBM3          On  |   00000000:18:00.0 Off |                    0 |
|   1  NVIDIA H100 80GB HBM3          On  |   00000000:2A:00.0 Off |                    0 |
world_size:8 grad_accum_steps:1
seed:1337
Hyperparameters:
  ttt_enabled: True
  matrix_lr: 0.022
val_bpb:enabled tokenizer_kind=sentencepiece
step:0/20000 val_loss:6.9301 val_bpb:4.1044 train_time:0ms
stopping_early: wallclock_cap train_time:599640ms step:5947/20000
Serialized model: 130432585 bytes
Code size: 97,234 bytes
Total submission size: 130529819 bytes
Serialized model int6+lzma: 15794806 bytes
Total submission size int6+lzma: 15892040 bytes
DIAGNOSTIC post_ema val_loss:1.92 val_bpb:1.14 eval_time:1960ms
ttt:done val_loss=1.768 val_bpb=1.0473 elapsed=335.9s
final_int6_ttt_exact val_loss:1.76826750 val_bpb:1.04727039 eval_time:336.4s
""".format(source="\n".join(f"x = {n}  # seed: {n}" for n in range(60)), rule="=" * 100)


def read(text: str | bytes, name: str = "train.log") -> LogClaims:
    """The claims of a log that can be read."""
    data = text if isinstance(text, bytes) else text.encode()
    found = read_log(SourceFile.of(name, data))
    assert isinstance(found, LogClaims)
    return found


def line_of(text: str) -> int:
    """The number of the first line of the log that holds `text`."""
    return next(n for n, line in enumerate(LOG.splitlines(), 1) if text in line)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_number_with_its_line_in_any_encoding(encoding: str) -> None:
    log = read(LOG.encode(encoding))
    assert [(m.tag, m.val_loss, m.val_bpb, m.eval_ms) for m in log.metrics] == [
        ("step:0/20000", 6.9301, 4.1044, None),
        ("DIAGNOSTIC post_ema", 1.92, 1.14, 1960.0),
        ("ttt:done", 1.768, 1.0473, None),
        ("final_int6_ttt_exact", 1.7682675, 1.04727039, 336400.0),
    ]
    assert log.last_metric is log.metrics[-1]
    assert log.metrics[-1].evidence.line == line_of("final_int6_ttt_exact")
    assert [(s.kind, s.codec, s.bytes) for s in log.sizes] == [
        ("model", None, 130432585),
        ("code", None, 97234),
        ("total", None, 130529819),
        ("model", "int6+lzma", 15794806),
        ("total", "int6+lzma", 15892040),
    ]
    assert [(f.value, f.evidence.line) for f in log.seeds] == [(1337, line_of("seed:1337"))]
    assert log.train_stop is not None
    assert log.train_stop.value == 599640
    assert log.train_stop.evidence.line == line_of("stopping_early")
    assert log.train_end == log.train_stop
    assert log.world_size is not None
    assert log.world_size.value == 8
    assert len(log.hardware) == 2
    assert log.settings["ttt_enabled"].value == "True"
    assert log.settings["matrix_lr"].evidence.line == line_of("matrix_lr")
    assert log.embedded_source == (1, 61)


def test_the_total_is_that_of_the_compressed_model() -> None:
    assert logged_total(read(LOG)) == 15892040
    assert logged_total(read("Total submission size: 16000001 bytes\n")) == 16000001
    assert logged_total(read("nothing\n")) is None


def test_source_that_a_log_repeats_is_not_read_as_numbers() -> None:
    assert [f.value for f in read(LOG).seeds] == [1337]
    assert read("import os\nseed: 5\n").embedded_source is None


def test_a_seed_in_the_name_stands_in_for_a_missing_line() -> None:
    log = read("final val_loss:1 val_bpb:1\n", "records/a/train_seed42.log")
    assert [(f.value, f.evidence) for f in log.seeds] == [
        (42, Evidence("records/a/train_seed42.log", 0, "train_seed42.log"))
    ]


def test_what_is_no_text_is_a_problem() -> None:
    found = read_log(SourceFile.of("train.log", b"\x7fELF\0\0"))
    assert isinstance(found, Evidence)
    assert "not text" in found.text


@pytest.mark.parametrize(
    "line",
    [
        "val_bpb:" + " " * 500_000,
        "Total submission size " + "a" * 500_000 + ": 1 bytes",
        "serialized model (" * 60_000,
        "val_loss:1" * 100_000,
        "| 0 NVIDIA " + "x" * 500_000,
        "seed:" * 200_000,
        "  a" + "b" * 500_000 + ": 1",
        "train_time:" + "1" * 500_000,
    ],
)
def test_hostile_lines_cost_no_more_than_their_size(line: str) -> None:
    started = time.process_time()
    read(line + "\n" + line)
    assert time.process_time() - started < 1


def test_which_files_are_logs() -> None:
    logs = ["train.log", "logs/seed1.txt", "train_seed42.log", "run.out"]
    others = ["requirements.txt", "README.md", "train_gpt.py", "vocab.txt", "a.json"]
    assert [is_log(name) for name in logs + others] == [True] * 4 + [False] * 5


def test_claims_of_a_folder_are_collected_and_problems_named() -> None:
    files = {
        "train_gpt.py": SourceFile.of("r/train_gpt.py", b"print(1)\n"),
        "submission.json": SourceFile.of("r/submission.json", b'{"seeds": [1, 7]}'),
        "train.log": SourceFile.of("r/train.log", LOG.encode()),
        "notes.txt": SourceFile.of("r/notes.txt", b"nothing of interest\n"),
        "broken.log": SourceFile.of("r/broken.log", b"a\0b"),
    }
    claims = read_claims(Submission(files["train_gpt.py"], files, is_folder=True))
    assert [log.path for log in claims.logs] == ["r/train.log"]
    assert claims.seeds == (1, 7, 1337)
    assert [problem.path for problem in claims.problems] == ["r/broken.log"]


@pytest.mark.parametrize(
    ("line", "sizes"),
    [
        (
            "model:15589634 code:53472 total:15643106 (15.64 MB)",
            [("model", 15_589_634), ("code", 53_472), ("total", 15_643_106)],
        ),
        (
            "final compressed_model_bytes:15449423 code_bytes:55299 total_artifact_bytes:15504722",
            [("model", 15_449_423), ("code", 55_299), ("total", 15_504_722)],
        ),
        ("budget:15993853/16000000 (15.99/16.00MB) FITS", [("total", 15_993_853)]),
    ],
)
def test_sizes_on_one_line_are_of_what_is_shipped(line: str, sizes: list[tuple[str, int]]) -> None:
    found = read(line)
    assert [(size.kind, size.bytes) for size in found.sizes] == sizes
    assert all(size.codec for size in found.sizes)


def test_plain_sizes_name_no_codec() -> None:
    found = read("Raw model: 99 bytes, Code: 66074 bytes\nTotal submission: 15,990,398 bytes")
    assert [(s.kind, s.codec, s.bytes) for s in found.sizes] == [
        ("code", None, 66_074),
        ("total", None, 15_990_398),
    ]
    assert read("total params: 26 million, code: none").sizes == ()
