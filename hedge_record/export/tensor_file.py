"""The safetensors format, which is short enough to do without its package in the one-file script.

    8 bytes   length of the header, little-endian
    header    JSON: name -> {"dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end]}
    data      the tensors one after another, little-endian, without gaps

Written tensors lie in the order of their dtype's width, then of their name, as the package has it.
Reading trusts nothing: https://github.com/huggingface/safetensors names what a file must hold.
"""

import json
import math
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor

TENSOR_DTYPES = {"F32": torch.float32, "F16": torch.float16, "I8": torch.int8}
DTYPE_NAMES = {dtype: name for name, dtype in TENSOR_DTYPES.items()}
LENGTH_BYTES = 8
ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}


class TensorEntry(NamedTuple):
    """A tensor as it lies in a file."""

    dtype: str
    shape: list[int]
    data: bytes


def pack_tensors(tensors: dict[str, Tensor]) -> bytes:
    """The file; the same tensors give the same bytes."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {}
    parts = []
    end = 0
    for name in names:
        tensor = tensors[name].contiguous()
        part = tensor.numpy().tobytes()
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(part)],
        }
        parts.append(part)
        end += len(part)
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % LENGTH_BYTES)
    return b"".join([len(text).to_bytes(LENGTH_BYTES, "little"), text, *parts])


def unpack_tensors(raw: bytes) -> dict[str, TensorEntry]:
    """Every tensor of a file by its name.

    Raises:
        ValueError: this is no such file; the text says in half a sentence what is wrong.
    """
    length = int.from_bytes(raw[:LENGTH_BYTES], "little")
    begin = LENGTH_BYTES + length
    if len(raw) < LENGTH_BYTES or begin > len(raw):
        raise ValueError("it is longer than the file")
    try:
        header = json.loads(raw[LENGTH_BYTES:begin].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise ValueError("it is no JSON object")
    header.pop("__metadata__", None)
    found = {}
    reached = 0
    for name, place in sorted(header.items(), key=lambda item: _first_byte(item[1])):
        entry, end = _entry(name, place, raw, begin)
        if place["data_offsets"][0] != reached:
            raise ValueError(f"{name!r} does not begin where the tensor before it ends")
        found[name], reached = entry, end
    if begin + reached != len(raw):
        raise ValueError("bytes follow the last tensor")
    return found


def tensor_of(entry: TensorEntry) -> Tensor:
    """The tensor of an entry whose dtype is one of `TENSOR_DTYPES`."""
    dtype = TENSOR_DTYPES[entry.dtype]
    flat = torch.frombuffer(bytearray(entry.data), dtype=dtype) if entry.data else torch.empty(0)
    return flat.to(dtype).view(entry.shape)


def _first_byte(place: object) -> int:
    try:
        begin = place["data_offsets"][0]  # type: ignore[index]
    except (TypeError, KeyError, IndexError):
        begin = None
    if type(begin) is not int:
        raise ValueError("a tensor lacks its offsets")
    return begin


def _entry(name: str, place: dict[str, object], raw: bytes, begin: int) -> tuple[TensorEntry, int]:
    dtype, shape, offsets = (place.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"{name!r} is of an unknown dtype")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} lacks its shape or its offsets")
    first, end = offsets
    if not first <= end <= len(raw) - begin or end - first != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"{name!r} has other bytes than its shape asks for")
    return TensorEntry(dtype, shape, raw[begin + first : begin + end]), end


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)
