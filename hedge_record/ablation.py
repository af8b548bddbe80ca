"""What each part of the record is worth: variants that differ from a base in one thing.

Variants that are trained alike share one training, those that are exported alike one artifact:
both are kept under the settings that they depend on, as is every score, so that an interrupted
ablation continues where it stopped.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hedge_record.config import RecordConfig, embedded, tiny
from hedge_record.data.corpus import data_identity
from hedge_record.data.folder import DataFolder
from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.evaluation.ngram import EXPERT_NAMES
from hedge_record.files import make_folder, write_atomically
from hedge_record.pipeline import RecordRun
from hedge_record.progress import Reporter, SilentReporter

QUICK_TARGETS = 8_192
QUICK_ITERATIONS = 200


@dataclass(frozen=True)
class Variant:
    """A configuration, and in which respect it differs from the base."""

    part: str
    name: str
    config: RecordConfig


@dataclass(frozen=True)
class VariantScores:
    """What one variant reached with one seed: bits per byte, and bytes of the model."""

    sliding: float
    adapted: float  # test-time training, the model alone
    final: float
    model_bytes: int


@dataclass(frozen=True)
class AblationRow:
    """A variant over all seeds, in their order."""

    variant: Variant
    scores: tuple[VariantScores, ...]


def ablation_base(*, quick: bool) -> tuple[RecordConfig, int | None]:
    """The configuration that everything is compared with, and how many targets it scores."""
    if not quick:
        return embedded(), None
    base = tiny()
    training = replace(base.training, iterations=QUICK_ITERATIONS, warmdown_steps=100)
    return replace(base, name="tiny, 200 steps", training=training), QUICK_TARGETS


def ablation_variants(base: RecordConfig) -> list[Variant]:
    """The base, then one variant per change."""

    def training(part: str, name: str, **changes: Any) -> Variant:
        return Variant(part, name, replace(base, training=replace(base.training, **changes)))

    def export(part: str, name: str, **changes: Any) -> Variant:
        return Variant(part, name, replace(base, export=replace(base.export, **changes)))

    def evaluation(part: str, name: str, **changes: Any) -> Variant:
        return Variant(part, name, replace(base, evaluation=replace(base.evaluation, **changes)))

    stride = base.evaluation.stride
    others = {name: tuple(n for n in EXPERT_NAMES if n != name) for name in EXPERT_NAMES[1:]}
    return [
        Variant("base", "as it is", base),
        training("CROWN-Q", "off", crown_q_lambda=0.0),
        training("QAT", "off", qat_rounding="off"),
        training("QAT", "soft rounding", qat_rounding="soft"),
        export("GPTQ", "as submitted", gptq="as-submitted"),
        export("pruning", "off", prune_fraction=0.0),
        *(evaluation("stride", str(size), stride=size) for size in (stride // 2, stride // 4)),
        *(evaluation("TTT epochs", str(epochs), ttt_epochs=epochs) for epochs in (0, 3, 4, 8)),
        evaluation("mixer", "off", mixer="off"),
        evaluation("mixer", "neural alone", mixer_experts=("neural",)),
        *(
            evaluation("mixer", f"without {name}", mixer_experts=kept)
            for name, kept in others.items()
        ),
    ]


def run_ablation(
    base: RecordConfig,
    data: DataFolder,
    seeds: Sequence[int],
    *,
    work: Path,
    validation_targets: int | None,
    device: torch.device,
    reporter: Reporter,
) -> list[AblationRow]:
    """Trains, exports and scores every variant with every seed.

    Raises:
        RecordError: bad data, a diverging variant, or a folder that cannot be written to.
    """
    variants = ablation_variants(base)
    scores: list[list[VariantScores]] = [[] for _ in variants]
    reporter.start("ablation", len(variants) * len(seeds), "variants")
    for seed in seeds:
        for variant, of_variant in zip(variants, scores, strict=True):
            config = replace(variant.config, seed=seed)
            of_variant.append(scores_of(config, data, work, validation_targets, device))
            reporter.advance(1, bpb=of_variant[-1].final)
            reporter.log(f"{variant.part} {variant.name} seed {seed}: {of_variant[-1].final:.4f}")
    reporter.finish()
    return [
        AblationRow(variant, tuple(of_variant))
        for variant, of_variant in zip(variants, scores, strict=True)
    ]


def scores_of(
    config: RecordConfig,
    data: DataFolder,
    work: Path,
    validation_targets: int | None,
    device: torch.device,
) -> VariantScores:
    """What a configuration reaches; kept in `work`, where a second call finds it.

    Raises:
        RecordError: bad data, a loss that is no number, or a folder that cannot be written to.
    """
    content = config.to_json()
    training = {key: content[key] for key in ("seed", "model", "training")}
    # Quantisation-aware training rounds as the export does.
    training |= {key: content["export"][key] for key in ("clip_range", "scale_floor")}
    training["files"] = data_identity(data.path)["files"]
    exported = {"training": training, "export": content["export"]}
    scored = {**exported, "evaluation": content["evaluation"], "targets": validation_targets}
    result = work / f"{_digest(scored)}.json"
    if not result.exists():
        artifact = work / f"{_digest(exported)}.ptz"
        checkpoints = make_folder(work / _digest(training))
        run = RecordRun(config, data, artifact, device, checkpoints, validation_targets)
        figures = _figures(run, artifact)
        write_atomically(result, json.dumps(figures))
    return VariantScores(**json.loads(result.read_text(encoding="utf-8")))


def _figures(run: RecordRun, artifact: Path) -> dict[str, float]:
    log = SilentReporter()
    if not artifact.exists():
        run.train(log)
        run.export(0, log)
    adaptive = run.score_adaptive(log)
    return {
        "sliding": Score(**run.score_quantized(log)["score"]).bpb,
        "adapted": Score(**adaptive["neural"]).bpb,
        "final": Score(**adaptive["score"]).bpb,
        "model_bytes": artifact.stat().st_size,
    }


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
