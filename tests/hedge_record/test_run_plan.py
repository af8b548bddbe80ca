"""The plan of a run, its events for other programs, and its curves."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hedge_record.cli import main
from hedge_record.config import tiny
from hedge_record.data.corpus import Corpus, prepare_folder
from hedge_record.data.folder import DataFolder
from hedge_record.errors import RecordError
from hedge_record.event_log import JsonReporter, TrackingReporter, tracked
from hedge_record.model.gpt import GPT
from hedge_record.progress import SilentReporter
from hedge_record.run_plan import plan_of

TEXT = "to be or not to be that is the question whether it is nobler in the mind\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    letters = "".join(map(chr, range(33, 127)))
    corpus = Corpus("t", {}, (TEXT * 60 + letters * 40,), (TEXT[5:] * 150,))
    return prepare_folder(
        corpus, tmp_path_factory.mktemp("plan") / "data", 384, reporter=SilentReporter()
    )


def test_the_plan_counts_what_the_run_will_do(data: DataFolder) -> None:
    config = tiny()
    plan = plan_of(config, data, torch.device("cpu"), 1)
    assert plan.parameters == sum(p.numel() for p in GPT(config.model).parameters())
    assert plan.steps == config.training.iterations
    tokens = data.validation_tokens(384, config.evaluation.sequence_length)
    assert plan.validation_targets == len(tokens) - 1
    assert plan.chunks == -(-plan.validation_targets // config.evaluation.ttt_chunk_tokens)
    assert plan.seconds.keys() == plan.memory.keys()
    assert all(seconds > 0 for seconds in plan.seconds.values())
    # Weights, gradients, two moments and the average at the least.
    assert plan.memory["training"] > 5 * 4 * plan.parameters
    # The tables of the mixer: four hashed ones at the least.
    tables = 4 * config.evaluation.ngram_buckets * config.model.vocab_size * 4
    assert plan.memory["test-time training"] > tables
    assert 4 * plan.parameters / 8 < plan.artifact_bytes < 2 * plan.parameters


def test_ranks_share_the_training(data: DataFolder) -> None:
    alone = plan_of(tiny(), data, torch.device("cpu"), 1)
    shared = plan_of(tiny(), data, torch.device("cpu"), 8)
    assert shared.memory["training"] <= alone.memory["training"]


def run_tiny(data: DataFolder, folder: Path, *options: str) -> list[str]:
    arguments = ["run", "--preset", "tiny", "--data", str(data.path), "--out", str(folder / "out")]
    return [*arguments, "--work-root", str(folder / "runs"), *options]


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    data: DataFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(run_tiny(data, tmp_path, "--dry-run", "--seeds", "1,2")) == 0
    printed = capsys.readouterr().out
    for words in ("parameters", "30 steps of 1,024 tokens", "artifact: about", "MB", "2 times"):
        assert words in printed
    assert main(run_tiny(data, tmp_path, "--dry-run", "--log-format", "json")) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["event"] == "plan"
    assert plan["seeds"] == [1337]
    assert list(tmp_path.iterdir()) == []
    assert main(["run", "--dry-run", "--preset", "embedded", "--data", str(data.path)]) == 2
    assert "384 pieces, but the model has 1024" in capsys.readouterr().err


def test_events_are_one_object_a_line(
    data: DataFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(run_tiny(data, tmp_path, "--log-format", "json", "--track", "tensorboard")) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["event"] for event in events} == {"start", "progress", "finish", "log", "result"}
    started = [event["stage"] for event in events if event["event"] == "start"]
    assert started[0] == "training"
    assert [e["stage"] for e in events if e["event"] == "finish"] == started
    result = events[-1]
    submission = json.loads((tmp_path / "out" / "submission.json").read_text())
    assert result["val_bpb"] == submission["val_bpb"]
    assert any(event.get("line", "").startswith("step:30/30") for event in events)
    curves = list((tmp_path / "runs" / "tensorboard" / "out").glob("events.*"))
    assert len(curves) == 1
    assert b"training/loss" in curves[0].read_bytes()


def test_progress_is_told_once_a_second() -> None:
    stream = io.StringIO()
    reporter = JsonReporter(stream)
    reporter.start("training", 100, "steps")
    for _ in range(100):
        reporter.advance(1, loss=2.5)
    reporter.finish()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert events[0] == {"event": "start", "stage": "training", "total": 100, "unit": "steps"}
    assert events[1] == {"event": "progress", "stage": "training", "done": 1, "loss": 2.5}
    assert events[-1] == {"event": "finish", "stage": "training", "done": 100}
    assert len(events) < 20


def test_figures_become_points_of_their_stage() -> None:
    points: list[tuple[Any, ...]] = []

    class Points:
        def add(self, *point: Any) -> None:
            points.append(point)

    reporter = TrackingReporter(SilentReporter(), Points())
    reporter.start("sliding window", 10, "tokens")
    reporter.advance(4, bpb=2.0)
    reporter.advance(6, bpb=1.5)
    assert points == [("sliding_window/bpb", 2.0, 4), ("sliding_window/bpb", 1.5, 10)]


def test_a_tracker_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setitem(sys.modules, "trackio", None)
    with (
        pytest.raises(RecordError, match="--track trackio: not installed"),
        tracked(SilentReporter(), "trackio", "run", tmp_path),
    ):
        pass
