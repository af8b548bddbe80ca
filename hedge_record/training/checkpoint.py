"""Training checkpoints: written whole or not at all, read without executing anything in them."""

import io
import json
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import torch

from hedge_record.config import RecordConfig
from hedge_record.errors import RecordError
from hedge_record.files import make_folder, write_atomically

CHECKPOINT_NAME = "checkpoint.pt"
CHECKPOINT_FORMAT = 1


class ResumableStream(Protocol):
    """A token stream whose position can be kept and put back."""

    def take(self, count: int) -> np.ndarray:
        """The next `count` tokens."""

    def state(self) -> dict[str, int]:
        """The position."""

    def restore(self, state: dict[str, int]) -> None:
        """Goes back to a position."""


def fingerprint_of(config: RecordConfig, stream: ResumableStream) -> str:
    """Tells runs apart: what is trained, by which settings, on which tokens.

    How often a run reports and saves itself makes no difference to its result and is left out.
    The stream is named by its next batch and stays where it is.
    """
    training = asdict(config.training)
    del training["log_every"], training["checkpoint_every_seconds"]
    position = stream.state()
    tokens = stream.take(config.training.batch_tokens)
    stream.restore(position)
    identity = {
        "seed": config.seed,
        "model": asdict(config.model),
        "training": training,
        "clip_range": config.export.clip_range,
        "scale_floor": config.export.scale_floor,
        "tokens": crc32(tokens.tobytes()),
    }
    return json.dumps(identity, sort_keys=True)


def save_checkpoint(folder: Path, fingerprint: str, state: dict[str, Any]) -> None:
    """Replaces the checkpoint of `folder`.

    Raises:
        RecordError: the folder cannot be written to.
    """
    content = {"format": CHECKPOINT_FORMAT, "fingerprint": fingerprint, "state": state}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(make_folder(folder) / CHECKPOINT_NAME, buffer.getvalue())


def load_checkpoint(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state of the checkpoint in `folder`, on the CPU; None without one of this run.

    Raises:
        RecordError: the file is damaged, or holds more than tensors and plain values.
    """
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != CHECKPOINT_FORMAT or content["fingerprint"] != fingerprint:
            return None
        state: dict[str, Any] = content["state"]
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); "
            "delete it to train from the start"
        ) from error
    return state
