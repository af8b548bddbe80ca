"""What a run will do, and about what it will take, before it starts.

Times come from a probe on this machine: a few training sequences through the network and back, one
optimizer step, a few evaluation windows, one block of the mixer, each scaled to the run. What a
compiler saves and what a busy machine costs is not in them. Memory is what tensors need: weights,
gradients, optimizers, the average, what the probe kept for its backward pass, the mixer's tables.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hedge_record.config import ARTIFACT_LIMIT_BYTES, RecordConfig
from hedge_record.data.folder import DataFolder
from hedge_record.data.shards import count_tokens, find_shards
from hedge_record.evaluation.make_mixer import make_mixer
from hedge_record.evaluation.mixture import CompliantMixer
from hedge_record.evaluation.ngram import table_rows
from hedge_record.evaluation.windows import plan_windows, window_batches
from hedge_record.model.gpt import GPT
from hedge_record.model.precision import is_control_tensor, set_precision
from hedge_record.training.optimizers import Optimizers
from hedge_record.training.schedule import training_seconds

# Measured on trained models under zstd: an embedded one, and PR 700's, whose floor under the step
# between two codes leaves fewer of them in use. int8 rows hardly shrink.
INT5_BITS, INT5_BITS_WITH_FLOOR, INT8_BITS = 4.5, 3.65, 7.5
PROBE_TOKENS = 2048  # at most so many in one pass of the probe, as far as the run has them


@dataclass(frozen=True)
class RunPlan:
    """Estimates for one seed on all ranks together; bytes of memory are a rank's."""

    parameters: int
    training_tokens: int  # of the shards
    steps: int  # at most, where a time budget ends the training
    validation_targets: int
    windows: int
    chunks: int
    seconds: dict[str, float]  # per stage
    memory: dict[str, int]  # per stage, in bytes
    artifact_bytes: int

    def lines(self, config: RecordConfig) -> list[str]:
        """The plan for people."""
        total = sum(self.seconds.values())
        evaluation = config.evaluation
        scored = f"{self.validation_targets:,} targets in {self.windows:,} windows"
        adapted = f"{self.chunks:,} chunks, {evaluation.ttt_epochs} epochs each"
        steps = f"{self.steps:,} steps of {config.training.batch_tokens:,} tokens"
        artifact = f"about {self.artifact_bytes:,} bytes of model"
        head = (
            f"preset {config.name}, seed {config.seed}: {self.parameters:,} parameters",
            f"train: {steps}; {self.training_tokens:,} in the shards",
            f"score: {scored}; {adapted}; mixer {evaluation.mixer}",
            f"artifact: {artifact}; limit with the code {ARTIFACT_LIMIT_BYTES:,}",
        )
        stages = (
            f"{stage}: about {seconds:,.0f} s, {self.memory[stage] / 1e6:,.0f} MB"
            for stage, seconds in self.seconds.items()
        )
        total, most = sum(self.seconds.values()), max(self.memory.values())
        return [*head, *stages, f"all: about {total:,.0f} s, at most {most / 1e6:,.0f} MB"]


