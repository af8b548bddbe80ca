"""Each test attacks one property of the sandbox, or takes away what it needs."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.dynamic import sandbox
from auditor.dynamic.limits import MIB, Limits, Stopped
from auditor.dynamic.sandbox import Box, Completed, SandboxUnavailable


@pytest.fixture(scope="module", autouse=True)
def _fresh_self_test() -> Iterator[None]:
    sandbox.require.cache_clear()
    yield
    sandbox.require.cache_clear()


def attack(code: str, box: Box | None = None, limits: Limits | None = None) -> Completed:
    """Runs Python code inside; skips where there is no sandbox to attack."""
    try:
        sandbox.require()
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    return sandbox.run([*sandbox.python(), "-S", "-c", code], box, limits or Limits(seconds=30))


def error_of(code: str) -> str:
    """The name of the exception that `code` ends with."""
    done = attack(code)
    assert not done.ok, done.stdout
    return done.complaint()


def test_it_runs_python_and_hands_back_the_result() -> None:
    done = attack("import os; os.write(int(os.environ['AUDITOR_RESULT_FD']), b'42'); print('out')")
    assert done.ok
    assert (done.result, done.stdout) == (b"42", b"out\n")


def test_inputs_and_variables_are_there_and_nothing_else_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    box = Box(inputs={"lib/a.txt": b"hello"}, environment={"SEED": "7"})
    done = attack("import os; print(open('lib/a.txt').read(), sorted(os.environ))", box)
    assert b"hello" in done.stdout
    assert b"SEED" in done.stdout
    assert b"SECRET_TOKEN" not in done.stdout


def test_no_network() -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    assert "PermissionError" in error_of(code)
    assert attack("print(open('/proc/net/dev').read())").stdout.count(b":") == 1  # lo alone


def test_the_home_folder_cannot_be_read() -> None:
    kept = [Path(p) for p in (sys.prefix, sys.base_prefix)]  # the interpreter may lie below it
    private = [str(p) for p in Path.home().iterdir() if not any(k.is_relative_to(p) for k in kept)]
    code = f"import os; print([p for p in {private!r} if os.path.lexists(p)])"
    assert attack(code).stdout == b"[]\n"


def test_neither_the_project_nor_temporary_files_can_be_read(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("key")
    for path in (secret, Path(__file__)):
        assert "FileNotFoundError" in error_of(f"open({str(path)!r})")


@pytest.mark.parametrize("place", ["/", "/usr", "/etc", "/dev", os.__file__ + ".d"])
def test_nothing_outside_can_be_written(place: str) -> None:
    assert "Error" in error_of(f"open({place!r} + '/written', 'w')")


def test_what_is_written_inside_is_gone_afterwards() -> None:
    assert attack("open('a', 'w').write('x'); open('/tmp/b', 'w').write('x')").ok
    # /tmp may hold the mount point of this very environment, and nothing that was written.
    code = "import os; print(os.listdir('.'), os.path.exists('/tmp/b'))"
    assert attack(code).stdout == b"[] False\n"


def test_scratch_space_is_small() -> None:
    limits = Limits(scratch=2 * MIB)
    for folder in (".", "/tmp", "/dev/shm"):
        code = f"[open('{folder}/%d' % i, 'wb').write(bytes(1 << 20)) for i in range(4)]"
        assert "No space" in attack(code, limits=limits).complaint()


def test_no_process_can_be_forked() -> None:
    assert "PermissionError" in error_of("import os; os.fork()")
    assert "PermissionError" in error_of("import subprocess; subprocess.run(['/bin/true'])")


def test_threads_work() -> None:
    code = "import threading; t = threading.Thread(target=print, args=('hi',)); t.start(); t.join()"
    assert attack(code).stdout == b"hi\n"


def test_memory_is_bounded() -> None:
    done = attack("b = bytearray(400 << 20)", limits=Limits(memory=200 * MIB))
    assert "MemoryError" in done.complaint()


def test_files_are_bounded() -> None:
    done = attack("open('a', 'wb').write(bytes(4 << 20))", limits=Limits(file=MIB))
    assert not done.ok


def test_open_files_are_bounded() -> None:
    assert "Too many open files" in error_of("f = [open('/dev/null') for _ in range(999)]")


def test_wall_clock() -> None:
    started = time.monotonic()
    done = attack("import time; print('x', flush=True); time.sleep(60)", limits=Limits(seconds=1))
    assert done.stopped is Stopped.TIME
    assert time.monotonic() - started < 10
    assert "wall-clock limit" in done.complaint()


def test_closing_its_pipes_buys_no_time() -> None:
    code = "import os, time; os.closerange(0, 99); time.sleep(60)"
    assert attack(code, limits=Limits(seconds=1)).stopped is Stopped.TIME


def test_cpu_time_is_bounded() -> None:
    done = attack("while True: pass", limits=Limits(seconds=30, cpu_seconds=1))
    assert done.stopped is None
    assert not done.ok


def test_endless_output_is_cut() -> None:
    done = attack("while True: print('x' * 4096)", limits=Limits(seconds=30, output=MIB))
    assert done.stopped is Stopped.OUTPUT
    assert len(done.stdout) < 2 * MIB


def test_an_endless_result_is_cut() -> None:
    code = "import os\nwhile True: os.write(int(os.environ['AUDITOR_RESULT_FD']), b'x' * 4096)"
    done = attack(code, limits=Limits(seconds=30, result=MIB))
    assert done.stopped is Stopped.RESULT


def test_only_its_own_processes_show() -> None:
    code = "import os; print([int(p) for p in os.listdir('/proc') if p.isdigit()])"
    assert max(eval(attack(code).stdout)) < 10
    assert "ProcessLookupError" in error_of(f"import os; os.kill({os.getpid()}, 9)")


CALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
assert libc.{} == -1, "it worked"
raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""


@pytest.mark.parametrize(
    "call",
    [
        "ptrace(0, 0, 0, 0)",
        "mount(b'none', b'/tmp', b'tmpfs', 0, None)",
        "umount2(b'/proc', 2)",
        "unshare(0x10000000)",
        "chroot(b'/tmp')",
        "setns(0, 0)",
        "process_vm_readv(1, 0, 0, 0, 0, 0)",
    ],
)
def test_dangerous_calls_are_refused(call: str) -> None:
    assert "PermissionError" in error_of(CALL.format(call))


def test_a_failing_command_is_told_in_one_line() -> None:
    assert error_of("raise ValueError('broken')") == "exit code 1: ValueError: broken"


# What it needs is taken away: nothing may run then.


@pytest.fixture
def _forget() -> Iterator[None]:
    sandbox.require.cache_clear()
    yield
    sandbox.require.cache_clear()


def refusal() -> str:
    """Why nothing is run now."""
    with pytest.raises(SandboxUnavailable) as raised:
        sandbox.run(["/bin/true"])
    return str(raised.value)


@pytest.mark.usefixtures("_forget")
def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "find_bubblewrap", lambda: None)
    monkeypatch.setattr(sys, "platform", "linux")
    assert "apt-get install bubblewrap" in refusal()


@pytest.mark.usefixtures("_forget")
def test_elsewhere_than_on_linux_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux" in refusal()


@pytest.mark.usefixtures("_forget")
def test_an_unknown_processor_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sandbox, "machine_of", lambda: None)
    assert "processor" in refusal()


@pytest.mark.usefixtures("_forget")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="runs a shell script")
def test_a_bubblewrap_that_does_not_isolate_counts_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # It ignores every option and runs the command as it is, with the variables that it sets.
    fake = tmp_path / "bwrap"
    fake.write_text(
        '#!/bin/bash\nwhile [ "$1" != -- ]; do [ "$1" = --setenv ] && export "$2=$3"; shift; done\n'
        'shift; exec "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setattr(sandbox, "find_bubblewrap", lambda: fake)
    reason = refusal()
    for property_ in ("no_network", "no_fork", "caller_hidden", "seccomp"):
        assert property_ in reason


@pytest.mark.usefixtures("_forget")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="runs a shell script")
def test_a_bubblewrap_without_rights_is_told_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sandbox, "find_bubblewrap", lambda: fake)
    reason = refusal()
    assert "No permissions to create new namespace" in reason
    assert "seccomp=unconfined" in reason
