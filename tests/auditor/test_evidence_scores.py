"""Score lines in their many shapes, and lines that look like one and are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.evidence.figures import LogClaims
from auditor.evidence.logs import read_log
from auditor.evidence.score_lines import read_scores
from auditor.finding import Evidence
from auditor.submission.model import SourceFile

HERE = Evidence("train.log", 1, "")


@pytest.mark.parametrize(
    ("line", "tag", "loss", "bpb"),
    [
        ("final val_loss:2.0 val_bpb:1.2", "final", 2.0, 1.2),
        ("final val_loss: 2.0 | val_bpb: 1.2", "final", 2.0, 1.2),
        ("step 0800 | val_loss 3.9193 | val_bpb 1.7146", "step 0800", 3.9193, 1.7146),
        ('    "val_bpb": 1.13109294,', "", None, 1.13109294),
        ("val_bpb:          1.13196492", "", None, 1.13196492),
        ("val_bpb (int4 roundtrip): 2.28", "", None, 2.28),
        ("Pre-quant val_bpb:   1.9400 (last)", "Pre-quant", None, 1.94),
        ("| sliding val_bpb | **1.1659** |", "sliding", None, 1.1659),
        ("q_rt_x vl:1.96246039 bpb:1.16227958", "q_rt_x", 1.96246039, 1.16227958),
        ("EMA BPB (no XSA): 0.997002", "EMA", None, 0.997002),
        ("lora_ttt:complete loss:1.8330 bpb:1.0856 time:246.4s", None, None, 1.0856),
        ("ppm_mix_bpb:0.832925", "ppm_mix", None, 0.832925),
        ("validation_loss=8.6 validation_bpb=9.9", "validation", 8.6, 9.9),
        ("val_loss: 1.5e0 val_bpb: 9e-1", "", 1.5, 0.9),
    ],
)
def test_a_score_by_any_name(line: str, tag: str | None, loss: float | None, bpb: float) -> None:
    (metric,) = read_scores(line, HERE)
    assert (metric.val_loss, metric.val_bpb) == (loss, bpb)
    assert tag is None or metric.tag == tag


def test_several_scores_on_a_line_are_told_apart_by_name() -> None:
    metrics = read_scores("done vl:1.9 model_bpb=1.1627 ngram_bpb=0.3211 delta_bpb=-0.84", HERE)
    assert [(m.tag, m.val_loss, m.val_bpb) for m in metrics] == [
        ("done model", None, 1.1627),
        ("done ngram", None, 0.3211),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "ttt_chunk [1/1893] bpb=1.158340 time=0.5s",
        "sliding_eval [ 10.6%] 12832/121136 windows running_bpb=1.162498",
        "ngram_eval:progress windows=64032/121136 (52.9%) bpb=1.091392 t=48s",
        "step:1/20000 train_loss:6.9303 train_bpb:4.0923 train_time:125ms",
        "quant_gap: 0.014231 BPB (pre:1.163482 post:1.177713)",
        "delta_bpb=-0.00165387",
        "gain_bpb:0.00312121",
        "ema:applying best EMA (decay=0.9970 bpb=inf)",
        'log0(f"final val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f}")',
        "val_bpb:enabled tokenizer_kind=sentencepiece",
        "nothing of the kind",
    ],
)
def test_progress_differences_and_source_are_no_scores(line: str) -> None:
    assert read_scores(line, HERE) == []


@given(st.text(alphabet='val_bpb:=|*"(){} 1.2eE+-/%[]', max_size=200))
def test_no_line_breaks_the_reader(line: str) -> None:
    for metric in read_scores(line, HERE):
        assert metric.val_loss is not None or metric.val_bpb is not None


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("seed:7\n", [7]),
        ("=== RUN 1 (seed=1337) ===\n=== RUN 2 (seed=42) ===\n", [1337, 42]),
        ("  seed: 5\nspinquant:baked seed:20260416 weights:66\n", [5]),
        ("vocab_size=1024, temperature=0.8, seed=42\n", [42]),
        ("[19:23:20] RUN seed=42\n", [42]),
    ],
)
def test_the_seed_of_the_run_and_not_that_of_a_sampler(text: str, seeds: list[int]) -> None:
    log = read_log(SourceFile.of("train.log", text.encode()))
    assert isinstance(log, LogClaims)
    assert [int(figure.value) for figure in log.seeds] == seeds
