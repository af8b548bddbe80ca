"""Values of a Triton kernel for all programs of a grid at once.

A `Block` holds a tensor [programs, *block shape], or [1, *block shape] where all programs agree.
What a vectorised kernel cannot do, such as branch on a value in which its programs differ, raises
`Diverged`; the kernel is then run program by program.
"""

from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor


class Diverged(Exception):  # noqa: N818 - no error: another way is taken
    """The programs of this grid have to run one after the other."""


class Block:
    """One value of the kernel, in every program. `memory` is set for pointers: the flat tensor
    that `data` holds offsets into."""

    def __init__(self, data: Tensor, memory: Tensor | None = None) -> None:
        self.data = data
        self.memory = memory

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape[1:])

    @property
    def T(self) -> "Block":  # noqa: N802 - Triton's name
        return Block(self.data.mT)

    def to(self, dtype: Any, **_: Any) -> "Block":
        if not isinstance(dtype, torch.dtype):
            raise Diverged("cast to an unknown type")
        return Block(self.data.to(dtype))

    def __getitem__(self, key: Any) -> "Block":
        key = key if isinstance(key, tuple) else (key,)
        return Block(self.data[(slice(None), *key)], self.memory)

    def __neg__(self) -> "Block":
        return Block(-self.data)

    def __invert__(self) -> "Block":
        return Block(~self.data)

    def __bool__(self) -> bool:
        return bool(self.agreed())

    def __index__(self) -> int:
        return int(self.agreed())

    __int__ = __index__

    def agreed(self) -> Any:
        """The number that this is in every program."""
        first = self.data.reshape(-1)[:1]
        if self.shape or not bool((self.data == first).all()):
            raise Diverged("the programs differ")
        return first.item()


def data_of(value: Any) -> Any:
    """A tensor with the programs' dimension for blocks, the number itself for numbers."""
    return value.data if isinstance(value, Block) else getattr(value, "value", value)


def aligned(*values: Any) -> list[Any]:
    """Data of operands, with scalars of each program shaped to meet blocks."""
    data = [data_of(value) for value in values]
    rank = max((d.ndim for d in data if isinstance(d, Tensor)), default=0)
    return [
        d.reshape(d.shape + (1,) * (rank - d.ndim)) if isinstance(d, Tensor) and d.ndim == 1 else d
        for d in data
    ]


def apply(function: Callable[..., Any], *values: Any) -> Any:
    """An element-wise function of blocks and numbers; of numbers alone, a number."""
    data = aligned(*values)
    if not any(isinstance(d, Tensor) for d in data):
        data = [torch.tensor(d) for d in data]
        return function(*data).item()
    return Block(function(*data))


def _operator(name: str, function: Callable[[Any, Any], Any]) -> None:
    def forward(self: Block, other: Any) -> Any:
        if self.memory is not None or getattr(other, "memory", None) is not None:
            return _moved(self, other, name)
        return apply(function, self, other)

    def backward(self: Block, other: Any) -> Any:
        if self.memory is not None:
            return _moved(self, other, name)
        return apply(function, other, self)

    setattr(Block, f"__{name}__", forward)
    setattr(Block, f"__r{name}__", backward)


def _moved(left: Any, right: Any, name: str) -> Block:
    """Pointer arithmetic: offsets count elements."""
    pointer, offset = (left, right) if left.memory is not None else (right, left)
    if name not in ("add", "sub") or getattr(offset, "memory", None) is not None:
        raise Diverged("arithmetic on pointers")
    where, by = aligned(pointer, offset)
    return Block(where + by if name == "add" else where - by, pointer.memory)


def _truncated(function: str) -> Callable[[Any, Any], Any]:
    """Integer division as C has it, rounding toward zero."""

    def divided(a: Any, b: Any) -> Any:
        quotient = torch.div(a, b, rounding_mode="trunc")
        return quotient if function == "floordiv" else a - quotient * b

    return divided


for _name, _function in {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "truediv": lambda a, b: a / b,
    "floordiv": _truncated("floordiv"),
    "mod": _truncated("mod"),
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "lshift": lambda a, b: a << b,
    "rshift": lambda a, b: a >> b,
}.items():
    _operator(_name, _function)
for _name, _function in {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}.items():
    _operator(_name, _function)