def plan_of(config: RecordConfig, data: DataFolder, device: torch.device, ranks: int) -> RunPlan:
    """The plan of a run of `config` on `data`; nothing is written.

    Raises:
        RecordError: data that the run would refuse too.
    """
    training, evaluation = config.training, config.evaluation
    data.byte_table(config.model.vocab_size)
    data.check_validation_size(evaluation.sequence_length)
    targets = count_tokens(find_shards(data.path, "val")) - 1
    windows = plan_windows(targets, evaluation)
    chunks = -(-targets // evaluation.ttt_chunk_tokens)
    torch.manual_seed(config.seed)
    model = set_precision(GPT(config.model).to(device), training.precision)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    probe = _Probe(config, model, device)
    sequences = training.batch_tokens // training.sequence_length
    step = sequences * probe.training_sequence / ranks + probe.optimizer
    train = training.iterations * step
    warm = training.warmup_steps * step
    slide = len(windows) * probe.window / ranks
    adapted = (chunks - 1) * evaluation.ttt_chunk_tokens // evaluation.sequence_length
    adapt = evaluation.ttt_epochs * adapted * probe.evaluation_sequence / ranks
    mix = targets * probe.mixed_target
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    kept = probe.kept_bytes_per_token
    # Weights, gradients, at most two moments, the average and the warm-up's copies.
    in_training = 4 * 4 * parameters + weights + kept * _tokens_at_once(config, ranks)
    tables = table_rows(config.model.vocab_size, evaluation.ngram_buckets)
    tables = 4 * config.model.vocab_size * tables if evaluation.mixer != "off" else 0
    batch = evaluation.batch_windows * evaluation.sequence_length
    hidden = batch * config.model.width * 4 * 8
    in_ttt = (
        6 * weights
        + tables
        + max(hidden, kept * evaluation.ttt_batch_sequences * evaluation.sequence_length // ranks)
    )
    return RunPlan(
        parameters=parameters,
        training_tokens=count_tokens(find_shards(data.path, "train")),
        steps=training.iterations,
        validation_targets=targets,
        windows=len(windows),
        chunks=chunks,
        seconds={
            "training": min(train, training_seconds(training)) + warm,
            "sliding window, twice": 2 * slide,
            "test-time training": slide + adapt + mix,
        },
        memory={
            "training": in_training,
            "sliding window, twice": weights + hidden,
            "test-time training": in_ttt,
        },
        artifact_bytes=_artifact_bytes(model, config),
    )


def _tokens_at_once(config: RecordConfig, ranks: int) -> int:
    """Tokens whose activations a rank holds for one backward pass."""
    training = config.training
    passes = ranks if training.merge_micro_batches else training.micro_batches
    return training.batch_tokens // passes


def _artifact_bytes(model: GPT, config: RecordConfig) -> int:
    int5 = INT5_BITS_WITH_FLOOR if config.export.scale_floor > 0 else INT5_BITS
    bits = 0.0
    for name, tensor in model.state_dict().items():
        if is_control_tensor(name):
            bits += 32 * tensor.numel()
        elif tensor.ndim != 2 or tensor.numel() <= config.export.small_tensor_elements:
            bits += 16 * tensor.numel()
        else:
            is_table = "emb" in name or name == "lm_head.weight"
            bits += (INT8_BITS if is_table else int5) * tensor.numel()
    return int(bits / 8)


class _Probe:
    """Seconds of the smallest pieces of a run on this machine."""

    def __init__(self, config: RecordConfig, model: GPT, device: torch.device) -> None:
        self._config, self._model, self._device = config, model, device
        self._kept = 0
        training, evaluation = config.training, config.evaluation
        tokens = _tokens_at_once(config, 1)
        self.training_sequence = self._sequence(tokens, training.sequence_length)
        self._kept = 0
        self._train(1, training.sequence_length)
        self.kept_bytes_per_token = self._kept // training.sequence_length
        optimizers = Optimizers(model, training)
        self.optimizer = self._seconds(lambda: optimizers.step(0, 0.0))
        model.zero_grad(set_to_none=True)
        tokens = evaluation.ttt_batch_sequences * evaluation.sequence_length
        self.evaluation_sequence = self._sequence(tokens, evaluation.sequence_length)
        rows = min(evaluation.batch_windows, max(PROBE_TOKENS // evaluation.sequence_length, 1))
        self.window = self._seconds(lambda: self._score(rows)) / rows
        self.mixed_target = self._mixed_target()

    def _sequence(self, tokens: int, length: int) -> float:
        """Seconds of one training sequence in passes of about `tokens`."""
        rows = max(min(tokens, PROBE_TOKENS) // length, 1)
        return self._seconds(lambda: self._train(rows, length)) / rows

    def _seconds(self, piece: Callable[[], object]) -> float:
        piece()  # caches and buffers
        self._wait()
        started = time.perf_counter()
        piece()
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _tokens(self, count: int) -> Tensor:
        return torch.randint(self._config.model.vocab_size, (count,), device=self._device)

    def _train(self, rows: int, length: int) -> None:
        tokens = self._tokens(rows * (length + 1)).view(rows, -1)

        def keep(tensor: Tensor) -> Tensor:
            self._kept += tensor.numel() * tensor.element_size()
            return tensor

        self._model.train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self._model(tokens[:, :-1], tokens[:, 1:])
        torch.autograd.backward(loss)

    @torch.inference_mode()
    def _score(self, rows: int) -> None:
        evaluation = replace(self._config.evaluation, batch_windows=rows)
        length = evaluation.sequence_length + rows * evaluation.stride
        later = plan_windows(length, evaluation)[1 : rows + 1]
        self._model.eval()
        for batch in window_batches(self._model, self._tokens(length + 1), later, evaluation):
            batch.scored_logits()

    @torch.inference_mode()
    def _mixed_target(self) -> float:
        """Of the compliant mixer; the submitted one costs about as much as its logits."""
        model, evaluation = self._config.model, self._config.evaluation
        block = evaluation.mixer_block_tokens
        tokens = self._tokens(4 * block + 1)
        small = replace(evaluation, ngram_buckets=1024)
        mixer = make_mixer(small, tokens, model.vocab_size, self._device)
        if not isinstance(mixer, CompliantMixer):
            return 0.0
        logits = torch.zeros(block, model.vocab_size, device=self._device)
        return self._seconds(lambda: mixer.score(logits, tokens)) / block
