"""Counts the processes of a sandbox and their memory from outside, and says when they are too many.

A limit of processes (RLIMIT_NPROC) counts per user and exempts root, so it does not bound a sandbox
that root starts. Between two counts a script can start some hundred processes; then all are killed.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from auditor.dynamic.limits import Limits, Stopped

INTERVAL = 0.1  # seconds between two counts
_PAGE = 4096


class Census:
    """The descendants of the process `root`."""

    def __init__(self, root: int, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._next = 0.0

    def exceeded(self) -> Stopped | None:
        """Which limit the processes exceed; looks at most once an interval."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + INTERVAL
        memory = 0
        for count, process in enumerate(self._descendants(), 1):
            memory += _private_memory(process)
            if count > self._limits.processes:
                return Stopped.PROCESSES
        return Stopped.MEMORY if memory > self._limits.memory else None

    def _descendants(self) -> Iterator[int]:
        waiting = [self._root]
        while waiting:
            children = _children(waiting.pop())
            waiting += children
            yield from children


def _children(process: int) -> list[int]:
    """Direct children, of every thread; none for a process that has just ended."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        return found
    return found


def _private_memory(process: int) -> int:
    """Resident bytes that are not shared with files; a fork's untouched pages count twice."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{process}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE
