"""Whole runs on a tiny model: clock, warm-up, checkpoints, faults, ranks."""

import io
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_recipes import lcg, tiny_model_config
from torch import Tensor

from hedge_record.config import RecordConfig, TrainingConfig
from hedge_record.data.shards import BatchLoader, TokenStream, write_shard
from hedge_record.errors import RecordError
from hedge_record.model.gpt import GPT
from hedge_record.model.linear import set_fake_quantization
from hedge_record.progress import SilentReporter
from hedge_record.training.checkpoint import CHECKPOINT_NAME, fingerprint_of, with_checksum
from hedge_record.training.distributed import (
    LOST_RANK,
    Ranks,
    connected_ranks,
    sum_over_ranks,
)
from hedge_record.training.loop import TrainingResult, train
from hedge_record.training.quantization import crown_q_penalty, fake_quantization_of
from hedge_record.training.trainer import Trainer

CPU = torch.device("cpu")
TRAINING = TrainingConfig(
    iterations=12,
    seconds=None,
    batch_tokens=256,
    sequence_length=32,
    micro_batches=2,
    warmup_steps=2,
    warmdown_steps=8,
    precision="float32",
    ema_decay=0.9,
    log_every=6,
    checkpoint_every_seconds=0.0,
)
MODEL = replace(tiny_model_config(), layers=2, width=32, rope_dims=4, value_embedding_layers=(1,))
CONFIG = RecordConfig(name="test", model=MODEL, training=TRAINING)


