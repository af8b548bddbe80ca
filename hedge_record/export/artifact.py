"""The artifact: everything that crosses from training to evaluation, in one file without pickle.

Format: one zstd frame (level 22, with its content size and checksum) around a safetensors file.
A tensor of the model is stored as itself (float16, float32) or, quantised, as `<name>.int5` (or
another width up to `.int8`; codes, int8) and `<name>.scales` (float16, one per row).

Codes are not packed, and the format is no own one, because neither is smaller. Measured on the
1,689,600 int5 codes of one `embedded` model: 944,090 bytes as int8 under zstd, 1,056,004
packed to five bits (zstd finds nothing left to gain there), 972,234 under LZMA; their order-0
entropy, which no entropy coder without a model of the weights goes below, is 937,900, 0.7% less.

Reading trusts nothing: the file's size, the declared content size, the checksum, every name,
dtype, shape and value are checked against the model before a tensor is handed out.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import zstandard
from torch import Tensor

from hedge_record.config import ARTIFACT_LIMIT_BYTES
from hedge_record.errors import RecordError
from hedge_record.export.gptq import RowQuantized
from hedge_record.export.quantize import StoredMatrix, StoredTensor, dequantize_model
from hedge_record.export.tensor_file import (
    TensorEntry,
    pack_tensors,
    tensor_of,
    unpack_tensors,
)
from hedge_record.files import write_atomically
from hedge_record.model.gpt import GPT

# Room for the safetensors header: names, dtypes, shapes and offsets of the longest model.
HEADER_ALLOWANCE_BYTES = 1_000_000
CODES_SUFFIX = re.compile(r"(?P<name>.+)\.int(?P<bits>[2-8])")


@dataclass(frozen=True)
class ArtifactReport:
    """What was written: `model_bytes` on disk, `raw_bytes` before compression."""

    model_bytes: int
    raw_bytes: int


def check_size(code_bytes: int, model_bytes: int) -> None:
    """Raises `RecordError` if code and model together exceed the challenge's 16,000,000 bytes."""
    total = code_bytes + model_bytes
    if total > ARTIFACT_LIMIT_BYTES:
        raise RecordError(
            f"the artifact is {total - ARTIFACT_LIMIT_BYTES:,} bytes too large: {code_bytes:,} of "
            f"code + {model_bytes:,} of model = {total:,} of {ARTIFACT_LIMIT_BYTES:,}; "
            "make the model smaller, or prune more"
        )


def write_artifact(path: Path, stored: dict[str, StoredTensor], level: int = 22) -> ArtifactReport:
    """Writes what `quantize_model` made, whole or not at all; the same input gives the same bytes.

    Raises:
        RecordError: the file cannot be written.
    """
    tensors = {}
    for name, value in stored.items():
        if isinstance(value, StoredMatrix):
            tensors[f"{name}.int{value.bits}"] = value.quantized.codes.contiguous()
            tensors[f"{name}.scales"] = value.quantized.scales.contiguous()
        else:
            tensors[name] = value.contiguous()
    raw = pack_tensors(tensors)
    packed = zstandard.ZstdCompressor(level=level, write_checksum=True).compress(raw)
    write_atomically(path, packed)
    return ArtifactReport(model_bytes=len(packed), raw_bytes=len(raw))


def read_artifact(path: Path, model: GPT) -> dict[str, Tensor]:
    """The float32 state dict of an artifact, every tensor of `model` and no other.

    Raises:
        RecordError: the file is missing, damaged, hostile, or of another model.
    """
    try:
        return dequantize_model(_parse(_decompress(path, _raw_limit(model)), model))
    except OSError as error:
        raise RecordError(f"{path}: the artifact cannot be read ({error.strerror})") from error
    except _UnfitError as problem:
        raise RecordError(
            f"{path}: no artifact of this model ({problem}); export again with this configuration"
        ) from problem


class _UnfitError(Exception):
    """What is wrong with an artifact, in half a sentence."""


def _raw_limit(model: GPT) -> int:
    """The most bytes that an artifact of `model` can decompress to."""
    elements: int = sum(tensor.numel() for tensor in model.state_dict().values())
    return 4 * elements + HEADER_ALLOWANCE_BYTES


def _decompress(path: Path, limit: int) -> bytes:
    """The frame's content; nothing beyond `limit` bytes is ever read or allocated."""
    if path.stat().st_size > limit:
        raise _UnfitError(f"{path.stat().st_size:,} bytes, at most {limit:,} fit this model")
    packed = path.read_bytes()
    try:
        size: int = zstandard.frame_content_size(packed)
        if not 0 <= size <= limit:
            declared = "no size" if size < 0 else f"{size:,} bytes"
            raise _UnfitError(
                f"its frame declares {declared}, at most {limit:,} bytes fit this model"
            )
        # The frame must then hold just as many bytes as it declares: the library sees to it.
        return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _UnfitError(f"its zstd frame is damaged: {error}") from error


def _parse(raw: bytes, model: GPT) -> dict[str, StoredTensor]:
    """The stored tensors of a safetensors file, checked one by one against `model`."""
    try:
        found = unpack_tensors(raw)
    except ValueError as error:
        raise _UnfitError(f"its safetensors header is damaged: {error}") from error
    codes = {match["name"]: match for match in map(CODES_SUFFIX.fullmatch, found) if match}
    stored: dict[str, StoredTensor] = {}
    for name, tensor in model.state_dict().items():
        shape = list(tensor.shape)
        if name in codes:
            bits = int(codes[name]["bits"])
            quantized = RowQuantized(
                _take(found, f"{name}.int{bits}", ("I8",), shape),
                _take(found, f"{name}.scales", ("F16",), shape[:1]),
            )
            _check_matrix(name, quantized, bits)
            stored[name] = StoredMatrix(quantized, bits)
        else:
            value = _take(found, name, ("F16", "F32"), shape)
            if not value.isfinite().all():
                raise _UnfitError(f"{name} holds a number that is not finite")
            stored[name] = value
    if found:
        raise _UnfitError(f"it holds {min(found)!r}, which the model has not")
    return stored


def _take(
    found: dict[str, TensorEntry], name: str, dtypes: tuple[str, ...], shape: list[int]
) -> Tensor:
    """Removes a tensor from `found`; its dtype and shape must be as expected."""
    entry = found.pop(name, None)
    if entry is None:
        raise _UnfitError(f"{name} is missing")
    if entry.dtype not in dtypes or entry.shape != shape:
        needed = f"{' or '.join(dtypes)} {shape}"
        raise _UnfitError(f"{name} is {entry.dtype} {entry.shape}, the model needs {needed}")
    return tensor_of(entry)


def _check_matrix(name: str, quantized: RowQuantized, bits: int) -> None:
    if quantized.codes.ndim != 2:
        raise _UnfitError(f"{name} is no matrix, yet quantised")
    largest = 2 ** (bits - 1) - 1
    if quantized.codes.int().abs().max() > largest:
        raise _UnfitError(f"{name} holds a code outside -{largest}..{largest}")
    if not (quantized.scales.isfinite() & (quantized.scales > 0)).all():
        raise _UnfitError(f"{name} holds a row scale that is not finite and positive")
