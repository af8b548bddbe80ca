"""Lets code written for CUDA define and run its scorer on a CPU.

Device arguments that name CUDA are read as the CPU, `torch.compile` changes nothing, and the calls
that only manage a GPU do nothing.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class CpuInstead(TorchFunctionMode):
    """Rewrites CUDA device arguments of every torch call made under it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.device:  # a description, not a placement
            return func(*args, **(kwargs or {}))
        if func in (torch.Tensor.cuda, torch.Tensor.pin_memory):
            return args[0]
        named = {name: _on_cpu(value) for name, value in (kwargs or {}).items()}
        if named.get("pin_memory"):
            named["pin_memory"] = False
        return func(*map(_on_cpu, args), **named)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, str | torch.device) and str(value).startswith("cuda"):
        return torch.device("cpu")
    return value


def stand_in() -> None:
    """Replaces what needs a GPU or a compiler, for this whole process."""
    torch.set_num_threads(1)
    _replace(torch, "compile", _uncompiled)
    _replace(torch.nn.Module, "cuda", lambda module, *_, **__: module)
    for name in ("synchronize", "set_device", "empty_cache", "manual_seed", "manual_seed_all"):
        _replace(torch.cuda, name, lambda *_, **__: None)


def _replace(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


def _uncompiled(function: Any = None, *_: Any, **__: Any) -> Any:
    return function if function is not None else lambda inner: inner
