"""How much a sandboxed command may use, and why it was stopped."""

import resource
from dataclasses import dataclass
from enum import StrEnum

MIB = 1 << 20


class Stopped(StrEnum):
    """Why the sandbox ended a command before it ended by itself."""

    TIME = "wall-clock limit"
    OUTPUT = "output limit"
    PROCESSES = "limit of processes"
    MEMORY = "memory limit of all processes"
    RESULT = "result limit"


@dataclass(frozen=True)
class Limits:
    """Bytes and seconds. With one process, the seccomp filter refuses every fork; with more, the
    number of tasks and the memory of all together are watched from outside.

    `memory` bounds private memory, `address_space` all mappings (torch maps gigabytes of read-only
    libraries, so it is the larger one), `scratch` each of the writable tmpfs folders.
    """

    seconds: float = 120.0
    cpu_seconds: int = 240
    memory: int = 4096 * MIB
    address_space: int = 24576 * MIB
    scratch: int = 256 * MIB
    file: int = 128 * MIB
    open_files: int = 256
    output: int = 1 * MIB
    result: int = 64 * MIB
    processes: int = 1

    def apply(self) -> None:
        """Sets the kernel's limits for this process and its children; called before exec."""
        for kind, value in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_CPU, self.cpu_seconds),
            (resource.RLIMIT_DATA, self.memory),
            (resource.RLIMIT_AS, self.address_space),
            (resource.RLIMIT_FSIZE, self.file),
            (resource.RLIMIT_NOFILE, self.open_files),
        ):
            _, hard = resource.getrlimit(kind)
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (bound, bound))
