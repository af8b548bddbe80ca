"""Device mapping: every CPU tensor says that it lies on `cuda:0`, and CUDA devices mean the CPU.

Done on classes and factories, not by a function mode: a mode is not in force inside custom
operators, autograd functions and other threads, and that is where a script asks "is this CUDA?".
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.utils._device

from auditor.dynamic.device.patching import always, replace, used

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)

_FACTORIES = (
    "arange asarray as_tensor bartlett_window blackman_window empty empty_like empty_permuted "
    "empty_strided eye from_file full full_like hamming_window hann_window kaiser_window linspace "
    "logspace normal ones ones_like rand rand_like randint randint_like randn randn_like randperm "
    "range scalar_tensor sparse_coo_tensor sparse_csr_tensor tensor tril_indices triu_indices "
    "zeros zeros_like"
).split()
_METHODS = "new_empty new_empty_strided new_full new_ones new_tensor new_zeros".split()

_real_device = torch.Tensor.device
_real_to = torch.Tensor.to
_real_load = torch.load
_RealGenerator = torch.Generator


def on_cpu(value: Any) -> Any:
    """`value`, or the CPU where it names a CUDA device."""
    if isinstance(value, str) and value.startswith("cuda"):
        used["device argument"] += 1
        return CPU
    if isinstance(value, torch.device) and value.type == "cuda":
        used["device argument"] += 1
        return CPU
    return value


def _is_ordinal(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_host(value: Any) -> bool:
    return value == "cpu" or (isinstance(value, torch.device) and value.type == "cpu")


def _device(self: torch.Tensor) -> torch.device:
    real: torch.device = _real_device.__get__(self)
    return CUDA if real.type == "cpu" else real


def _to(self: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
    to_host = any(map(_is_host, (*arguments, named.get("device"))))
    arguments = tuple(map(on_cpu, arguments))
    if arguments and _is_ordinal(arguments[0]):
        arguments = (CPU, *arguments[1:])
    if "device" in named:
        named["device"] = CPU if _is_ordinal(named["device"]) else on_cpu(named["device"])
    moved = _real_to(self, *arguments, **named)
    return moved.clone() if moved is self and to_host else moved


def _factory(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def made(*arguments: Any, **named: Any) -> Any:
        if named.get("device") is not None:
            device = named["device"]
            named["device"] = CPU if _is_ordinal(device) else on_cpu(device)
        if named.get("pin_memory"):
            named["pin_memory"] = False
        return make(*arguments, **named)

    return made


class Generator(_RealGenerator):
    """A CPU generator, whatever device it was made for."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made: Generator = _RealGenerator.__new__(cls, on_cpu(device))  # type: ignore[call-arg]
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA


def _load(file: Any, map_location: Any = None, *arguments: Any, **named: Any) -> Any:
    """Reads to the CPU; a mapping function or dictionary of the script's own would be asked for
    the places of storages, which are the CPU's here."""
    return _real_load(file, CPU if map_location is not None else None, *arguments, **named)


def _stay(self: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return self


def _cpu(self: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """A copy, as from another device: what is kept this way must not change with the original."""
    return self.clone()


def install() -> None:
    """Patches tensors, factories, generators and loading."""
    replace(
        torch.Tensor,
        device=property(_device),
        is_cuda=property(always(True)),
        to=_to,
        cuda=_stay,
        cpu=_cpu,
        pin_memory=_stay,
        is_pinned=always(True),
        record_stream=always(None),
        get_device=always(0),
    )
    for name in _FACTORIES:
        if hasattr(torch, name):
            replace(torch, **{name: _factory(getattr(torch, name))})
    for name in _METHODS:
        replace(torch.Tensor, **{name: _factory(getattr(torch.Tensor, name))})
    for name in ("fftfreq", "rfftfreq"):
        replace(torch.fft, **{name: _factory(getattr(torch.fft, name))})
    replace(torch, Generator=Generator, load=_load, get_default_device=always(CUDA))
    real_default, context = torch.set_default_device, torch.utils._device.DeviceContext
    replace(torch, set_default_device=lambda device: real_default(on_cpu(device)))
    real_context = context.__init__
    replace(context, __init__=lambda self, device: real_context(self, on_cpu(device)))
