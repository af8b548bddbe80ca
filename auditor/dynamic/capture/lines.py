"""Which lines of the script run at all, so that a clean result is never told of code that did not.

Every function is followed the first few times that it is entered, which bounds the cost.
"""

import sys
from collections import Counter, defaultdict
from types import CodeType, FrameType
from typing import Any

from auditor.dynamic.capture.record import is_script

_ENTRIES = 8  # of one function; later ones seldom take another way


class Lines:
    """Follows the main thread."""

    def __init__(self) -> None:
        self.reached: defaultdict[str, set[int]] = defaultdict(set)
        self._entered: Counter[CodeType] = Counter()

    def install(self) -> None:
        """Starts following."""
        sys.settrace(self._enter)

    def stop(self) -> None:
        """Ends it, for variants need no second record."""
        sys.settrace(None)

    def to_json(self) -> dict[str, list[int]]:
        """Lines by file."""
        return {path: sorted(lines) for path, lines in self.reached.items()}

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if event != "call" or not is_script(code.co_filename):
            return None
        self._entered[code] += 1
        if self._entered[code] > _ENTRIES:
            return None
        return self._line

    def _line(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            self.reached[frame.f_code.co_filename].add(frame.f_lineno)
        return self._line
