"""Autocast for CUDA becomes autocast for the CPU, in the same type."""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.amp
import torch.amp.autocast_mode
import torch.cuda.amp

from auditor.dynamic.device.patching import nothing, replace, used

_RealAutocast = torch.amp.autocast_mode.autocast
_real_custom_fwd = torch.amp.custom_fwd
_real_custom_bwd = torch.amp.custom_bwd


class Autocast(_RealAutocast):
    """`torch.autocast` on the one device there is. The weight cache is off: it outlives a test-time
    training step whose weights change between two forwards of one context."""

    def __init__(
        self,
        device_type: Any = "cuda",  # noqa: ARG002
        dtype: torch.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,  # noqa: ARG002 - the signature is torch's
    ) -> None:
        used["autocast"] += 1
        super().__init__("cpu", dtype or torch.bfloat16, enabled, False)


class CudaAutocast(Autocast):
    """`torch.cuda.amp.autocast`, whose first parameter is another one."""

    def __init__(
        self,
        enabled: bool = True,
        dtype: torch.dtype = torch.float16,
        cache_enabled: bool = True,  # noqa: ARG002
    ) -> None:
        super().__init__("cuda", dtype, enabled)


class Scaler:
    """A gradient scaler that is off: bfloat16 needs none, and the CPU has the range."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def scale(self, outputs: Any) -> Any:
        return outputs

    def step(self, optimizer: Any, *arguments: Any, **named: Any) -> Any:
        return optimizer.step(*arguments, **named)

    def get_scale(self) -> float:
        return 1.0

    def is_enabled(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {}

    update = unscale_ = load_state_dict = nothing


def _for_cpu(decorator: Callable[..., Any]) -> Callable[..., Any]:
    def decorated(function: Any = None, *, device_type: str = "cuda", **named: Any) -> Any:
        del device_type
        if function is None:
            return functools.partial(decorator, device_type="cpu", **named)
        return decorator(function, device_type="cpu", **named)

    return decorated


def install() -> None:
    """Patches every name by which autocast is known."""
    replace(torch, autocast=Autocast)
    replace(torch.amp, autocast=Autocast)
    replace(torch.amp.autocast_mode, autocast=Autocast)
    fwd, bwd = _for_cpu(_real_custom_fwd), _for_cpu(_real_custom_bwd)
    for owner in (torch.amp, torch.cuda.amp):
        replace(owner, custom_fwd=fwd, custom_bwd=bwd, GradScaler=Scaler)
    replace(torch.cuda.amp, autocast=CudaAutocast)
    real_enabled, real_dtype = torch.is_autocast_enabled, torch.get_autocast_dtype
    replace(
        torch,
        is_autocast_enabled=lambda *_: real_enabled("cpu"),
        get_autocast_dtype=lambda *_: real_dtype("cpu"),
        get_autocast_gpu_dtype=lambda: real_dtype("cpu"),
        set_float32_matmul_precision=nothing,
    )