class RecordingReporter(SilentReporter):
    """Keeps the log lines, and may stop the run at one of them."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.lines: list[str] = []
        self.advanced = 0.0
        self._stop_at = stop_at

    def advance(self, amount: float, **figures: float) -> None:
        del figures
        self.advanced += amount

    def log(self, line: str) -> None:
        self.lines.append(line)
        if self._stop_at is not None and line.startswith(self._stop_at):
            raise KeyboardInterrupt


Run = Callable[..., TrainingResult]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "fineweb_train_000000.bin"
    # Two of three tokens follow from their predecessor, so that there is something to learn.
    tokens = lcg(5000, 64, seed=5)
    for index in range(1, len(tokens)):
        if index % 3:
            tokens[index] = (tokens[index - 1] + 5) % 64
    write_shard(path, tokens)
    return path


@pytest.fixture
def run(shard: Path) -> Run:
    def run_once(
        training: TrainingConfig = TRAINING,
        reporter: SilentReporter | None = None,
        checkpoint_dir: Path | None = None,
    ) -> TrainingResult:
        return train(
            fresh_model(),
            TokenStream([shard]),
            replace(CONFIG, training=training),
            device=CPU,
            reporter=reporter or SilentReporter(),
            checkpoint_dir=checkpoint_dir,
        )

    return run_once


def fresh_model() -> GPT:
    torch.manual_seed(11)
    return GPT(MODEL)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_learns_and_logs_in_the_challenges_format(run: Run) -> None:
    reporter = RecordingReporter()
    result = run(reporter=reporter)
    assert result.steps == len(result.losses) == reporter.advanced == 12
    assert result.tokens == 12 * 256
    assert [step for step, _ in result.losses] == list(range(1, 13))
    assert result.losses[-1][1] < result.losses[0][1] - 0.3
    assert reporter.lines[:2] == ["warmup_step:1/2", "warmup_step:2/2"]
    steps = [line for line in reporter.lines if line.startswith("step:")]
    assert [line.split()[0] for line in steps] == [f"step:{n}/12" for n in (*range(1, 11), 12)]
    _, loss, total, mean = steps[-1].split()
    assert loss == f"train_loss:{result.losses[-1][1]:.4f}"
    assert total == f"train_time:{1000 * result.seconds:.0f}ms"
    assert mean == f"step_avg:{1000 * result.seconds / 12:.2f}ms"
    # Steps 4..11 are the warmdown; its scale passes below one half at step 9.
    assert "late_qat:enabled step:9 scale:0.3750" in reporter.lines


def test_warm_up_leaves_no_trace(run: Run) -> None:
    with_warm_up, without = run(), run(replace(TRAINING, warmup_steps=0))
    assert with_warm_up.losses == without.losses
    assert same(with_warm_up.ema_state, without.ema_state)


@pytest.mark.parametrize("interrupted_after", ["step:3/", "step:10/", "step:12/"])
def test_a_resumed_run_equals_an_unbroken_one(
    run: Run, tmp_path: Path, interrupted_after: str
) -> None:
    folder = tmp_path / "checkpoints"
    with pytest.raises(KeyboardInterrupt):
        run(reporter=RecordingReporter(stop_at=interrupted_after), checkpoint_dir=folder)
    reporter = RecordingReporter()
    resumed = run(reporter=reporter, checkpoint_dir=folder)
    unbroken = run()
    done = int(interrupted_after[5:-1]) - 1
    assert reporter.lines[0] == f"resumed:step:{done}/12"
    assert reporter.advanced == 12
    assert resumed.losses == unbroken.losses
    assert same(resumed.ema_state, unbroken.ema_state)


def test_a_complete_run_is_not_trained_again(run: Run, tmp_path: Path) -> None:
    first = run(checkpoint_dir=tmp_path)
    reporter = RecordingReporter()
    again = run(reporter=reporter, checkpoint_dir=tmp_path)
    assert reporter.lines == ["resumed:step:12/12"]
    assert (again.losses, again.seconds) == (first.losses, first.seconds)
    assert same(again.ema_state, first.ema_state)


def test_a_checkpoint_of_another_run_is_left_aside(run: Run, tmp_path: Path) -> None:
    run(checkpoint_dir=tmp_path)
    other = replace(TRAINING, matrix_lr=0.01)
    assert run(other, checkpoint_dir=tmp_path).losses == run(other).losses


def test_the_fingerprint_tells_tokens_and_settings_apart(tmp_path: Path, shard: Path) -> None:
    stream = TokenStream([shard])
    fingerprint = fingerprint_of(CONFIG, stream)
    assert fingerprint_of(CONFIG, stream) == fingerprint
    quieter = replace(CONFIG, training=replace(TRAINING, log_every=1))
    assert fingerprint_of(quieter, stream) == fingerprint
    assert fingerprint_of(replace(CONFIG, seed=1), stream) != fingerprint
    other = tmp_path / "fineweb_train_000001.bin"
    write_shard(other, lcg(5000, 64, seed=6))
    assert fingerprint_of(CONFIG, TokenStream([other])) != fingerprint


class _Hostile:
    """Unpickled, it would leave a file behind."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._target,))


