"""Time as a counter: every look at a clock is one millisecond after the last.

A run then takes the same branches on any machine, however busy, and a fork of it too. Sleeping
takes no time. Budgets in seconds become budgets in looks at the clock, which shrunken runs do not
exhaust.
"""

import time

from auditor.dynamic.device.patching import replace

STEP = 1e-3  # seconds per look
_START = 1_700_000_000.0

real_monotonic = time.monotonic


class Clock:
    """The counter."""

    def __init__(self) -> None:
        self.looks = 0

    def seconds(self) -> float:
        """The time, one step on."""
        self.looks += 1
        return _START + self.looks * STEP

    def nanoseconds(self) -> int:
        """The same in integers."""
        return round(self.seconds() * 1e9)


clock = Clock()


def install() -> None:
    """Replaces every clock of `time`; `sleep` returns at once."""
    for name in ("time", "perf_counter", "monotonic", "process_time", "thread_time"):
        replace(time, **{name: clock.seconds, f"{name}_ns": clock.nanoseconds})
    replace(time, sleep=lambda _seconds: None)
