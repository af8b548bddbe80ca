"""The record from end to end: train, export, read the artifact back, score it.

What crosses from training to evaluation is the artifact on disk and nothing else. Validation shards
are opened after the artifact is written, training shards never after that.
"""

import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hedge_record.config import RecordConfig
from hedge_record.data.byte_table import ByteTable
from hedge_record.data.folder import DataFolder
from hedge_record.data.shards import BatchLoader, find_shards
from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.evaluation.make_mixer import make_mixer
from hedge_record.evaluation.sliding import score_sliding
from hedge_record.evaluation.ttt import AdaptiveScore, score_first_ttt
from hedge_record.export.artifact import check_size, read_artifact, write_artifact
from hedge_record.export.hessian import collect_hessians
from hedge_record.export.quantize import quantize_model
from hedge_record.model.gpt import GPT
from hedge_record.model.precision import set_precision
from hedge_record.progress import Reporter, SilentReporter
from hedge_record.result import RecordResult, adaptive_score_of
from hedge_record.stages import FreshStages, Stages
from hedge_record.training.distributed import current_ranks, sum_over_ranks
from hedge_record.training.loop import TrainingResult, train

ARTIFACT_NAME = "final_model.int5.ptz"
FINAL_TAG = "final_int5_ttt"
CALIBRATION_BATCH_SEQUENCES = 8


def run_record(
    config: RecordConfig,
    data: DataFolder,
    artifact: Path,
    *,
    code_bytes: int,
    device: torch.device,
    reporter: Reporter,
    stages: Stages,
    checkpoints: Path | None = None,
) -> RecordResult:
    """Trains, exports to `artifact`, reads that back and scores it. Every rank calls this.

    Raises:
        RecordError: bad data, a loss that is no number, or code and model above the limit.
    """
    run = RecordRun(config, data, artifact, device, checkpoints)
    setup = stages.stage("setup", run.set_up, reporter)
    training = stages.stage("training", run.train, reporter, resumable=True)
    export = stages.stage("export", lambda log: run.export(code_bytes, log), reporter)
    trained = stages.stage("trained", run.score_trained, reporter)
    quantized = stages.stage("quantized", run.score_quantized, reporter)
    adaptive = stages.stage("adaptive", run.score_adaptive, reporter)
    results = {"training": training, "export": export, "trained": trained}
    results |= {"quantized": quantized, "adaptive": adaptive}
    return RecordResult(
        parameters=setup["parameters"],
        steps=training["steps"],
        training_tokens=training["tokens"],
        losses=tuple((step, loss) for step, loss in training["losses"]),
        code_bytes=code_bytes,
        model_bytes=export["model_bytes"],
        trained=Score(**trained["score"]),
        quantized=Score(**quantized["score"]),
        adaptive=adaptive_score_of(adaptive),
        seconds={name: result["seconds"] for name, result in results.items()},
        hardware=describe_hardware(device, current_ranks().world_size),
    )


def evaluate_artifact(
    config: RecordConfig,
    data: DataFolder,
    artifact: Path,
    *,
    device: torch.device,
    reporter: Reporter,
) -> tuple[Score, AdaptiveScore]:
    """The sliding-window and the final score of an artifact, as `run_record` computes them.

    Raises:
        RecordError: bad data, or an artifact that does not fit the configuration.
    """
    run = RecordRun(config, data, artifact, device, None)
    stages = FreshStages()
    quantized = stages.stage("quantized", run.score_quantized, reporter)
    adaptive = stages.stage("adaptive", run.score_adaptive, reporter)
    return Score(**quantized["score"]), adaptive_score_of(adaptive)


def describe_hardware(device: torch.device, ranks: int) -> str:
    """What the run used, for the log and submission.json."""
    if device.type == "cuda":
        return f"{ranks}x {torch.cuda.get_device_name(device)}"
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads x {ranks} processes"


