"""Training checkpoints: written whole or not at all, read without executing anything in them.

The file is the CRC-32 of what follows (4 bytes, little-endian), then a torch file of tensors and
plain values. torch itself would take most damaged tensors for good ones.
"""

import io
import json
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
    write_atomically(make_folder(folder) / CHECKPOINT_NAME, with_checksum(buffer.getvalue()))


def with_checksum(payload: bytes) -> bytes:
    """The bytes of a checkpoint file."""
    return crc32(payload).to_bytes(4, "little") + payload


def load_checkpoint(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state of the checkpoint in `folder`, on the CPU; None without one of this run.

    Raises:
        RecordError: the file is damaged, or holds more than tensors and plain values.
    """
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        return None
    content = read_checkpoint(path)
    if (content.get("format"), content.get("fingerprint")) != (CHECKPOINT_FORMAT, fingerprint):
        return None
    state: dict[str, Any] = content["state"]
    return state


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Everything in a checkpoint file; raises `RecordError` for any other file."""
    mend = "delete it to train from the start"
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); {mend}") from error
    if raw[:4] != crc32(raw[4:]).to_bytes(4, "little"):
        raise RecordError(f"{path}: damaged, its checksum does not match; {mend}")
    try:
        content = torch.load(io.BytesIO(raw[4:]), map_location="cpu", weights_only=True)
    except Exception as error:  # Of a forged file torch raises whatever its bytes lead to.
        raise RecordError(f"{path}: not a checkpoint ({type(error).__name__}); {mend}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: not a checkpoint (a {type(content).__name__}); {mend}")
    return content
