"""The part of `triton.language` that most kernels use, for a whole grid at once or one program.

Meanings are those of Triton's documentation. Memory is touched through `Memory`: stores are kept
until the kernel has ended, so that a kernel which diverges has changed nothing.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from auditor.dynamic.device.blocks import Block, Diverged, aligned, apply, data_of

Tensor = torch.Tensor


class Memory:
    """Reads at once, and writes at the end."""

    def __init__(self) -> None:
        self._writes: list[Callable[[], Any]] = []
        self._written: set[int] = set()  # storages

    def load(self, pointer: Any, mask: Any = None, other: Any = None, **_: Any) -> Block:
        """What the pointers point to; `other`, or zero, where the mask is off."""
        if getattr(pointer, "memory", None) is None:
            raise Diverged("a load from no pointer")
        self.check_unwritten(pointer.memory)
        where, seen, instead = aligned(pointer, mask, other)
        if seen is None:
            return Block(pointer.memory[where])
        where, seen = _broadcast(where, torch.as_tensor(seen))
        found = pointer.memory[torch.where(seen, where, 0)]
        return Block(torch.where(seen, found, _like(found, 0 if instead is None else instead)))

    def store(self, pointer: Any, value: Any, mask: Any = None, **_: Any) -> None:
        """Writes once the kernel has ended."""
        self._keep(pointer, value, mask, False)

    def atomic_add(self, pointer: Any, value: Any, mask: Any = None, **_: Any) -> None:
        """Adds once the kernel has ended; the value before is not told."""
        self._keep(pointer, value, mask, True)

    def _keep(self, pointer: Any, value: Any, mask: Any, add: bool) -> None:
        if getattr(pointer, "memory", None) is None:
            raise Diverged("a store to no pointer")
        where, new, seen = aligned(pointer, value, True if mask is None else mask)
        parts = _broadcast(
            where, torch.as_tensor(new).to(pointer.memory.dtype), torch.as_tensor(seen)
        )
        where, new = (part[parts[2]] for part in parts[:2])
        self.later(pointer.memory, lambda: pointer.memory.index_put_((where,), new, accumulate=add))

    def check_unwritten(self, memory: Tensor) -> None:
        """Raises `Diverged` where a load would have to see what the kernel has stored."""
        if memory.untyped_storage().data_ptr() in self._written:
            raise Diverged("a load after a store")

    def later(self, memory: Tensor, write: Callable[[], Any]) -> None:
        """Keeps a write to `memory` for the end."""
        self._written.add(memory.untyped_storage().data_ptr())
        self._writes.append(write)

    def commit(self) -> None:
        """Makes the writes, in the order of the kernel."""
        for write in self._writes:
            write()


class Descriptor:
    """A tensor that is read and written in blocks, by the place of their first element; outside of
    it there are zeros, and nothing is written."""

    def __init__(self, base: Tensor, block: tuple[int, ...], memory: Memory) -> None:
        self._base, self._block, self._memory = base, block, memory

    def load(self, offsets: Any) -> Block:
        self._memory.check_unwritten(self._base)
        source, inside = self._places(offsets)
        block = torch.zeros(self._block, dtype=self._base.dtype)
        block[inside] = self._base[source]
        return Block(block[None])

    def store(self, offsets: Any, value: Block) -> None:
        target, inside = self._places(offsets)
        new = value.data[0][inside].to(self._base.dtype)
        self._memory.later(self._base, lambda: self._base[target].copy_(new))

    def _places(self, offsets: Any) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where the block lies in the tensor, and which part of the block that is."""
        starts = [int(offset) for offset in offsets]
        if min(starts) < 0:
            raise Diverged("a block that starts before its tensor")
        ends = [
            max(start, min(start + size, whole))
            for start, size, whole in zip(starts, self._block, self._base.shape, strict=True)
        ]
        spans = list(zip(starts, ends, strict=True))
        return tuple(slice(a, b) for a, b in spans), tuple(slice(0, b - a) for a, b in spans)


_broadcast: Any = torch.broadcast_tensors


