"""Notes what every printed line had cost by then, and sends files that the script left behind.

The counter stands in for the script's clocks; the kernel's own accounts tell what was really spent.
"""

import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any

from auditor.dynamic.capture.printed import Printed
from auditor.dynamic.device.run import Run

_KIBIBYTE = 1024  # the unit of `ru_maxrss`
Line = tuple[float, int, str]  # CPU seconds, peak resident bytes, text


def install(run: Run, settings: Mapping[str, Any]) -> Callable[[], list[Line]]:
    """Watches standard output; `settings["keep"]` names files of the script's folder to send."""
    lines: list[Line] = []

    def note(text: str) -> None:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        lines.append((spent.ru_utime + spent.ru_stime, spent.ru_maxrss * _KIBIBYTE, text))

    def collect() -> list[Line]:
        for name in settings.get("keep", ()):
            path = run.work / run.settings["folder"] / name
            if path.is_file():
                run.send(f"kept:{name}", path.read_bytes())
        return lines

    sys.stdout = Printed(sys.stdout, note)
    return collect
