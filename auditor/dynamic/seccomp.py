"""A seccomp filter for the sandbox, assembled here: classic BPF, no library.

It refuses what audited code has no use for and what widens the kernel's attack surface: tracing
and other processes' memory, mounts, keys, BPF, io_uring, modules, clocks, new namespaces, every
socket family but local ones, and, unless asked otherwise, every new process. Threads are allowed. A
refused call fails with EPERM, so the script sees an ordinary error; one made through another
architecture's table kills it.

Allowed by default: Python, NumPy and torch use some hundred calls that change with every release.
"""

import errno
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_BITS = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

KILL = 0x80000000  # SECCOMP_RET_KILL_PROCESS
ALLOW = 0x7FFF0000  # SECCOMP_RET_ALLOW
REFUSE = 0x00050000  # SECCOMP_RET_ERRNO; the low half is the error

# Offsets in struct seccomp_data; both machines are little-endian, so the low half comes first.
_CALL, _MACHINE, _ARGUMENTS = 0, 4, 16

_AF_UNIX = 1
_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000  # mount, cgroup, uts, ipc, user, pid, net
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into the caller's terminal
_X32_BIT = 0x40000000
_STARTING = ("fork", "vfork")  # calls that start a process, where the machine has them

_SHARED_NUMBERS = {  # calls newer than Linux 5.1 have one number everywhere
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
    "memfd_secret": 447, "open_tree_attr": 467,
}  # fmt: skip
_X86_64_NUMBERS = {
    "fork": 57, "vfork": 58, "ptrace": 101, "syslog": 103, "uselib": 134, "personality": 135,
    "vhangup": 153, "modify_ldt": 154, "pivot_root": 155, "adjtimex": 159, "chroot": 161,
    "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
    "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
    "create_module": 174,
    "init_module": 175, "delete_module": 176, "quotactl": 179, "nfsservctl": 180,
    "lookup_dcookie": 212, "clock_settime": 227, "kexec_load": 246, "add_key": 248,
    "request_key": 249, "keyctl": 250, "unshare": 272, "vmsplice": 278, "perf_event_open": 298,
    "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305,
    "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
_AARCH64_NUMBERS = {
    "lookup_dcookie": 18, "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42,
    "chroot": 51, "vhangup": 58, "quotactl": 60, "vmsplice": 75, "acct": 89, "personality": 92,
    "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
    "clock_settime": 112, "syslog": 116, "ptrace": 117, "reboot": 142, "sethostname": 161,
    "setdomainname": 162, "settimeofday": 170, "adjtimex": 171, "add_key": 217, "request_key": 218,
    "keyctl": 219, "swapon": 224, "swapoff": 225, "perf_event_open": 241, "fanotify_init": 262,
    "name_to_handle_at": 264, "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268,
    "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "finit_module": 273,
    "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """The system call table of one processor. `audit` is its AUDIT_ARCH number."""

    audit: int
    denied: Mapping[str, int]
    socket: int
    socketpair: int
    clone: int
    ioctl: int
    clone3: int = 435


MACHINES: Mapping[str, Machine] = {
    "x86_64": Machine(0xC000003E, _X86_64_NUMBERS | _SHARED_NUMBERS, 41, 53, 56, 16),
    "aarch64": Machine(0xC00000B7, _AARCH64_NUMBERS | _SHARED_NUMBERS, 198, 199, 220, 29),
}


def machine_of(name: str | None = None) -> Machine | None:
    """The table for a machine as `platform.machine()` names it; None where we have none."""
    return MACHINES.get(name or platform.machine())


def assemble(machine: Machine, *, processes: bool = False) -> bytes:
    """The filter as an array of `struct sock_filter` (8 bytes each), as bubblewrap reads it.

    With `processes` it lets pass what starts a process (fork, vfork, clone without namespaces).
    """
    code = [
        (_LOAD_WORD, 0, 0, _MACHINE),
        (_JUMP_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, KILL),
        (_LOAD_WORD, 0, 0, _CALL),
    ]
    if machine is MACHINES["x86_64"]:
        # x32 reaches the same kernel calls under other numbers.
        code += [(_JUMP_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, KILL)]
    starting = _STARTING if processes else ()
    for number in sorted(n for name, n in machine.denied.items() if name not in starting):
        code += [(_JUMP_EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    # clone3 takes its flags by pointer, which a filter cannot read: libc falls back to clone.
    code += [(_JUMP_EQUAL, 0, 1, machine.clone3), _refuse(errno.ENOSYS)]
    for number in (machine.socket, machine.socketpair):
        code += _guarded(
            number, [*_argument(0), (_JUMP_EQUAL, 1, 0, _AF_UNIX), _refuse(errno.EPERM)]
        )
    cloning = [*_argument(0), (_JUMP_BITS, 0, 1, _CLONE_NAMESPACES), _refuse(errno.EPERM)]
    if not processes:
        cloning += [(_JUMP_BITS, 1, 0, _CLONE_THREAD), _refuse(errno.EPERM)]
    code += _guarded(machine.clone, cloning)
    injections = [_argument(1)[0]]
    for request in _TERMINAL_INJECTION:
        injections += [(_JUMP_EQUAL, 0, 1, request), _refuse(errno.EPERM)]
    code += _guarded(machine.ioctl, injections)
    code.append((_RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


_Instruction = tuple[int, int, int, int]


def _refuse(error: int) -> _Instruction:
    return (_RETURN, 0, 0, REFUSE | error)


def _argument(index: int) -> list[_Instruction]:
    return [(_LOAD_WORD, 0, 0, _ARGUMENTS + 8 * index)]


def _guarded(number: int, body: list[_Instruction]) -> list[_Instruction]:
    """Runs `body` for one call and allows what passes it; other calls skip over it."""
    body = [*body, (_RETURN, 0, 0, ALLOW)]
    return [(_JUMP_EQUAL, 0, len(body), number), *body]
