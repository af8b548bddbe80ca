"""The run as capture hooks see it: where results go, forks that try something else, the end.

A hook is a module with `install(run, settings)`. It patches what it wants to watch and may return a
function without parameters; that is called when the script has ended, in every variant, and what
it returns is sent as JSON under the hook's name.

Results leave through one pipe as frames: `<name length> <data length>\\n`, name, data. They are
sent when they are made, so that a run that is stopped keeps what it had.
"""

import fcntl
import json
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from auditor.dynamic.device.clock import real_monotonic

_LOCK = Path("/tmp/results.lock")
_KEPT = 64 << 20  # bytes of the work folder that a fork may have to put back
_LOOK = 0.02  # seconds between two looks at a process that is waited for
_MARGIN = 3.0  # seconds that the end of a run may take


class Run:
    """One process of the audited script: the first, or a variant forked from it.

    `variant` is empty in the first. `work` is the script's folder, `settings` the whole job.
    """

    def __init__(self, pipe: int, work: Path, settings: Mapping[str, Any]) -> None:
        self.work = work
        self.settings = settings
        self.variant = ""
        self.code = 0  # how the latest variant ended
        self.hooks: dict[str, Callable[[], Any]] = {}
        self.ranks: list[int] = []  # processes of the other ranks
        self._pipe = pipe
        self._output: Path | None = None
        self._started = real_monotonic()
        self._spent = 0.0  # CPU seconds of the processes that this one was copied from

    def send(self, name: str, data: bytes) -> None:
        """Hands out one result; a later one of the same name takes its place."""
        full = f"{self.variant}/{name}".encode()
        frame = b"%d %d\n" % (len(full), len(data)) + full + data
        view = memoryview(frame)
        with _LOCK.open("wb") as lock:  # ranks share the pipe
            fcntl.flock(lock, fcntl.LOCK_EX)
            while view:
                view = view[os.write(self._pipe, view) :]

    def send_json(self, name: str, value: Any) -> None:
        """The same for anything that JSON can hold."""
        self.send(f"{name}.json", json.dumps(value).encode())

    def left(self) -> float:
        """Seconds until the run is stopped, less a margin."""
        seconds = float(self.settings.get("seconds", 1e9))
        return seconds - (real_monotonic() - self._started) - _MARGIN

    def spent(self) -> float:
        """CPU seconds of the run so far, this process and those that it was copied from."""
        used = (
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
        return self._spent + sum(usage.ru_utime + usage.ru_stime for usage in used)

    def split(self) -> int | None:
        """Copies this process. The copy goes on with the run itself, and gets None. The original
        waits for its end, finds its work folder as it left it, and gets the copy's exit code."""
        spent = self.spent()
        before = self._before_fork()
        child = os.fork()
        if not child:
            self._spent = spent
            return None
        code = _wait(child, None)
        _put_back(self.work, before)
        return code

    def leave(self, code: int) -> NoReturn:
        """Ends a process that stayed behind, with the exit code of the run itself."""
        self.send_json("spent", self.spent())
        os._exit(code if code >= 0 else 1)

    def fork(self, variant: str, seconds: float | None = None) -> bool:
        """Runs the rest of the script once more, as a variant, stopped after `seconds`. True in
        the variant; the original waits for its end, finds its work folder as it left it, and gets
        False.

        The variant's printed text becomes its result `output`.
        """
        before = self._before_fork()
        child = os.fork()
        if child:
            self.code = _wait(child, seconds)
            _put_back(self.work, before)
            return False
        self.enter(variant, Path(f"/tmp/output-{os.getpid()}"))
        return True

    def _before_fork(self) -> "_Files":
        sys.stdout.flush()
        sys.stderr.flush()
        return _read_files(self.work)

    def enter(self, variant: str, output: Path) -> None:
        """From here on this process is a variant, which prints to the file `output`."""
        self.variant = f"{self.variant}/{variant}".lstrip("/")
        self.ranks = []
        self._output = output
        sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.close(sink)

    def finish(self, exit_state: Mapping[str, Any]) -> None:
        """Collects from the hooks and, in a variant, ends the process."""
        sys.stdout.flush()
        sys.stderr.flush()
        for name, collect in self.hooks.items():
            try:
                self.send_json(name, collect())
            except Exception as error:  # one hook's failure must not cost another's result
                self.send_json(f"{name}.failed", f"{type(error).__name__}: {error}"[:300])
        self.send_json("exit", dict(exit_state))
        for rank in self.ranks:  # with the first process ends the sandbox
            os.waitpid(rank, 0)
        if self.variant and self._output is not None:
            self.send("output", self._output.read_bytes())
            self._output.unlink()
            os._exit(0)


def exit_state(error: BaseException | None) -> dict[str, Any]:
    """How the script ended: `code`, and `error` with the last line of its own that took part."""
    if error is None:
        return {"code": 0}
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return {"code": code, "error": str(error.code)} if code else {"code": 0}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/auditor/" not in f.filename]
    own = [f for f in frames if "-packages/" not in f.filename and "/lib/python" not in f.filename]
    text = f"{type(error).__name__}: {error}"[:500]
    place = own[-1] if own else None
    return {
        "code": 1,
        "error": text,
        "line": place.lineno if place else None,
        "function": place.name if place else None,
    }


_Files = Mapping[Path, tuple[int, int, bytes | None]]


def _wait(child: int, seconds: float | None) -> int:
    """The exit code of a process, negative for a signal. It is killed after `seconds`."""
    if seconds is None:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    end = real_monotonic() + seconds
    while real_monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        select.select([], [], [], _LOOK)  # `time.sleep` is the script's, and returns at once
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _read_files(folder: Path) -> dict[Path, tuple[int, int, bytes | None]]:
    """Size, time and, within the limit, contents of every file below `folder`."""
    found: dict[Path, tuple[int, int, bytes | None]] = {}
    kept = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            facts = path.stat()
            kept += facts.st_size
            contents = path.read_bytes() if kept <= _KEPT else None
            found[path] = (facts.st_size, facts.st_mtime_ns, contents)
    return found


def _put_back(folder: Path, before: _Files) -> None:
    """Removes what is new and rewrites, in place, what has changed."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path not in before:
            path.unlink()
    for path, (size, time, contents) in before.items():
        facts = path.stat() if path.exists() else None
        if facts is not None and (facts.st_size, facts.st_mtime_ns) == (size, time):
            continue
        if contents is not None:
            with path.open("r+b" if facts else "wb") as file:
                file.truncate()
                file.write(contents)
