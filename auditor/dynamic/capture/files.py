"""Notes what the script opens, and tells when it first opens what matters.

Three moments matter: the first opening of a training shard, of a validation shard, and of a file
for reading that the script itself has written (the artifact). Children are forked there.

Functions written in C open files unseen (`torch.from_file`, `PyTorchFileWriter`), so their Python
entrances are watched too. A child's data are put on the disk and not slipped in here: however a
script reads them, it reads those.
"""

import builtins
import contextlib
import functools
import hashlib
import io
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

import numpy as np
import torch

from auditor.dynamic.capture.record import Recorder

_SYSTEM = ("/usr/", "/lib", "/etc/", "/proc/", "/sys/", "/dev/", "/opt/")
MOMENTS = ("training", "validation", "artifact")


class Files:
    """Watches openings. `reached` is called with the moment's name before the file is opened."""

    def __init__(
        self,
        recorder: Recorder,
        names: dict[str, Sequence[str]],
        reached: Callable[[str], None],
    ) -> None:
        self.recorder = recorder
        self.names = names
        self.reached = reached
        self.written: set[str] = set()
        self.pending = set(MOMENTS)
        self.read_back: dict[str, str] = {}  # what it wrote, by path: its digest when first read
        self.artifact = b""  # the largest of them
        self.later: dict[str, Mapping[str, str | None]] = {}  # changes to make before that
        self.inside = False  # `np.fromfile` opens through `io.open`

    @contextlib.contextmanager
    def unwatched(self) -> Iterator[None]:
        """For the hooks' own files."""
        outer, self.inside = self.inside, True
        try:
            yield
        finally:
            self.inside = outer

    def artifacts(self) -> list[dict[str, Any]]:
        """Every file that the script wrote and that is still there: path, bytes, SHA-256, and the
        SHA-256 that it had when it was first read back, if it was."""
        return [
            {
                "path": path,
                "bytes": os.path.getsize(path),  # noqa: PTH202
                "sha256": _sha256(path),
                "read_back": self.read_back.get(path),
            }
            for path in sorted(self.written)
            if os.path.isfile(path)  # noqa: PTH113
        ]

    def install(self) -> None:
        """Replaces the ways to open a file, and to connect a socket."""
        opened = self._wrap(builtins.open, _mode_of_open)
        builtins.open = opened
        io.open = opened
        os.open = self._wrap(os.open, _mode_of_flags)
        for owner, name, mode in (
            (np, "fromfile", "r"),
            (np, "load", "r"),
            (np, "savez", "w"),
            (np, "savez_compressed", "w"),
            (torch, "load", "r"),
            (torch, "save", "w"),
            (torch, "from_file", "r"),
        ):
            position = 1 if (owner, name) == (torch, "save") else 0
            setattr(owner, name, self._wrap(getattr(owner, name), _always(mode), position))
        self._watch_memmap()
        self._watch_sockets()

    def _wrap(
        self, original: Any, mode_of: Callable[[Sequence[Any], dict[str, Any]], str], at: int = 0
    ) -> Any:
        @functools.wraps(original)
        def watched(*arguments: Any, **named: Any) -> Any:
            given = arguments[at] if len(arguments) > at else None
            if not self.inside and isinstance(given, str | os.PathLike):
                self.opening(os.fspath(given), mode_of(arguments, named))
            with self.unwatched():
                return original(*arguments, **named)

        return watched

    def opening(self, name: str | bytes, mode: str) -> None:
        """Notes one file; forks first where its opening is awaited."""
        path = os.path.abspath(os.fsdecode(name))  # noqa: PTH100
        if path.startswith(_SYSTEM) or path.endswith((".py", ".pyc")) or "/site-packages/" in path:
            return
        writes = any(letter in mode for letter in "wax+")
        if not writes:
            moment = self._moment(path)
            if moment == "artifact" and path not in self.read_back:
                with self.unwatched():
                    self._read_back(path)
            if moment in self.pending and os.path.exists(path):  # noqa: PTH110
                self.pending.discard(moment)
                with self.unwatched():
                    self.reached(moment)
        else:
            self.written.add(path)
        self.recorder.file("write" if writes else "read", path)

    def _read_back(self, path: str) -> None:
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                data = file.read()
        except OSError:
            return
        self.read_back[path] = hashlib.sha256(data).hexdigest()
        self.artifact = max(self.artifact, data, key=len)
        change(self.later.pop(path, {}))

    def _moment(self, path: str) -> str:
        base = os.path.basename(path)  # noqa: PTH119
        for moment, names in self.names.items():
            if any(fnmatch(base, name) for name in names):
                return moment
        if path in self.later:  # rank 0 writes what the other ranks read
            return "artifact"
        return "artifact" if path in self.written and not _is_text(path) else ""

    def _watch_memmap(self) -> None:
        opening = self._opening_outside

        class Watched(np.memmap[Any, Any]):
            """`np.memmap`, which is a class that scripts may test instances against."""

            def __new__(cls, filename: Any, *arguments: Any, **named: Any) -> Any:
                mode = named.get("mode", arguments[1] if len(arguments) > 1 else "r+")
                if isinstance(filename, str | os.PathLike):
                    opening(os.fspath(filename), "r" if mode in ("r", "c") else "w")
                return super().__new__(cls, filename, *arguments, **named)

        Watched.__name__ = Watched.__qualname__ = "memmap"
        setattr(np, "memmap", Watched)  # noqa: B010

    def _opening_outside(self, name: str | bytes, mode: str) -> None:
        if not self.inside:
            self.opening(name, mode)

    def _watch_sockets(self) -> None:
        recorder, original = self.recorder, socket.socket.connect

        def connect(self: socket.socket, address: Any) -> None:
            if self.family != socket.AF_UNIX:
                recorder.file("connect", str(address)[:200])
            original(self, address)

        setattr(socket.socket, "connect", connect)  # noqa: B010


def _mode_of_open(arguments: Sequence[Any], named: dict[str, Any]) -> str:
    return str(named.get("mode", arguments[1] if len(arguments) > 1 else "r"))


def _mode_of_flags(arguments: Sequence[Any], named: dict[str, Any]) -> str:
    flags = named.get("flags", arguments[1] if len(arguments) > 1 else 0)
    return "w" if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else "r"


def _always(mode: str) -> Callable[[Sequence[Any], dict[str, Any]], str]:
    return lambda _arguments, _named: mode


def _is_text(path: str) -> bool:
    """Logs are read back too, but are no artifact."""
    return path.endswith((".txt", ".log", ".json", ".md", ".csv", ".tsv"))


def change(files: Mapping[str, str | None]) -> None:
    """Puts other contents where files lie: path to the path of what is to lie there, or nothing.
    At once, as other ranks may be reading them."""
    for path, source in files.items():
        if source is None:
            os.unlink(path)  # noqa: PTH108
        else:
            new = f"{path}.{os.getpid()}"
            shutil.copyfile(source, new)
            os.replace(new, path)  # noqa: PTH105


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
