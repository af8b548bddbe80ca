"""Runs changed sources in the place of shipped ones, wherever they come to be compiled.

The plan names each source by the SHA-256 of its text and gives the text to run: with other sizes,
or in an older grammar. Packed scripts hand their payload to `exec` or `compile` themselves, so the
change is made there and the shipped file stays as it is.
"""

import __future__

import builtins
import hashlib
import linecache
import sys
from collections.abc import Mapping
from typing import Any

from auditor.dynamic.device.patching import replace

_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag


def digest(source: str | bytes) -> str:
    """How the plan names a source: SHA-256 of its UTF-8 text with plain line ends."""
    text = source.decode("utf-8-sig", "replace") if isinstance(source, bytes) else source
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n").strip()
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def install(changed: Mapping[str, str]) -> None:
    """Patches `compile` and `exec`; `changed` maps digests to the text to run instead."""
    real_compile, real_exec = builtins.compile, builtins.exec

    def change(source: Any) -> Any:
        if isinstance(source, bytearray | memoryview):
            source = bytes(source)
        return changed.get(digest(source), source) if isinstance(source, str | bytes) else source

    def compile_(source: Any, filename: Any, *arguments: Any, **named: Any) -> Any:
        text = change(source)
        if text is not source and isinstance(filename, str):
            # What reads a function's own source, such as Triton, must find the text that runs.
            linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
        names = ("mode", "flags", "dont_inherit", "optimize")
        given = dict(zip(names, arguments, strict=False)) | named
        if not given.get("dont_inherit"):
            given["flags"] = given.get("flags", 0) | sys._getframe(1).f_code.co_flags & _FUTURE
            given["dont_inherit"] = True
        return real_compile(text, filename, **given)

    def exec_(source: Any, namespace: Any = None, local: Any = None, /, **named: Any) -> None:
        caller = sys._getframe(1)
        if namespace is None:
            namespace = caller.f_globals
            local = local if local is not None else caller.f_locals
        if isinstance(source, str | bytes):
            source = change(source)
            flags = caller.f_code.co_flags & _FUTURE
            source = real_compile(source, "<string>", "exec", flags, True)
        if local is None or local is namespace:
            real_exec(source, namespace, **named)
        else:
            real_exec(source, namespace, local, **named)

    replace(builtins, compile=compile_, exec=exec_)
