"""Weights that the original script leaves behind, as a state dict of ours.

The files come out of a sandbox that a third-party script wrote in: they are read as tensors and
plain values, never unpickled freely, and only below a limit.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
import zstandard
from torch import Tensor

from hedge_record.errors import RecordError
from hedge_record.files import write_atomically

LARGEST_BYTES = 1_000_000_000


def original_state(path: Path) -> dict[str, Tensor]:
    """The state dict of `final_model.pt`.

    Raises:
        RecordError: missing, or no state dict.
    """
    content = _load(path, _read(path))
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise RecordError(f"{path}: not a state dict")
    return content


def scored_state(path: Path) -> dict[str, Tensor]:
    """The weights that the script scored, from its artifact `final_model.int6.ptz`.

    A quantised tensor lies there as codes under `<name>.q` and scales under `<name>.scale`, one a
    row or one in all; others as they are.

    Raises:
        RecordError: missing, or not such a file.
    """
    try:
        raw = zstandard.ZstdDecompressor().decompress(_read(path), max_output_size=LARGEST_BYTES)
        content = _load(path, raw)
        stored, kinds = content["w"], content["m"]
        state = {}
        for name, kind in kinds.items():
            if isinstance(kind, str):
                state[name] = stored[name]
            else:
                codes, scale = stored[f"{name}.q"].float(), stored[f"{name}.scale"].float()
                state[name] = codes * (scale[:, None] if scale.ndim else scale)
    except (zstandard.ZstdError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise RecordError(f"{path}: not an artifact of the original ({error})") from error
    return state


def write_state(path: Path, state: dict[str, Tensor]) -> None:
    """A file that `torch.load` reads."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: the script left no such file ({error.strerror})") from error


def _load(path: Path, raw: bytes) -> Any:
    try:
        return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise RecordError(f"{path}: holds more than tensors ({type(error).__name__})") from error
