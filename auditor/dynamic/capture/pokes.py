"""Another token in the middle of a run: every copy of the stream that is alive is changed in place.

A poke forks one child a token right after some reduction, or some optimizer's step, changes target
`index` of the validation stream wherever it is held (tensors, arrays, lists, the file itself), lets
the script score on to a later reduction of the same site, and ends there. So a child costs one
window's scoring instead of a whole run.

Whether that found all copies is not taken for granted: one of the tokens is also tried by a run
that read the changed file from the start, and both must give the same loss to the last bit.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.dynamic.capture.record import Site, scored

HEADER = 1024  # bytes before the uint16 tokens of a shard
_CONTEXT = 12  # equal tokens beside a copy's, on one side at least
_MOST = 1 << 24  # tokens of one array
_TOKENS = (torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Poke:
    """One entry of the job's `pokes`. Of the recorded losses the last `counted` are the score's;
    number `value` of these times `scale` is the changed token's own, and `known` for some tokens.
    """

    site: Site
    after: int | None
    step: int | None
    until: int
    stream: str
    index: int
    values: Sequence[int]
    known: Mapping[int, float]
    counted: int
    value: int
    scale: float
    masked: bool

    def contradicts(self, token: int, losses: Sequence[float]) -> bool:
        """Whether `token`'s own loss is known to be another."""
        if token not in self.known:
            return False
        own = scored(losses, self.counted, masked=self.masked)
        return len(own) <= self.value or own[self.value] * self.scale != self.known[token]

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> "Poke":
        """From the job."""
        told = {**entry, "site": Site(*entry["site"]), "known": dict(entry["known"])}
        return cls(**told)


@dataclass(frozen=True)
class Copies:
    """Where one token of the stream is held: (flat array or list, positions)."""

    held: tuple[tuple[Any, tuple[int, ...]], ...]
    path: str
    index: int
    token: int

    def write(self, token: int) -> None:
        """Puts `token` in its place everywhere."""
        for holder, positions in self.held:
            for position in positions:
                holder[position] = token
        with open(os.open(self.path, os.O_WRONLY), "wb") as file:  # noqa: PTH123
            os.pwrite(file.fileno(), int(token).to_bytes(2, "little"), HEADER + 2 * self.index)

    def __str__(self) -> str:
        places = sum(len(positions) for _, positions in self.held)
        return f"{places} copies of token {self.index} in {len(self.held)} places"


def find(path: str, index: int) -> Copies:
    """Every writable copy of token `index` of the shard at `path` that is alive."""
    stream = np.fromfile(path, "<u2", offset=HEADER).astype(np.int64)
    held, seen = [], set()
    for value in _alive():
        for holder, flat, key in _flat(value):
            if key in seen or not 2 * _CONTEXT <= flat.size <= _MOST:
                continue
            seen.add(key)
            positions = _positions(flat, stream, index)
            if positions:
                held.append((holder, positions))
    return Copies(tuple(held), path, index, int(stream[index]))


def _positions(flat: NDArray[Any], stream: NDArray[np.int64], index: int) -> tuple[int, ...]:
    """Where `flat` holds token `index` with the tokens before it, or with those after it."""
    before = stream[max(index - _CONTEXT, 0) : index]
    after = stream[index + 1 : index + 1 + _CONTEXT]
    found = []
    for position in np.flatnonzero(flat == stream[index]):
        left = flat[max(position - len(before), 0) : position]
        right = flat[position + 1 : position + 1 + len(after)]
        if (len(before) and np.array_equal(left, before)) or (
            len(after) and np.array_equal(right, after)
        ):
            found.append(int(position))
    return tuple(found)


def _alive() -> Iterator[Any]:
    """Whatever can hold tokens: what the collector follows, what that refers to, local variables.

    `gc.freeze` at the start keeps the libraries' own objects out of this.
    """
    objects = gc.get_objects()
    yield from objects
    for holder in objects:
        for value in gc.get_referents(holder):
            if isinstance(value, np.ndarray):
                yield value
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield from list(frame.f_locals.values())
        frame = frame.f_back


def _flat(value: Any) -> Iterator[tuple[Any, NDArray[Any], object]]:
    """A holder's tokens as a flat array that shares memory (a copy of a list), and its key."""
    kind = type(value)
    if issubclass(kind, torch.Tensor):
        if value.dtype in _TOKENS and value.layout == torch.strided and value.numel():
            storage = value.untyped_storage()
            # The whole storage, of which the tensor may be a part.
            memory = (ctypes.c_ubyte * storage.nbytes()).from_address(storage.data_ptr())
            array = np.frombuffer(memory, str(value.dtype).removeprefix("torch."))
            yield array, array, storage.data_ptr()
    elif issubclass(kind, np.ndarray):
        if value.dtype.kind in "iu" and value.flags.c_contiguous and value.flags.writeable:
            array = value.reshape(-1).view(np.ndarray)
            yield array, array, (array.__array_interface__["data"][0], array.size)
    elif kind is list and len(value) >= 2 * _CONTEXT and type(value[0]) is int:
        try:
            yield value, np.array(value, dtype=np.int64), id(value)
        except (TypeError, ValueError, OverflowError):
            return
