"""The training run: warm-up, steps against the clock, log lines, checkpoints.

Validation data never enters: what is scored is the exported artifact, afterwards.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hedge_record.config import RecordConfig
from hedge_record.data.shards import TokenStream
from hedge_record.errors import RecordError
from hedge_record.model.gpt import GPT
from hedge_record.progress import Reporter, SilentReporter
from hedge_record.training.checkpoint import fingerprint_of, load_checkpoint, save_checkpoint
from hedge_record.training.distributed import current_ranks, share_figures
from hedge_record.training.schedule import lr_scale, training_seconds
from hedge_record.training.trainer import Trainer

LOGGED_FIRST_STEPS = 10


@dataclass(frozen=True)
class TrainingResult:
    """What a run leaves: the averaged weights, and how it went."""

    ema_state: dict[str, Tensor]  # float32, under the state-dict names of the model
    losses: tuple[tuple[int, float], ...]  # (step from 1, mean training NLL in nats)
    seconds: float  # by the clock of rank 0, without warm-up
    steps: int
    tokens: int


def train(
    model: GPT,
    stream: TokenStream,
    config: RecordConfig,
    *,
    device: torch.device,
    reporter: Reporter,
    checkpoint_dir: Path | None = None,
) -> TrainingResult:
    """Trains `model` in place on `stream` until its steps or its seconds are used up.

    Every rank calls this with the same arguments. With a `checkpoint_dir`, which all ranks must
    see, the run continues from the last checkpoint there if that is one of the same run, and
    ends as it would have ended without the interruption; a complete run is returned as it is.

    Raises:
        RecordError: the loss is no longer finite, the batch does not split, or a file fails.
    """
    run = TrainingRun(
        Trainer(model, stream, config, device),
        reporter if current_ranks().is_first else SilentReporter(),
        checkpoint_dir,
        fingerprint_of(config, stream),
    )
    run.resume()
    if not run.is_complete:
        run.warm_up()
        run.continue_to_end()
    return run.result()


class TrainingRun:
    """A run from its first or its last saved step to its end."""

    def __init__(
        self, trainer: Trainer, reporter: Reporter, folder: Path | None, fingerprint: str
    ) -> None:
        self._trainer = trainer
        self._reporter = reporter
        self._folder = folder
        self._fingerprint = fingerprint
        self._training = trainer.config.training
        self._seconds = 0.0
        self._losses: list[float] = []

    @property
    def is_complete(self) -> bool:
        """Whether the steps or the seconds are used up."""
        return len(self._losses) >= self._training.iterations or self._is_out_of_time

    @property
    def _is_out_of_time(self) -> bool:
        return self._seconds >= training_seconds(self._training)

    def resume(self) -> None:
        """Continues from the checkpoint of this run, if there is one."""
        if self._folder is None:
            return
        state = load_checkpoint(self._folder, self._fingerprint)
        if state is not None:
            self._trainer.load_state_dict(state["trainer"])
            self._losses = state["losses"]
            self._seconds = state["seconds"]
            self._reporter.log(f"resumed:step:{len(self._losses)}/{self._training.iterations}")

    def warm_up(self) -> None:
        """Runs the warm-up steps; neither clock nor data move."""
        for step in self._trainer.warm_up():
            self._reporter.log(f"warmup_step:{step}/{self._training.warmup_steps}")

    def continue_to_end(self) -> None:
        """Steps until the run is complete."""
        training = self._training
        by_clock = training.seconds is not None
        total = training_seconds(training) if by_clock else float(training.iterations)
        self._reporter.start("training", total, "seconds" if by_clock else "steps")
        try:
            self._reporter.advance(self._seconds if by_clock else len(self._losses))
            saved = time.perf_counter()
            started = saved - self._seconds
            while not self.is_complete:
                before = self._seconds
                self._step(started)
                spent = self._seconds - before
                self._reporter.advance(
                    spent if by_clock else 1.0,
                    loss=self._losses[-1],
                    tokens_per_second=training.batch_tokens / max(spent, 1e-9),
                )
                if time.perf_counter() - saved >= training.checkpoint_every_seconds:
                    self._save()
                    saved = time.perf_counter()
            self._save()
        finally:
            self._reporter.finish()
        if self._is_out_of_time and len(self._losses) < training.iterations:
            self._reporter.log(
                f"stopping_early: wallclock_cap train_time:{1000 * self._seconds:.0f}ms "
                f"step:{len(self._losses)}/{training.iterations}"
            )

    def result(self) -> TrainingResult:
        """The averaged weights and figures so far; the model no longer rounds its weights."""
        self._trainer.stop_quantizing()
        steps = len(self._losses)
        return TrainingResult(
            ema_state=self._trainer.average.state,
            losses=tuple(enumerate(self._losses, start=1)),
            seconds=self._seconds,
            steps=steps,
            tokens=steps * self._training.batch_tokens,
        )

    def _step(self, started: float) -> None:
        trainer, training, step = self._trainer, self._training, len(self._losses)
        scale = lr_scale(step, self._seconds, training)
        if scale < training.qat_lr_threshold and trainer.start_quantizing():
            self._reporter.log(f"late_qat:enabled step:{step} scale:{scale:.4f}")
        loss = trainer.optimize(step, scale)
        loss, self._seconds = share_figures(loss, time.perf_counter() - started, trainer.device)
        if not math.isfinite(loss):
            raise RecordError(
                f"the training loss is {loss} at step {step + 1}; lower the learning rates or "
                "the gradient clip of the preset"
            )
        self._losses.append(loss)
        self._log(step + 1, loss)

    def _log(self, step: int, loss: float) -> None:
        every = self._training.log_every
        if step <= LOGGED_FIRST_STEPS or step % every == 0 or self.is_complete:
            milliseconds = 1000 * self._seconds
            self._reporter.log(
                f"step:{step}/{self._training.iterations} train_loss:{loss:.4f} "
                f"train_time:{milliseconds:.0f}ms step_avg:{milliseconds / step:.2f}ms"
            )

    def _save(self) -> None:
        if self._folder is not None and current_ranks().is_first:
            state = {
                "trainer": self._trainer.state_dict(),
                "losses": self._losses,
                "seconds": self._seconds,
            }
            save_checkpoint(self._folder, self._fingerprint, state)
