"""Compilers change nothing: `torch.compile` is the identity, and its packages are not imported.

`torch._dynamo` and `torch._inductor` take two seconds to import and are asked for settings only.
Inference mode becomes no-grad mode: a tensor cached under it would be refused by the training that
follows in the same process, where the compiled script on a GPU recomputes it.
"""

import collections
import contextlib
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.compiler
import torch.library

from auditor.dynamic.device.patching import always, module, nothing, replace, used


def unchanged(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator, with or without arguments, that does nothing."""
    return function if function is not None else lambda inner: inner


def _compile(model: Any = None, *_: Any, **__: Any) -> Any:
    used["torch.compile"] += 1
    return unchanged(model)


class _Settings(types.ModuleType):
    """A configuration: every setting may be read and written."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        nested = _Settings(f"{self.__name__}.{name}")
        setattr(self, name, nested)
        return nested

    def patch(self, *_: Any, **__: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


_LIMITS = {
    "cache_size_limit": 8,
    "recompile_limit": 8,
    "accumulated_cache_size_limit": 256,
    "accumulated_recompile_limit": 256,
}
_MANAGEMENT = ("mark_dynamic", "maybe_mark_dynamic", "mark_static", "mark_static_address")
_DECORATORS = ("disable", "allow_in_graph", "assume_constant_result", "disallow_in_graph", "run")


def _stand_in(name: str) -> None:
    package = module(
        name,
        reset=nothing,
        reset_code_caches=nothing,
        graph_break=nothing,
        is_compiling=always(False),
        optimize=always(unchanged),
        list_backends=always(["inductor"]),
        **dict.fromkeys(_MANAGEMENT, nothing),
        **dict.fromkeys(_DECORATORS, unchanged),
    )
    module(f"{name}.utils", counters=collections.defaultdict(collections.Counter))
    config = _Settings(f"{name}.config")
    config.__dict__.update(_LIMITS)
    sys.modules[f"{name}.config"] = config
    replace(package, config=config)


class InferenceMode(contextlib.ContextDecorator):
    """`torch.inference_mode` as no-grad mode: a context, a decorator with or without arguments."""

    def __new__(cls, mode: Any = True) -> Any:
        used["inference mode"] += 1
        return torch.no_grad()(mode) if callable(mode) else super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        self._mode = mode
        self._entered: list[Any] = []

    def __enter__(self) -> None:
        context = torch.no_grad() if self._mode else contextlib.nullcontext()
        context.__enter__()
        self._entered.append(context)

    def __exit__(self, *error: Any) -> None:
        self._entered.pop().__exit__(*error)


_real_custom_op = torch.library.custom_op


def _custom_op(name: str, function: Any = None, /, **named: Any) -> Any:
    """A custom operator for CUDA, on the device there is."""
    if function is None:
        return lambda inner: _custom_op(name, inner, **named)
    named.pop("device_types", None)
    return _real_custom_op(name, function, **named)


def _register(real: Callable[..., Any]) -> Callable[..., Any]:
    """`register_kernel` and `impl` name a device; CUDA's kernel is the CPU's here."""

    def registered(operator: Any, types_: Any, *arguments: Any, **named: Any) -> Any:
        kinds = [types_] if isinstance(types_, str) or types_ is None else types_
        mapped = ["cpu" if str(kind).lower() == "cuda" else kind for kind in kinds]
        return real(operator, mapped[0] if len(mapped) == 1 else mapped, *arguments, **named)

    return registered


def install() -> None:
    """Patches `torch.compile`, the compiler's packages, inference mode and custom operators."""
    for name in ("torch._dynamo", "torch._inductor"):
        _stand_in(name)
    replace(torch, compile=_compile, inference_mode=InferenceMode)
    replace(torch.nn.Module, compile=nothing)
    replace(
        torch.compiler,
        cudagraph_mark_step_begin=nothing,
        reset=nothing,
        set_stance=lambda *_, **__: contextlib.nullcontext(),
        **dict.fromkeys(_DECORATORS[:3], unchanged),
    )
    replace(
        torch.library,
        custom_op=_custom_op,
        triton_op=_custom_op,
        wrap_triton=unchanged,
        register_kernel=_register(torch.library.register_kernel),
    )
