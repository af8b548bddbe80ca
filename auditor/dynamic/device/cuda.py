"""The API of `torch.cuda`, of an H100 that has nothing to wait for."""

import collections
import contextlib
import time
import types
from typing import Any, Self

import torch
import torch.nn.attention

from auditor.dynamic.device.patching import always, nothing, replace
from auditor.dynamic.device.tensors import CUDA

_MEMORY = 85_017_493_504  # bytes, as an H100 80GB HBM3 tells
PROPERTIES = types.SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    total_memory=_MEMORY,
    multi_processor_count=132,
    warp_size=32,
    max_threads_per_multi_processor=2048,
    shared_memory_per_block=49_152,
    shared_memory_per_block_optin=232_448,
    shared_memory_per_multiprocessor=233_472,
    regs_per_multiprocessor=65_536,
    L2_cache_size=52_428_800,
    is_integrated=False,
    gcnArchName="",
    uuid="GPU-0",
)


class Event:
    """Records the counter's time."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._time = 0.0

    def record(self, *_: Any) -> None:
        self._time = time.perf_counter()

    def elapsed_time(self, end: "Event") -> float:
        """Milliseconds from this event to `end`."""
        return 1000 * (end._time - self._time)

    def query(self) -> bool:
        return True

    def wait(self, *_: Any) -> None: ...

    def synchronize(self) -> None: ...


class Stream(contextlib.AbstractContextManager["Stream"]):
    """Everything on it has been done already."""

    device = CUDA
    cuda_stream = stream_id = 0

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record()
        return event

    def query(self) -> bool:
        return True

    def wait_stream(self, *_: Any) -> None: ...

    def wait_event(self, *_: Any) -> None: ...

    def synchronize(self) -> None: ...


class Graph:
    """A CUDA graph cannot be replayed here: capturing runs the code, replaying says so."""

    def replay(self) -> None:
        raise RuntimeError("the virtual device does not replay CUDA graphs")

    def pool(self) -> None: ...

    def reset(self) -> None: ...


class _Switches:
    """`torch.backends.*` flags: any may be set and read, none has an effect."""

    def __init__(self) -> None:
        self.__dict__["_set"] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        self._set[name] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._set.get(name, True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def _context(*_: Any, **__: Any) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def install(world_size: int) -> None:
    """Patches `torch.cuda`, its backends and the attention backends."""
    _install_device(world_size)
    _install_memory()
    stream = Stream()
    replace(
        torch.cuda,
        Stream=Stream,
        ExternalStream=Stream,
        Event=Event,
        CUDAGraph=Graph,
        current_stream=always(stream),
        default_stream=always(stream),
        set_stream=nothing,
        stream=_context,
        device=_context,
        device_of=_context,
        graph=_context,
        graph_pool_handle=always(None),
        make_graphed_callables=lambda callables, *_, **__: callables,
        is_current_stream_capturing=always(False),
        synchronize=nothing,
    )
    replace(torch, Event=Event, Stream=Stream)
    replace(torch.version, cuda="12.8")
    _install_backends()


def _install_device(world_size: int) -> None:
    current = [0]

    def set_device(device: Any) -> None:
        current[0] = device if isinstance(device, int) else torch.device(device).index or 0

    replace(
        torch.cuda,
        is_available=always(True),
        is_initialized=always(True),
        init=nothing,
        _lazy_init=nothing,
        device_count=always(world_size),
        set_device=set_device,
        current_device=lambda: current[0],
        get_device_name=always(PROPERTIES.name),
        get_device_properties=always(PROPERTIES),
        get_device_capability=always((PROPERTIES.major, PROPERTIES.minor)),
        get_arch_list=always(["sm_90"]),
        is_bf16_supported=always(True),
        manual_seed=nothing,  # `torch.manual_seed` seeds the one generator there is
        manual_seed_all=nothing,
        seed=nothing,
        seed_all=nothing,
        initial_seed=torch.initial_seed,
        get_rng_state=lambda *_, **__: torch.get_rng_state(),
        set_rng_state=lambda state, *_, **__: torch.set_rng_state(state),
        get_rng_state_all=lambda: [torch.get_rng_state()],
        set_rng_state_all=lambda states: torch.set_rng_state(states[0]),
        utilization=always(0),
        can_device_access_peer=always(True),
    )
    for name, kind in (("FloatTensor", torch.float32), ("LongTensor", torch.int64)):
        replace(torch.cuda, **{name: _legacy(kind)})


def _legacy(kind: torch.dtype) -> Any:
    return lambda data=(), *_: torch.tensor(data, dtype=kind)


def _install_memory() -> None:
    for name in ("memory_allocated", "memory_reserved", "memory_cached"):
        replace(torch.cuda, **{name: always(0), f"max_{name}": always(0)})
    replace(
        torch.cuda,
        empty_cache=nothing,
        ipc_collect=nothing,
        reset_peak_memory_stats=nothing,
        reset_max_memory_allocated=nothing,
        reset_max_memory_cached=nothing,
        reset_accumulated_memory_stats=nothing,
        set_per_process_memory_fraction=nothing,
        memory_stats=lambda *_, **__: collections.defaultdict(int),
        memory_summary=always(""),
        mem_get_info=always((_MEMORY, _MEMORY)),
    )


def _install_backends() -> None:
    """Attention backends stay as they are: switching off "math" would switch off the CPU's."""
    backends = torch.backends.cuda
    for name in ("cudnn", "flash", "math", "mem_efficient"):
        replace(backends, **{f"enable_{name}_sdp": nothing, f"{name}_sdp_enabled": always(True)})
    replace(
        backends,
        sdp_kernel=_context,
        matmul=_Switches(),
        is_built=always(True),
        preferred_linalg_library=nothing,
        preferred_blas_library=nothing,
        allow_fp16_bf16_reduction_math_sdp=nothing,
    )
    replace(torch.backends, cudnn=_Switches())
    replace(torch.nn.attention, sdpa_kernel=_context)
