"""Decompressors with limits: a few bytes of a hostile script must not become gigabytes.

Each raises `TooLargeError` once its output would pass the limit that follows from its input. What
the data themselves get wrong is a `DecodeError`.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

MAX_OUTPUT = 16 << 20  # the largest real payload has 0.4 MB
MAX_RATIO = 200  # source compresses about sixfold
SMALL = 1 << 20  # below this no ratio is asked for
MAX_DICTIONARY = 64 << 20
MAX_STREAMS = 64
BROTLI_STEP = 16  # bytes fed at a time: a brotli meta-block of a few bytes can yield 16 MiB


class DecodeError(Exception):
    """The data are not what their decoder expects."""


class TooLargeError(DecodeError):
    """The output passes the limit."""


class _Stream(Protocol):
    """The decompressor objects of `lzma` and `bz2`."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def output_limit(data: bytes) -> int:
    """How many bytes `data` may become."""
    return min(MAX_OUTPUT, max(SMALL, MAX_RATIO * len(data)))


def _read_streams(new: Callable[[], _Stream], data: bytes) -> bytes:
    """Decodes one stream after another, as the modules' own `decompress` functions do."""
    limit, out = output_limit(data), b""
    for _ in range(MAX_STREAMS):
        stream = new()
        out += stream.decompress(data, limit + 1 - len(out))
        if len(out) > limit:
            raise TooLargeError(f"more than {limit:,} bytes")
        if not stream.eof:
            raise DecodeError("the compressed data end too early")
        data = stream.unused_data.lstrip(b"\0")
        if not data:
            return out
    raise TooLargeError(f"more than {MAX_STREAMS} streams")


def lzma_decompress(
    data: bytes,
    format: int = lzma.FORMAT_AUTO,  # noqa: A002 - the name is that of `lzma.decompress`
    memlimit: int | None = None,  # noqa: ARG001 - ours is stricter
    filters: Sequence[Mapping[str, Any]] | None = None,
) -> bytes:
    """`lzma.decompress`: xz, lzma or raw with its filters."""
    for each in filters or ():
        if int(each.get("dict_size", 0)) > MAX_DICTIONARY:
            raise TooLargeError(f"a dictionary of {each['dict_size']:,} bytes")
    memory = None if format == lzma.FORMAT_RAW else 2 * MAX_DICTIONARY
    chain = [dict(each) for each in filters] if filters is not None else None
    if format == lzma.FORMAT_RAW:  # has no end mark that `eof` could tell
        limit = output_limit(data)
        out = lzma.LZMADecompressor(format, None, chain).decompress(data, limit + 1)
        if len(out) > limit:
            raise TooLargeError(f"more than {limit:,} bytes")
        return out
    return _read_streams(lambda: lzma.LZMADecompressor(format, memory, chain), data)


def bz2_decompress(data: bytes) -> bytes:
    """`bz2.decompress`."""
    return _read_streams(bz2.BZ2Decompressor, data)


def zlib_decompress(data: bytes, wbits: int = zlib.MAX_WBITS, bufsize: int = 0) -> bytes:  # noqa: ARG001
    """`zlib.decompress`; `wbits` 31 reads gzip, negative values a raw stream."""
    limit = output_limit(data)
    stream = zlib.decompressobj(wbits)
    out = stream.decompress(data, limit + 1)
    if len(out) > limit:
        raise TooLargeError(f"more than {limit:,} bytes")
    if not stream.eof:
        raise DecodeError("the compressed data end too early")
    return out


def gzip_decompress(data: bytes) -> bytes:
    """`gzip.decompress`, of the first member."""
    return zlib_decompress(data, wbits=31)


def brotli_decompress(data: bytes) -> bytes:
    """`brotli.decompress`; a `DecodeError` says how to install it."""
    try:
        import brotli
    except ImportError:
        raise DecodeError(
            "brotli is not installed: pip install 'parameter-golf-proof[brotli]'"
        ) from None
    limit, out = output_limit(data), bytearray()
    stream = brotli.Decompressor()
    for start in range(0, len(data), BROTLI_STEP):
        out += stream.process(data[start : start + BROTLI_STEP])
        if len(out) > limit:
            raise TooLargeError(f"more than {limit:,} bytes")
    if not stream.is_finished():
        raise DecodeError("the compressed data end too early")
    return bytes(out)
