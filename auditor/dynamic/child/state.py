"""Copies and hashes of an unknown object's state."""

import copy
import hashlib
import struct
import sys
import types
from functools import cache
from typing import Any

import numpy as np
import torch


def copied(value: Any) -> Any:
    """A deep copy that shares modules, which many objects hold and none can copy."""
    return copy.deepcopy(value, dict(_modules()))


@cache
def _modules() -> dict[int, Any]:
    """As `deepcopy` wants to know what is copied already; nothing is imported between copies."""
    return {id(m): m for m in list(sys.modules.values())}


def digest(value: Any) -> str:
    """SHA-256 over everything reachable: tensors, arrays, numbers, containers, attributes."""
    hasher = hashlib.sha256()
    _feed(hasher, value, set())
    return hasher.hexdigest()


def _feed(hasher: Any, value: Any, seen: set[int]) -> None:
    if isinstance(value, bool | int | str | bytes | types.NoneType):
        hasher.update(f"{type(value).__name__}:{value!r};".encode())
    elif isinstance(value, float):
        hasher.update(struct.pack("<d", value))
    elif isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        hasher.update(f"{value.dtype}{tuple(value.shape)}".encode())
        hasher.update(flat.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        hasher.update(f"{array.dtype}{array.shape}".encode())
        hasher.update(array.tobytes())
    elif isinstance(value, types.ModuleType | types.FunctionType | type):
        hasher.update(value.__name__.encode())
    elif id(value) not in seen:
        seen.add(id(value))
        hasher.update(type(value).__name__.encode())
        for part in _parts(value):
            _feed(hasher, part, seen)
            hasher.update(b",")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    slots = [s for c in type(value).__mro__ for s in getattr(c, "__slots__", ())]
    held = {s: getattr(value, s) for s in slots if hasattr(value, s)} | getattr(
        value, "__dict__", {}
    )
    return [part for name in sorted(held) for part in (name, held[name])]
