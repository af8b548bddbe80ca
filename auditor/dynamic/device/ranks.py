"""`torch.distributed` without a network: one rank, or several processes joined by local sockets.

Every collective is one exchange: each rank sends its bytes to rank 0, which sends the list of all
back. Reductions add in the order of the ranks, so that a run repeats bit for bit.
"""

import contextlib
import functools
import io
import pickle
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.parallel

from auditor.dynamic.device.patching import always, nothing, replace, used

Tensor = torch.Tensor


class World:
    """The ranks and the way between them. `peers[r]` is rank 0's socket to rank r; the others hold
    one socket, to rank 0."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self.peers: list[socket.socket] = []
        self.initialized = False

    def exchange(self, payload: bytes) -> list[bytes]:
        """What every rank sent, by rank. All ranks must call it."""
        if self.size == 1:
            return [payload]
        if self.rank:
            _send(self.peers[0], payload)
            return [_receive(self.peers[0]) for _ in range(self.size)]
        everything = [payload, *map(_receive, self.peers)]
        for peer in self.peers:
            for part in everything:
                _send(peer, part)
        return everything

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor."""
        if self.size == 1:
            return [tensor.detach().clone()]
        buffer = io.BytesIO()
        torch.save(tensor.detach().contiguous(), buffer)
        return [torch.load(io.BytesIO(part)) for part in self.exchange(buffer.getvalue())]

    def gather_objects(self, value: Any) -> list[Any]:
        """Every rank's object; the ranks are copies of one process, so they may unpickle."""
        if self.size == 1:
            return [value]
        return [pickle.loads(part) for part in self.exchange(pickle.dumps(value))]


def _send(peer: socket.socket, payload: bytes) -> None:
    peer.sendall(struct.pack("<Q", len(payload)) + payload)


def _receive(peer: socket.socket) -> bytes:
    (size,) = struct.unpack("<Q", _exactly(peer, 8))
    return _exactly(peer, size)


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = peer.recv(min(count - len(data), 1 << 20))
        if not part:
            raise ConnectionError("another rank has ended")
        data += part
    return bytes(data)


world = World()


class Done:
    """The handle of a collective that is complete already."""

    def __init__(self, value: Any = None) -> None:
        self._value = value

    def wait(self, *_: Any, **__: Any) -> bool:
        return True

    def is_completed(self) -> bool:
        return True

    def is_success(self) -> bool:
        return True

    def result(self) -> Any:
        return self._value

    def get_future(self) -> Any:
        future: torch.futures.Future[Any] = torch.futures.Future()
        future.set_result(self._value)
        return future


def _collective(function: Callable[..., Any]) -> Callable[..., Any]:
    """Runs without gradient, and hands back what the asynchronous form does, if asked."""

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        used["collective"] += 1
        later = named.pop("async_op", False)
        with torch.no_grad():
            function(*arguments, **named)
        return Done() if later else None

    return called


def _reduced(parts: Sequence[Tensor], op: Any) -> Tensor:
    operations = {
        str(dist.ReduceOp.MAX): torch.maximum,
        str(dist.ReduceOp.MIN): torch.minimum,
        str(dist.ReduceOp.PRODUCT): torch.mul,
    }
    combine = operations.get(str(op), torch.add)
    total = functools.reduce(combine, parts)
    return total / len(parts) if str(op) == str(dist.ReduceOp.AVG) else total


@_collective
def all_reduce(tensor: Tensor, op: Any = dist.ReduceOp.SUM, group: Any = None) -> None:
    del group
    tensor.copy_(_reduced(world.gather(tensor), op))


@_collective
def reduce(
    tensor: Tensor, dst: int = 0, op: Any = dist.ReduceOp.SUM, group: Any = None, group_dst: Any = 0
) -> None:
    del group, group_dst
    total = _reduced(world.gather(tensor), op)
    if world.rank == dst:
        tensor.copy_(total)


@_collective
def broadcast(tensor: Tensor, src: int = 0, group: Any = None, group_src: Any = None) -> None:
    del group
    tensor.copy_(world.gather(tensor)[group_src if group_src is not None else src or 0])


@_collective
def all_gather(outputs: list[Tensor], tensor: Tensor, group: Any = None) -> None:
    del group
    for output, part in zip(outputs, world.gather(tensor), strict=True):
        output.copy_(part)


@_collective
def all_gather_into_tensor(output: Tensor, tensor: Tensor, group: Any = None) -> None:
    del group
    output.copy_(torch.cat([part.reshape(-1) for part in world.gather(tensor)]).view_as(output))


