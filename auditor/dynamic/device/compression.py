"""Compressors at their fastest level: the bytes of a shrunk model prove nothing about its size.

What is compressed comes out the same, so no score changes. `brotli` at 11, `zstd` at 22 and `lzma`
at 9 take seconds of every run and hundreds of megabytes.
"""

import functools
import importlib
import lzma
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from auditor.dynamic.device.patching import replace, used


def _faster(owner: Any, name: str, parameter: str, position: int, level: int) -> None:
    """Sets a level parameter of `owner.name`, wherever it is given, to at most `level`."""
    original = getattr(owner, name, None)
    if original is None:
        return

    @functools.wraps(original)
    def called(*arguments: Any, **named: Any) -> Any:
        used["compression level"] += 1
        given = list(arguments)
        if len(given) > position:
            given[position] = level
        elif not _set_otherwise(named):
            named[parameter] = level
        return original(*given, **named)

    replace(owner, **{name: called})


def _set_otherwise(named: dict[str, Any]) -> bool:
    """Whether parameters that hold a level of their own are given."""
    return any(named.get(name) is not None for name in ("filters", "compression_params"))


def _lzma_filters(original: Callable[..., Any]) -> Callable[..., Any]:
    """Raw and filtered LZMA: the filters keep their kind, their effort goes."""

    @functools.wraps(original)
    def called(*arguments: Any, **named: Any) -> Any:
        filters = named.get("filters")
        if filters:
            kept = ("id", "lc", "lp", "pb", "dict_size", "dist")
            named["filters"] = [
                {name: f[name] for name in kept if name in f}
                | ({"mode": lzma.MODE_FAST} if f["id"] in _LZMA else {})
                for f in filters
            ]
        return original(*arguments, **named)

    return called


_LZMA = (lzma.FILTER_LZMA1, lzma.FILTER_LZMA2)


def install() -> None:
    """Patches `zlib`, `lzma`, and `brotli` and `zstandard` where they are installed."""
    _faster(zlib, "compress", "level", 1, 1)
    _faster(zlib, "compressobj", "level", 0, 1)
    replace(lzma, compress=_lzma_filters(lzma.compress))
    _faster(lzma, "compress", "preset", 3, 0)
    for name, function, parameter, position, level in (
        ("brotli", "compress", "quality", 2, 2),
        ("brotli", "Compressor", "quality", 1, 2),
        ("zstandard", "ZstdCompressor", "level", 0, 1),
        ("zstandard", "compress", "level", 1, 1),
    ):
        if find_spec(name) is not None:
            _faster(importlib.import_module(name), function, parameter, position, level)
