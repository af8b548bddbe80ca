"""The record folder: what a submission to the challenge consists of, for one seed or several.

    README.md  submission.json  train_gpt.py  requirements.txt  train_seed<N>.log
    final_model.int5.ptz  loss_curve.png  chunk_bpb.png

A further seed of the same configuration on the same data joins the folder; the script, the artifact
and the pictures stay those of the first seed. `submission.json` is written last: a folder that has
one is whole.
"""

import datetime
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from hedge_record.config import RecordConfig
from hedge_record.data.corpus import data_identity
from hedge_record.data.folder import DataFolder
from hedge_record.errors import RecordError
from hedge_record.files import make_folder, write_atomically
from hedge_record.pictures import chunk_picture, loss_picture
from hedge_record.pipeline import ARTIFACT_NAME
from hedge_record.record_readme import RECORD_HARDWARE, readme_text
from hedge_record.result import RecordResult

SUBMISSION_NAME = "submission.json"
SCRIPT_NAME = "train_gpt.py"
REQUIREMENTS = (
    "torch>=2.5",
    "numpy>=1.26",
    "sentencepiece>=0.2",
    "zstandard>=0.22",
)


@dataclass(frozen=True)
class Submitter:
    """Who submits, for submission.json."""

    author: str = ""
    github_id: str = ""


def write_record_folder(
    folder: Path,
    config: RecordConfig,
    result: RecordResult,
    *,
    artifact: Path,
    script: str,
    log_lines: Sequence[str],
    data: DataFolder,
    submitter: Submitter,
) -> dict[str, Any]:
    """Writes the folder, or adds a seed to it; returns the content of submission.json.

    Raises:
        RecordError: the folder holds another record, or cannot be written.
    """
    make_folder(folder)
    earlier = seeds_to_join(folder, config, data)
    seeds = {**earlier, str(config.seed): seed_entry(result)}
    write_atomically(folder / log_name(config.seed), "\n".join(log_lines) + "\n")
    first = not set(earlier) - {str(config.seed)}
    if first:
        write_atomically(folder / SCRIPT_NAME, script)
        write_atomically(folder / ARTIFACT_NAME, artifact.read_bytes())
        write_atomically(folder / "requirements.txt", "\n".join(REQUIREMENTS) + "\n")
        write_atomically(folder / "loss_curve.png", loss_picture(result.losses))
        picture = chunk_picture(result.adaptive.per_chunk, result.quantized.bpb)
        write_atomically(folder / "chunk_bpb.png", picture)
    submission = submission_content(config, seeds, data, submitter)
    write_atomically(folder / "README.md", readme_text(submission))
    write_atomically(folder / SUBMISSION_NAME, json.dumps(submission, indent=2) + "\n")
    return submission


def seeds_to_join(folder: Path, config: RecordConfig, data: DataFolder) -> dict[str, Any]:
    """The results per seed that a folder holds already, of this configuration and data.

    Raises:
        RecordError: it holds another record.
    """
    if not (folder / SUBMISSION_NAME).exists():
        return {}
    submission = read_submission(folder)
    same = replace(config_of(submission), seed=config.seed) == config
    if not same or submission["data"]["files"] != data_identity(data.path)["files"]:
        raise RecordError(
            f"{folder}: holds another record (configuration or data differ); choose --out"
        )
    return dict(submission["seed_results"])


def log_name(seed: int) -> str:
    """The log of a seed."""
    return f"train_seed{seed}.log"


def seed_entry(result: RecordResult) -> dict[str, Any]:
    """What submission.json says of one seed."""
    return {
        "val_loss": result.adaptive.score.loss,
        "val_bpb": result.adaptive.score.bpb,
        "bytes_total": result.total_bytes,
        "bytes_code": result.code_bytes,
        "bytes_model": result.model_bytes,
        "steps": result.steps,
        "training_tokens": result.training_tokens,
        "parameters": result.parameters,
        "validation_targets": result.adaptive.score.tokens,
        "validation_bytes": result.adaptive.score.bytes,
        "parts_bpb": {part.symbol: part.bpb for part in result.parts},
        "mixer": result.adaptive.mixer_figures,
        "seconds": {name: round(value, 1) for name, value in result.seconds.items()},
        "hardware": result.hardware,
    }


def submission_content(
    config: RecordConfig, seeds: dict[str, Any], data: DataFolder, submitter: Submitter
) -> dict[str, Any]:
    """The content of submission.json: means over seeds, the largest size, every seed in full."""
    entries = list(seeds.values())
    hardware = sorted({entry["hardware"] for entry in entries})
    scores = [entry["val_bpb"] for entry in entries]
    on_record_hardware = hardware == [RECORD_HARDWARE]
    return {
        "track": "10min_16mb" if on_record_hardware else "non_record_16mb",
        "date": datetime.date.today().isoformat(),
        "name": f"{config.name}: int5 GPTQ, score-first TTT, {config.evaluation.mixer} mixer",
        "author": submitter.author,
        "github_id": submitter.github_id,
        "val_bpb": statistics.fmean(scores),
        "val_bpb_std": statistics.stdev(scores) if len(scores) > 1 else None,
        "val_loss": statistics.fmean(entry["val_loss"] for entry in entries),
        "bytes_total": max(entry["bytes_total"] for entry in entries),
        "bytes_code": max(entry["bytes_code"] for entry in entries),
        "bytes_model": max(entry["bytes_model"] for entry in entries),
        "seeds": [int(seed) for seed in seeds],
        "seed_results": seeds,
        "hardware": "; ".join(hardware),
        "data": {
            "folder": data.path.name,
            "tokenizer": data.tokenizer.name,
            **data_identity(data.path),
        },
        "config": replace(config, seed=int(next(iter(seeds)))).to_json(),
    }


def read_submission(folder: Path) -> dict[str, Any]:
    """The content of a record folder's submission.json.

    Raises:
        RecordError: missing, or not written by `hedge-record`.
    """
    path = folder / SUBMISSION_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read ({error}); give a record folder") from error
    if not isinstance(content, dict) or not {"config", "seed_results"} <= content.keys():
        raise RecordError(f"{path}: not written by hedge-record; its configuration is missing")
    return content


def config_of(submission: dict[str, Any]) -> RecordConfig:
    """The configuration that a submission.json keeps.

    Raises:
        RecordError: fields are missing or unknown.
    """
    try:
        config: RecordConfig = _restore(RecordConfig, submission["config"])
    except (TypeError, KeyError) as error:
        raise RecordError(
            f"submission.json holds the configuration of another version ({error})"
        ) from error
    return config


def _restore(kind: type, content: dict[str, Any]) -> Any:
    """A configuration dataclass from its JSON: lists become tuples again."""
    hints = get_type_hints(kind)
    members = {}
    for field in fields(kind):
        value = content[field.name]
        hint = hints[field.name]
        if is_dataclass(hint) and isinstance(hint, type):
            value = _restore(hint, value)
        elif get_origin(hint) is tuple:
            value = tuple(value)
        members[field.name] = value
    return kind(**members)
