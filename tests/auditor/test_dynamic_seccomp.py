"""The filter, run by a small interpreter of classic BPF: what each system call meets."""

import errno
import struct

import pytest

from auditor.dynamic.seccomp import ALLOW, KILL, MACHINES, REFUSE, Machine, assemble, machine_of

X86, ARM = MACHINES["x86_64"], MACHINES["aarch64"]
BOTH = pytest.mark.parametrize("machine", [X86, ARM], ids=["x86_64", "aarch64"])
EPERM = REFUSE | errno.EPERM


def verdict(
    machine: Machine,
    call: int,
    *arguments: int,
    audit: int | None = None,
    processes: bool = False,
) -> int:
    """What the kernel would do: loads 32-bit words, compares, jumps forward, returns."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<iIQ6Q", call, audit or machine.audit, 0, *padded)
    code = list(struct.iter_unpack("<HBBI", assemble(machine, processes=processes)))
    place, word = 0, 0
    while True:
        operation, if_true, if_false, constant = code[place]
        place += 1
        if operation == 0x20:
            word = struct.unpack_from("<I", data, constant)[0]
        elif operation == 0x06:
            return int(constant)
        else:
            held = {
                0x15: word == constant,
                0x35: word >= constant,
                0x45: bool(word & constant),
            }[operation]
            place += if_true if held else if_false


@BOTH
def test_every_denied_call_is_refused(machine: Machine) -> None:
    assert {verdict(machine, number) for number in machine.denied.values()} == {EPERM}


@BOTH
def test_calls_of_another_architecture_kill(machine: Machine) -> None:
    assert verdict(machine, 0, audit=0x40000003) == KILL  # 32-bit x86


def test_x32_calls_kill() -> None:
    assert verdict(X86, 0x40000000 | 101) == KILL


@BOTH
def test_only_local_sockets(machine: Machine) -> None:
    for call in (machine.socket, machine.socketpair):
        assert verdict(machine, call, 1) == ALLOW
        assert {verdict(machine, call, family) for family in (2, 10, 16, 17, 40)} == {EPERM}


@BOTH
def test_threads_yes_processes_and_namespaces_no(machine: Machine) -> None:
    thread = 0x3D0F00  # what libc's pthread_create asks for
    assert verdict(machine, machine.clone, thread) == ALLOW
    assert verdict(machine, machine.clone, 17) == EPERM  # fork: SIGCHLD alone
    assert verdict(machine, machine.clone, thread | 0x10000000) == EPERM  # CLONE_NEWUSER
    assert verdict(machine, machine.clone3) == REFUSE | errno.ENOSYS


@BOTH
def test_where_processes_are_allowed_nothing_else_is(machine: Machine) -> None:
    starting = {machine.denied[name] for name in ("fork", "vfork") if name in machine.denied}
    assert {verdict(machine, call, processes=True) for call in starting} <= {ALLOW}
    assert verdict(machine, machine.clone, 17, processes=True) == ALLOW
    assert verdict(machine, machine.clone, 17 | 0x10000000, processes=True) == EPERM
    others = set(machine.denied.values()) - starting
    assert {verdict(machine, call, processes=True) for call in others} == {EPERM}


@BOTH
def test_typing_into_the_terminal_is_refused(machine: Machine) -> None:
    assert verdict(machine, machine.ioctl, 0, 0x5412) == EPERM
    assert verdict(machine, machine.ioctl, 0, 0x5401) == ALLOW


def test_ordinary_calls_pass() -> None:
    reads_writes_maps = {0, 1, 3, 9, 11, 12, 202, 257, 231}
    assert {verdict(X86, call) for call in reads_writes_maps} == {ALLOW}


def test_an_unknown_processor_has_no_table() -> None:
    assert machine_of("riscv64") is None
