"""The bench: both sides run alike, figures come off printed lines, and our side scores as it does
outside of the sandbox."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard

from hedge_record import comparisons
from hedge_record.bench import (
    Bench,
    bench_settings,
    original_environment,
    prepare_bench_data,
    run_pairs,
)
from hedge_record.bench_child import INITIAL_NAME, SCORED_NAME
from hedge_record.bench_figures import (
    OUR_MARKS,
    THEIR_MARKS,
    CostedLine,
    Figures,
    Pair,
    bench_report,
    figures_of,
)
from hedge_record.bench_weights import original_state, scored_state, write_state
from hedge_record.cli import main
from hedge_record.config import RecordConfig, tiny
from hedge_record.data.corpus import Corpus, prepare_folder
from hedge_record.data.folder import DataFolder
from hedge_record.data.shards import find_shards, load_validation_tokens
from hedge_record.errors import RecordError
from hedge_record.evaluation.sliding import score_sliding
from hedge_record.model.gpt import GPT
from hedge_record.progress import SilentReporter

TEXT = "to be or not to be that is the question whether it is nobler\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    corpus = Corpus("t", {}, (TEXT * 60,), (TEXT[5:] * 120,))
    return prepare_folder(
        corpus, tmp_path_factory.mktemp("bench") / "data", 300, reporter=SilentReporter()
    )


def small() -> RecordConfig:
    base = tiny()
    return replace(
        base,
        model=replace(base.model, vocab_size=300),
        training=replace(base.training, iterations=2, warmup_steps=0, warmdown_steps=1),
        evaluation=replace(
            base.evaluation, mixer="as-submitted", score_tail_repeatedly=True, stride=32
        ),
    )


def theirs_lines(steps: int = 2) -> list[CostedLine]:
    printed = [
        "logs/x.txt",
        *(f"step:{n}/{steps} train_loss:{7 - n}.0 train_time:1ms" for n in range(1, steps + 1)),
        f"step:{steps}/{steps} val_loss:9.0 val_bpb:9.0",
        "  ttt: pre-compile done",
        "final_int6_sliding_window val_loss:3.0 val_bpb:2.0 stride:8",
        "final_int6_sliding_window_exact val_loss:3.00000001 val_bpb:2.0",
        "ttt:start chunks=1",
        "final_int6_ttt_exact val_loss:2.0 val_bpb:1.5",
    ]
    return [CostedLine(float(n), 100 * n, text) for n, text in enumerate(printed)]


def test_figures_come_off_the_lines_of_the_original() -> None:
    figures = figures_of(theirs_lines(), THEIR_MARKS, small())
    assert figures == Figures(1.0, 2.0, 1.0, 800, 6.0, 3.00000001, 2.0, 2.0, 1.5, None)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (theirs_lines(3), "3 training steps were printed, 2 asked for"),
        (theirs_lines()[:-1], "no score after 'ttt:start' was printed as 'final_int6_ttt_exact'"),
        (theirs_lines()[:4], "no score after 'ttt: pre-compile done'"),
    ],
)
def test_a_script_that_prints_other_lines_is_refused(lines: list[Any], problem: str) -> None:
    with pytest.raises(RecordError, match=problem):
        figures_of(lines, THEIR_MARKS, small())


def test_the_report_takes_medians_of_ratios_and_the_largest_difference() -> None:
    def pair(cost: float, loss: float) -> Pair:
        theirs = Figures(4 * cost, 3 * cost, 2 * cost, 100, 7.0, 3.0, 2.0, 2.0, 1.5, None)
        ours = Figures(cost, cost, cost, 80, 7.0, loss, 2.0, 2.0, 1.5, 0.5)
        return Pair(theirs, ours)

    slow = Pair(replace(pair(1, 3.0).theirs, training=9.0), pair(1, 3.0).ours)
    report = bench_report([pair(1, 3.0), pair(5, 3.00003), slow], honest=1.1, neural=1.4)
    assert report == {
        "ratio": {"training": 4, "sliding": 3, "ttt_mixer": 2, "peak_memory": pytest.approx(0.8)},
        "nll_difference": pytest.approx(3e-5),
        "honest_bpb": {
            "ours": 1.1,
            "neural": 1.4,
            "original_claimed": 1.5,
            # 2.5 nats in place of 2 a token.
            "original_renormalised": pytest.approx(1.5 * 2.5 / 2),
        },
        "runs": 3,
    }


def test_the_original_is_told_every_setting_of_the_twin(data: DataFolder) -> None:
    twin, honest = bench_settings(quick=True)
    environment = original_environment(twin, data)
    assert environment["MODEL_DIM"] == str(twin.model.width)
    assert environment["VE_LAYERS"] == "2,3"
    assert environment["LN_SCALE"] == "1"
    assert environment["MAX_WALLCLOCK_SECONDS"] == "0"
    assert environment["TOKENIZER_PATH"] == f"/data/{data.tokenizer.name}"
    assert twin.evaluation.sequence_length == 32 * twin.evaluation.stride
    for part in ("iterations", "batch_tokens", "sequence_length"):
        assert getattr(twin.training, part) == getattr(honest.training, part)
    assert honest.evaluation.mixer == "compliant"
    assert not honest.evaluation.score_tail_repeatedly


def test_quick_data_is_the_beginning_of_the_validation_text(
    data: DataFolder, tmp_path: Path
) -> None:
    part = prepare_bench_data(data, tmp_path / "part", 1200)
    whole = load_validation_tokens(find_shards(data.path, "val"))
    assert torch.equal(load_validation_tokens(find_shards(part.path, "val")), whole[:1201])
    assert part.tokenizer.read_bytes() == data.tokenizer.read_bytes()
    assert prepare_bench_data(data, tmp_path / "none", None) == data


def test_weights_of_the_original_are_read_and_nothing_else(tmp_path: Path) -> None:
    content = {
        "w": {
            "a.q": torch.tensor([[1, -2], [3, 0]], dtype=torch.int8),
            "a.scale": torch.tensor([0.5, 2.0], dtype=torch.float16),
            "b.q": torch.tensor([4], dtype=torch.int8),
            "b.scale": torch.tensor(0.25),
            "c": torch.ones(1),
        },
        "m": {"a": {"type": "int5"}, "b": {"type": "int8"}, "c": "passthrough"},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = tmp_path / "model.ptz"
    path.write_bytes(zstandard.compress(buffer.getvalue()))
    state = scored_state(path)
    assert {name: tensor.tolist() for name, tensor in state.items()} == {
        "a": [[0.5, -1.0], [6.0, 0.0]],
        "b": [1.0],
        "c": [1.0],
    }
    path.write_bytes(zstandard.compress(b"no weights"))
    for bad in (path, tmp_path / "absent"):
        with pytest.raises(RecordError):
            scored_state(bad)
    torch.save({"hook": print}, path)
    with pytest.raises(RecordError, match="more than tensors"):
        original_state(path)
    torch.save({"a": 1}, path)
    with pytest.raises(RecordError, match="not a state dict"):
        original_state(path)


def test_our_side_scores_in_the_sandbox_as_outside(data: DataFolder, tmp_path: Path) -> None:
    """The original's part is played by lines and weights of ours: theirs is not for copying."""
    config = small()
    torch.manual_seed(1)
    model = GPT(config.model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kinds = dict.fromkeys(state, "passthrough")
    blob = io.BytesIO()
    torch.save({"w": state, "m": kinds}, blob)
    script = tmp_path / "train_gpt.py"
    lines = "\n".join(line.text for line in theirs_lines())
    script.write_text(
        "import pathlib\n"
        f"print({lines!r})\n"
        "for name in ('final_model.pt', 'final_model.int6.ptz'):\n"
        "    pathlib.Path(name).write_bytes(pathlib.Path('/data/' + name).read_bytes())\n"
    )
    part = prepare_bench_data(data, tmp_path / "data", 1100)
    write_state(part.path / "final_model.pt", state)
    (part.path / "final_model.int6.ptz").write_bytes(zstandard.compress(blob.getvalue()))
    bench = Bench(config, config, part, tmp_path / "work")
    (pair,) = run_pairs(bench, script, 1, SilentReporter())
    assert pair.theirs.sliding_loss == 3.00000001
    assert pair.ours.log_mass is not None
    expected = score_sliding(
        model,
        part.validation_tokens(300, config.evaluation.sequence_length),
        part.byte_table(300),
        config.evaluation,
        device=torch.device("cpu"),
        reporter=SilentReporter(),
    )
    assert pair.ours.sliding_loss == pytest.approx(expected.loss, abs=1e-6)
    assert pair.ours.training > 0
    assert (bench.work / "ours" / INITIAL_NAME).exists()
    assert (bench.work / "ours" / SCORED_NAME).exists()


def test_what_the_sandbox_cannot_run_is_one_clear_error(
    data: DataFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train_gpt.py"
    assert main(["bench", "--against", str(script)]) == 2
    assert "no such script" in capsys.readouterr().err
    script.write_text("raise ValueError('mine')\n")
    with pytest.raises(RecordError, match="ValueError: mine"):
        run_pairs(Bench(small(), small(), data, tmp_path), script, 1, SilentReporter())


def test_an_auditor_that_does_not_answer_is_reported(
    data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess([sys.executable], 2, "", "auditor: no sandbox\n")

    monkeypatch.setattr(subprocess, "run", silent)
    with pytest.raises(RecordError, match="auditor: no sandbox"):
        run_pairs(Bench(small(), small(), data, tmp_path), tmp_path / "x", 1, SilentReporter())


def test_json_has_the_public_fields(
    data: DataFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = Figures(2.0, 2.0, 2.0, 100, 7.0, 3.0, 2.0, 2.0, 1.5, 0.5)
    monkeypatch.setattr(comparisons, "run_pairs", lambda *_: [Pair(figures, figures)])
    script = tmp_path / "train_gpt.py"
    script.write_text("")
    honest = replace(small(), evaluation=tiny().evaluation)
    monkeypatch.setattr(comparisons, "bench_settings", lambda **_: (small(), honest))
    arguments = ["--data", str(data.path), "--work-root", str(tmp_path / "runs"), "--quick"]
    assert main(["bench", "--against", str(script), *arguments, "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report.keys() == {"ratio", "nll_difference", "honest_bpb", "runs"}
    assert report["ratio"].keys() == {"training", "sliding", "ttt_mixer", "peak_memory"}
    scores = {"ours", "neural", "original_claimed", "original_renormalised"}
    assert report["honest_bpb"].keys() == scores
    assert report["honest_bpb"]["ours"] < report["honest_bpb"]["neural"]


def test_marks_of_the_two_sides_differ() -> None:
    assert set(OUR_MARKS.sliding + OUR_MARKS.ttt).isdisjoint(THEIR_MARKS.sliding + THEIR_MARKS.ttt)