@_collective
def reduce_scatter_tensor(
    output: Tensor, tensor: Tensor, op: Any = dist.ReduceOp.SUM, group: Any = None
) -> None:
    del group
    total = _reduced(world.gather(tensor), op).reshape(world.size, -1)
    output.copy_(total[world.rank].view_as(output))


@_collective
def reduce_scatter(
    output: Tensor, inputs: list[Tensor], op: Any = dist.ReduceOp.SUM, group: Any = None
) -> None:
    del group
    output.copy_(_reduced(world.gather(torch.stack(inputs)), op)[world.rank])


@_collective
def all_to_all_single(output: Tensor, tensor: Tensor, *_: Any, **__: Any) -> None:
    parts = [part.reshape(world.size, -1)[world.rank] for part in world.gather(tensor)]
    output.copy_(torch.cat(parts).view_as(output))


@_collective
def all_to_all(outputs: list[Tensor], inputs: list[Tensor], group: Any = None) -> None:
    del group
    for output, part in zip(outputs, world.gather(torch.stack(inputs)), strict=True):
        output.copy_(part[world.rank])


@_collective
def gather(
    tensor: Tensor, gather_list: list[Tensor] | None = None, dst: int = 0, group: Any = None
) -> None:
    del group
    parts = world.gather(tensor)
    if world.rank == dst:
        for output, part in zip(gather_list or [], parts, strict=True):
            output.copy_(part)


@_collective
def scatter(
    tensor: Tensor, scatter_list: list[Tensor] | None = None, src: int = 0, group: Any = None
) -> None:
    del group
    sent = world.gather_objects(scatter_list)[src]
    tensor.copy_(sent[world.rank])


@_collective
def all_gather_object(outputs: list[Any], value: Any, group: Any = None) -> None:
    del group
    outputs[:] = world.gather_objects(value)


@_collective
def gather_object(
    value: Any, outputs: list[Any] | None = None, dst: int = 0, group: Any = None
) -> None:
    del group
    everything = world.gather_objects(value)
    if world.rank == dst and outputs is not None:
        outputs[:] = everything


@_collective
def broadcast_object_list(
    values: list[Any], src: int = 0, group: Any = None, device: Any = None
) -> None:
    del group, device
    values[:] = world.gather_objects(list(values))[src]


@_collective
def barrier(*_: Any, **__: Any) -> None:
    world.exchange(b"")


class DistributedDataParallel(torch.nn.Module):
    """Averages each gradient over the ranks as soon as it is complete."""

    def __init__(self, module: torch.nn.Module, *_: Any, **__: Any) -> None:
        super().__init__()
        used["data parallel"] += 1
        self.module = module
        self.require_backward_grad_sync = True
        if world.size > 1:
            for parameter in module.parameters():
                if parameter.requires_grad:
                    watch: Any = parameter.register_post_accumulate_grad_hook
                    watch(self._average)

    def _average(self, parameter: Tensor) -> None:
        if self.require_backward_grad_sync and parameter.grad is not None:
            all_reduce(parameter.grad, op=dist.ReduceOp.AVG)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        return self.module(*arguments, **named)

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """A context in which gradients stay on their rank."""
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before


def _set_up(initialized: bool) -> Callable[..., None]:
    def call(*_: Any, **__: Any) -> None:
        world.initialized = initialized

    return call


def install() -> None:
    """Patches `torch.distributed`; `world` says who takes part."""
    for function in (
        all_reduce, reduce, broadcast, all_gather, all_gather_into_tensor, reduce_scatter_tensor,
        reduce_scatter, all_to_all_single, all_to_all, gather, scatter, all_gather_object,
        gather_object, broadcast_object_list, barrier,
    ):  # fmt: skip
        replace(dist, **{function.__name__: function})
    replace(
        dist,
        _all_gather_base=all_gather_into_tensor,
        _reduce_scatter_base=reduce_scatter_tensor,
        monitored_barrier=barrier,
        is_available=always(True),
        is_nccl_available=always(True),
        is_torchelastic_launched=always(True),
        is_initialized=lambda: world.initialized,
        init_process_group=_set_up(True),
        destroy_process_group=_set_up(False),
        get_rank=lambda *_, **__: world.rank,
        get_world_size=lambda *_, **__: world.size,
        get_backend=always("nccl"),
        new_group=always(None),
        set_debug_level=nothing,
    )
    replace(torch.nn.parallel, DistributedDataParallel=DistributedDataParallel)
    replace(torch.nn.parallel.distributed, DistributedDataParallel=DistributedDataParallel)