def forged(content: object) -> bytes:
    """A file that torch wrote and whose checksum is right."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return with_checksum(buffer.getvalue())


def test_damaged_and_hostile_checkpoints_are_refused(run: Run, tmp_path: Path) -> None:
    path, witness = tmp_path / CHECKPOINT_NAME, tmp_path / "witness"
    one_step = replace(TRAINING, iterations=1)
    run(one_step, checkpoint_dir=tmp_path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    hostile = {"format": 1, "fingerprint": _Hostile(witness), "state": {}}
    for content, complaint in (
        (b"", "damaged, its checksum"),
        (whole[: len(whole) // 2], "damaged, its checksum"),
        (bytes(flipped), "damaged, its checksum"),
        (with_checksum(b"no torch file"), r"not a checkpoint \("),
        (forged([]), r"not a checkpoint \(a list\)"),
        (forged(hostile), r"not a checkpoint \(Unpickling"),
    ):
        path.write_bytes(content)
        with pytest.raises(RecordError, match=rf"checkpoint\.pt: {complaint}"):
            run(one_step, checkpoint_dir=tmp_path)
    assert not witness.exists()


def test_by_clock_the_run_stops_and_says_so(run: Run) -> None:
    reporter = RecordingReporter()
    by_clock = replace(TRAINING, iterations=100_000, seconds=1.4, reserved_seconds=0.9)
    result = run(by_clock, reporter=reporter)
    assert 0.5 <= result.seconds < 5.0
    assert 1 <= result.steps < 100_000
    assert reporter.lines[-1].startswith("stopping_early: wallclock_cap train_time:")
    assert reporter.advanced == pytest.approx(result.seconds)


def test_a_loss_that_is_not_finite_names_its_step(shard: Path) -> None:
    model = fresh_model()
    with torch.no_grad():
        model.smear.gate.fill_(math.nan)
    with pytest.raises(RecordError, match="training loss is nan at step 1;"):
        train(
            model,
            TokenStream([shard]),
            replace(CONFIG, training=replace(TRAINING, warmup_steps=0)),
            device=CPU,
            reporter=SilentReporter(),
        )


def accumulated(shard: Path, training: TrainingConfig) -> list[Tensor]:
    """The gradients of one step of a rounding trainer, before averaging and clipping."""
    config = replace(CONFIG, training=training)
    trainer = Trainer(fresh_model(), TokenStream([shard]), config, CPU)
    assert trainer.start_quantizing()
    assert not trainer.start_quantizing()
    trainer._accumulate_gradients()
    return [p.grad for p in trainer.model.parameters() if p.grad is not None]


def test_micro_batches_average_and_the_penalty_counts_once(shard: Path) -> None:
    training = replace(TRAINING, micro_batches=4, crown_q_lambda=1e3)
    model = fresh_model()
    set_fake_quantization(model, fake_quantization_of(CONFIG))
    loader = BatchLoader(TokenStream([shard]), CPU)
    batches = zip(*loader.next_step(256, 32, 4, range(4)), strict=True)
    objective = sum(model(*batch) for batch in batches) / 4 + 1e3 * crown_q_penalty(model, 15)
    expected = torch.autograd.grad(objective, list(model.parameters()))
    for merged in (False, True):
        own = accumulated(shard, replace(training, merge_micro_batches=merged))
        for gradient, accumulated_gradient in zip(expected, own, strict=True):
            assert torch.allclose(gradient, accumulated_gradient, atol=1e-6)


def test_a_gradient_beyond_the_clip_is_shortened(shard: Path) -> None:
    """AdamW and Muon forget lengths, so the clip shows in the momentum that Muon keeps."""

    def momentum_norm(clip: float) -> float:
        config = replace(CONFIG, training=replace(TRAINING, gradient_clip=clip))
        trainer = Trainer(fresh_model(), TokenStream([shard]), config, CPU)
        trainer.optimize(0, 1.0)
        states = trainer.state_dict()["optimizers"]["muon"]["state"].values()
        return math.hypot(*(state["momentum_buffer"].norm().item() for state in states))

    free = momentum_norm(0.0)
    assert momentum_norm(1e9) == pytest.approx(free)
    assert momentum_norm(1e-3) < min(1e-3, free / 10)


def test_more_ranks_than_micro_batches_are_refused(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hedge_record.training.trainer.current_ranks", lambda: Ranks(0, 3))
    with pytest.raises(RecordError, match="2 micro-batches are too few for 3 ranks"):
        Trainer(fresh_model(), TokenStream([shard]), CONFIG, CPU)


@pytest.mark.parametrize("value", ["two", "-1", ""])
def test_a_broken_launcher_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", value)
    with pytest.raises(RecordError, match="WORLD_SIZE"), connected_ranks():
        pass


def test_one_process_is_a_world_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with connected_ranks() as (ranks, _):
        assert ranks == Ranks(0, 1)
        assert ranks.is_first
        assert sum_over_ranks(torch.ones(2)).tolist() == [1.0, 1.0]


TWO_RANKS = """
import sys
from pathlib import Path
import torch
sys.path[:0] = [{root!r}, {golden!r}, {here!r}]
from hedge_record.training.distributed import connected_ranks, sum_gradients
from test_training_run import CONFIG, TRAINING, fresh_model
from hedge_record.data.shards import TokenStream
from hedge_record.progress import SilentReporter
from hedge_record.training.loop import train