def _like(found: Tensor, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(found.dtype)
    return torch.tensor(value, dtype=found.dtype)


def _reduction(function: Callable[..., Tensor], flat: Callable[[Tensor], Tensor]) -> Any:
    def reduced(value: Block, axis: Any = None, keep_dims: bool = False, **_: Any) -> Block:
        data = value.data
        if data.dtype == torch.bool:
            data = data.to(torch.int32)
        if axis is None:
            return Block(flat(data.reshape(data.shape[0], -1)))
        dimension = int(axis) + 1 if int(axis) >= 0 else int(axis)
        return Block(function(data, dim=dimension, keepdim=bool(keep_dims)).to(data.dtype))

    return reduced


def _floating(function: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    return lambda value, **_: apply(lambda x: function(x.float()), value)


def _where(condition: Any, yes: Any, no: Any) -> Any:
    return apply(lambda c, a, b: torch.where(torch.as_tensor(c), a, b), condition, yes, no)


def _either(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def called(a: Any, b: Any, **_: Any) -> Any:
        data = aligned(a, b)
        tensors = [d for d in data if isinstance(d, Tensor)]
        kind = tensors[0].dtype if tensors else torch.float32
        return apply(
            lambda x, y: function(*(torch.as_tensor(v, dtype=_meeting(v, kind)) for v in (x, y))),
            a,
            b,
        )

    return called


def _meeting(value: Any, kind: torch.dtype) -> torch.dtype:
    return value.dtype if isinstance(value, Tensor) else kind


def _dot(a: Block, b: Block, acc: Any = None, **_: Any) -> Block:
    product = a.data.float() @ b.data.float()
    return Block(product if acc is None else product + data_of(acc))


def _integers(*bounds: Any) -> range:
    return range(*(int(data_of(b)) if not isinstance(b, Block) else int(b) for b in bounds))


def _cdiv(a: Any, b: Any) -> Any:
    if isinstance(a, Block) or isinstance(b, Block):
        return (a + b - 1) // b
    return -(-int(data_of(a)) // int(data_of(b)))


def _reshaped(value: Block, *shape: Any) -> Block:
    sizes = shape[0] if isinstance(shape[0], list | tuple) else shape
    return Block(value.data.reshape(value.data.shape[0], *(int(data_of(s)) for s in sizes)))


def _permuted(value: Block, *axes: Any) -> Block:
    order = axes[0] if isinstance(axes[0], list | tuple) else axes
    return Block(value.data.permute(0, *(int(data_of(axis)) + 1 for axis in order)))


def _full(shape: Any, value: Any, dtype: Any) -> Block:
    sizes = [int(data_of(s)) for s in shape]
    return Block(torch.full((1, *sizes), data_of(value), dtype=data_of(dtype)))


_TYPES = {
    "float16": torch.float16, "float32": torch.float32, "float64": torch.float64,
    "bfloat16": torch.bfloat16, "int1": torch.bool, "int8": torch.int8, "int16": torch.int16,
    "int32": torch.int32, "int64": torch.int64, "uint8": torch.uint8,
}  # fmt: skip
_FUNCTIONS: dict[str, Any] = {
    **{
        name: _floating(function)
        for name, function in {
            "exp": torch.exp, "exp2": torch.exp2, "log": torch.log, "log2": torch.log2,
            "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "sin": torch.sin, "cos": torch.cos,
            "sigmoid": torch.sigmoid, "tanh": torch.tanh, "erf": torch.erf, "floor": torch.floor,
            "ceil": torch.ceil, "log1p": torch.log1p,
        }.items()
    },
    "abs": lambda value: apply(torch.abs, value),
    "sum": _reduction(torch.sum, lambda x: x.sum(1)),
    "max": _reduction(torch.amax, lambda x: x.amax(1)),
    "min": _reduction(torch.amin, lambda x: x.amin(1)),
    "argmax": lambda value, axis=0, **_: Block(value.data.argmax(int(axis) + 1).to(torch.int32)),
    "where": _where,
    "maximum": _either(torch.maximum),
    "minimum": _either(torch.minimum),
    "arange": lambda low, high: Block(
        torch.arange(int(data_of(low)), int(data_of(high)), dtype=torch.int32)[None]
    ),
    "zeros": lambda shape, dtype: _full(shape, 0, dtype),
    "full": _full,
    "dot": _dot,
    "cdiv": _cdiv,
    "range": lambda *bounds, **_: _integers(*bounds),
    "static_range": _integers,
    "trans": lambda value: value.T,
    "reshape": lambda value, *shape, **_: _reshaped(value, *shape),
    "view": lambda value, *shape, **_: _reshaped(value, *shape),
    "permute": lambda value, *axes: _permuted(value, *axes),
    "split": lambda value: (Block(value.data[..., 0]), Block(value.data[..., 1])),
    "cast": lambda value, dtype, **_: value.to(dtype),
    "static_assert": lambda *_: None,
    "static_print": lambda *_: None,
    "device_assert": lambda *_: None,
    "multiple_of": lambda value, *_: value,
    "max_contiguous": lambda value, *_: value,
    "assume": lambda *_: None,
    "debug_barrier": lambda: None,
}  # fmt: skip


class Language:
    """Stands for `tl` while a grid runs, or the one program `only` of it. A name that it lacks
    means `Diverged`."""

    def __init__(self, grid: tuple[int, ...], only: int | None = None) -> None:
        self.memory = Memory()
        self._grid = grid
        everything = torch.arange(math.prod(grid), dtype=torch.int32)
        left, places = everything if only is None else everything[only : only + 1], []
        for size in reversed(grid):  # the last axis runs fastest
            places.append(left % size)
            left = left // size
        self._places = places[::-1]

    def program_id(self, axis: Any) -> Block:
        return Block(self._places[int(data_of(axis))])

    def num_programs(self, axis: Any) -> int:
        return self._grid[int(data_of(axis))]

    def __getattr__(self, name: str) -> Any:
        if name in ("load", "store", "atomic_add"):
            return getattr(self.memory, name)
        if name in ("math", "libdevice", "extra", "cuda"):
            return self
        if name in _TYPES:
            return _TYPES[name]
        if name == "constexpr":
            return lambda value: value
        try:
            return _FUNCTIONS[name]
        except KeyError:
            raise Diverged(f"triton.language.{name}") from None