class RecordRun:
    """The stages; each takes a reporter, and returns plain values that JSON can keep.

    `validation_targets` scores no more than the first so many: for comparisons, not for records.
    """

    def __init__(
        self,
        config: RecordConfig,
        data: DataFolder,
        artifact: Path,
        device: torch.device,
        checkpoints: Path | None,
        validation_targets: int | None = None,
    ) -> None:
        self._config = config
        self._data = data
        self._artifact = artifact
        self._device = device
        self._checkpoints = checkpoints
        self._validation_targets = validation_targets
        self._training: TrainingResult | None = None
        self._validation: tuple[Tensor, ByteTable] | None = None

    def set_up(self, reporter: Reporter) -> dict[str, Any]:
        """Logs the configuration and what is trained on."""
        config, data = self._config, self._data
        data.byte_table(config.model.vocab_size)
        ranks = current_ranks()
        reporter.log(f"hardware: {describe_hardware(self._device, ranks.world_size)}")
        reporter.log(f"world_size:{ranks.world_size} torch:{torch.__version__}")
        reporter.log("hyperparameters:")
        for section, values in config.to_json().items():
            members = values.items() if isinstance(values, dict) else [("", values)]
            for name, value in members:
                reporter.log(f"  {section}{'.' if name else ''}{name}: {value}")
        shards = len(find_shards(data.path, "train"))
        reporter.log(
            f"val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path={data.tokenizer.name}"
        )
        reporter.log(f"train_loader:dataset:{data.path.name} train_shards:{shards}")
        parameters = sum(parameter.numel() for parameter in self._new_model().parameters())
        reporter.log(f"model_params:{parameters}")
        return {"parameters": parameters}

    def train(self, reporter: Reporter) -> dict[str, Any]:
        """Trains, or continues from the last checkpoint."""
        config = self._config
        self._training = train(
            self._new_model(),
            self._data.training_stream(config.model.vocab_size),
            config,
            device=self._device,
            reporter=reporter,
            checkpoint_dir=self._checkpoints,
        )
        return {
            "steps": self._training.steps,
            "tokens": self._training.tokens,
            "losses": self._training.losses,
            "seconds": self._training.seconds,
        }

    def export(self, code_bytes: int, reporter: Reporter) -> dict[str, Any]:
        """Quantises the averaged weights and writes the artifact; the first rank does the work."""
        if current_ranks().is_first:
            self._write_artifact(reporter)
        sum_over_ranks(torch.zeros(1, device=self._device))  # the others wait for the file
        model_bytes = self._artifact.stat().st_size
        reporter.log(f"Code size: {code_bytes} bytes")
        reporter.log(f"Serialized model int5+zstd: {model_bytes} bytes")
        reporter.log(f"Total submission size int5+zstd: {code_bytes + model_bytes} bytes")
        check_size(code_bytes, model_bytes)
        return {"model_bytes": model_bytes}

    def score_trained(self, reporter: Reporter) -> dict[str, Any]:
        """Sliding window with the weights before export: a diagnostic, nothing depends on it."""
        targets = self._validation_data()[0].numel() - 1
        reporter.log(f"val_loader:shards pattern=fineweb_val_*.bin tokens:{targets}")
        model = self._new_model()
        model.load_state_dict(self._trained().ema_state)
        return self._slide(model, "pre_quantization_sliding_window", reporter)

    def score_quantized(self, reporter: Reporter) -> dict[str, Any]:
        """Sliding window with the weights that the artifact holds."""
        return self._slide(self._model_of_artifact(), "final_int5_sliding_window", reporter)

    def score_adaptive(self, reporter: Reporter) -> dict[str, Any]:
        """Score-first test-time training with the mixer, from the artifact: the claimed score."""
        evaluation = self._config.evaluation
        tokens, table = self._validation_data()
        started = time.perf_counter()
        result = score_first_ttt(
            self._model_of_artifact(),
            tokens,
            table,
            evaluation,
            device=self._device,
            reporter=reporter,
            mixer=make_mixer(evaluation, tokens, table.vocab_size, self._device),
        )
        for name, figure in result.mixer_figures.items():
            reporter.log(f"mixer:{name}:{figure:.6f}")
        self._log_score(reporter, "ttt_without_mixer", result.neural, started)
        self._log_score(reporter, FINAL_TAG, result.score, started)
        return {
            "score": asdict(result.score),
            "neural": asdict(result.neural),
            "per_chunk": [asdict(chunk) for chunk in result.per_chunk],
            "mixer_figures": result.mixer_figures,
        }

    def _new_model(self) -> GPT:
        torch.manual_seed(self._config.seed)
        model = GPT(self._config.model).to(self._device)
        return set_precision(model, self._config.training.precision)

    def _trained(self) -> TrainingResult:
        """The training result; of an earlier session, its complete checkpoint gives it back."""
        if self._training is None:
            self.train(SilentReporter())
        assert self._training is not None
        return self._training

    def _model_of_artifact(self) -> GPT:
        model = self._new_model()
        model.load_state_dict(read_artifact(self._artifact, model))
        return model

    def _write_artifact(self, reporter: Reporter) -> None:
        config = self._config
        state = self._trained().ema_state
        uncompressed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
        reporter.log(f"Serialized model: {uncompressed} bytes")
        model = self._new_model()
        model.load_state_dict(state)
        started = time.perf_counter()
        hessians = collect_hessians(model, self._calibration_batches())
        reporter.log(
            f"gptq:calibrated {len(hessians)} layers in {time.perf_counter() - started:.1f}s"
        )
        stored = quantize_model(state, hessians, config.export)
        write_artifact(self._artifact, stored, config.export.zstd_level)

    def _calibration_batches(self) -> list[Tensor]:
        """Training sequences, int64 [B, T] each."""
        config = self._config
        length, left = config.training.sequence_length, config.export.calibration_sequences
        stream = self._data.training_stream(config.model.vocab_size)
        loader = BatchLoader(stream, self._device)
        batches = []
        while left > 0:
            rows = min(CALIBRATION_BATCH_SEQUENCES, left)
            batches.append(loader.next_step(rows * length, length, 1, [0])[0][0])
            left -= rows
        return batches

    def _validation_data(self) -> tuple[Tensor, ByteTable]:
        if self._validation is None:
            vocab_size = self._config.model.vocab_size
            tokens = self._data.validation_tokens(
                vocab_size, self._config.evaluation.sequence_length
            )
            if self._validation_targets is not None:
                tokens = tokens[: self._validation_targets + 1]
            self._validation = tokens, self._data.byte_table(vocab_size)
        return self._validation

    def _slide(self, model: GPT, tag: str, reporter: Reporter) -> dict[str, Any]:
        tokens, table = self._validation_data()
        started = time.perf_counter()
        score = score_sliding(
            model,
            tokens,
            table,
            self._config.evaluation,
            device=self._device,
            reporter=reporter,
        )
        self._log_score(reporter, tag, score, started)
        return {"score": asdict(score)}

    def _log_score(self, reporter: Reporter, tag: str, score: Score, started: float) -> None:
        milliseconds = 1000 * (time.perf_counter() - started)
        reporter.log(
            f"{tag} val_loss:{score.loss:.4f} val_bpb:{score.bpb:.4f} "
            f"stride:{self._config.evaluation.stride} eval_time:{milliseconds:.0f}ms"
        )
        reporter.log(f"{tag}_exact val_loss:{score.loss:.8f} val_bpb:{score.bpb:.8f}")