torch.set_num_threads(1)
with connected_ranks() as (ranks, device):
    gradients = [torch.full((2, 3), 1.0 + ranks.rank), torch.full((4,), 3.0 * ranks.rank)]
    gradients.append(torch.full((2,), 2.0 * ranks.rank, dtype=torch.bfloat16))
    sum_gradients(gradients)
    model = fresh_model()
    with torch.no_grad():  # ranks that start apart must end together
        model.smear.gate.add_(ranks.rank)
    result = train(model, TokenStream([Path({shard!r})]), CONFIG, device=device,
                   reporter=SilentReporter(), checkpoint_dir=Path({out!r}) / "checkpoints")
    torch.save({{"ema": result.ema_state, "losses": result.losses, "seconds": result.seconds,
                 "gradients": gradients}},
               Path({out!r}) / f"rank{{ranks.rank}}.pt")
"""


def torchrun(script: str, folder: Path, shard: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script of this module on two ranks."""
    here = Path(__file__).parent
    path = folder / "script.py"
    path.write_text(
        script.format(
            root=str(here.parents[1]),
            golden=str(here.parent / "golden"),
            here=str(here),
            shard=str(shard),
            out=str(folder),
        )
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*command, "--nproc_per_node=2", str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )


def test_two_ranks_agree_with_each_other_and_with_one(
    run: Run, shard: Path, tmp_path: Path
) -> None:
    result = torchrun(TWO_RANKS, tmp_path, shard)
    assert result.returncode == 0, result.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    sums = [torch.full((2, 3), 3.0), torch.full((4,), 3.0), torch.full((2,), 2.0).bfloat16()]
    assert all(map(torch.equal, first["gradients"], sums))
    assert all(map(torch.equal, second["gradients"], sums))
    assert first["losses"] == second["losses"]
    assert first["seconds"] == second["seconds"]
    assert same(first["ema"], second["ema"])
    alone = run()
    # The spans of two ranks and of two micro-batches are cut alike: the batches are the same.
    assert np.array(first["losses"]) == pytest.approx(np.array(alone.losses), abs=2e-3)


LOST_RANK_SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
sys.path[:0] = [{root!r}, {golden!r}, {here!r}]
from hedge_record.errors import RecordError
from hedge_record.training.distributed import connected_ranks
from test_training_run import CONFIG, fresh_model
from hedge_record.data.shards import TokenStream
from hedge_record.progress import SilentReporter
from hedge_record.training.loop import train
from hedge_record.training.trainer import Trainer

torch.set_num_threads(1)
optimize = Trainer.optimize
def optimize_or_die(self, step, scale):
    if step == 7 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return optimize(self, step, scale)
Trainer.optimize = optimize_or_die
try:
    with connected_ranks() as (ranks, device):
        train(fresh_model(), TokenStream([Path({shard!r})]), CONFIG, device=device,
              reporter=SilentReporter(), checkpoint_dir=Path({out!r}) / "checkpoints")
except RecordError as error:
    print(f"error: {{error}}", file=sys.stderr)
    raise SystemExit(2)
"""


def test_a_killed_rank_ends_the_run_with_one_message_and_a_usable_checkpoint(
    run: Run, shard: Path, tmp_path: Path
) -> None:
    result = torchrun(LOST_RANK_SCRIPT, tmp_path, shard)
    assert result.returncode != 0
    messages = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert messages == [f"error: {LOST_RANK}"]
    reporter = RecordingReporter()
    resumed = run(reporter=reporter, checkpoint_dir=tmp_path / "checkpoints")
    assert reporter.lines[0] == "resumed:step:7/12"
    assert np.array(resumed.losses) == pytest.approx(np.array(run().losses), abs=2e-3)
