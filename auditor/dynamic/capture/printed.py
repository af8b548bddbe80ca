"""Standard output that notes what passes, between the other events."""

import io
from collections.abc import Callable
from typing import TextIO


class Printed(io.TextIOWrapper):
    """Writes on to the buffer of another stream, and tells `note` of each whole line."""

    def __init__(self, stream: TextIO, note: Callable[[str], None]) -> None:
        super().__init__(stream.buffer, encoding="utf-8", errors="replace", write_through=True)
        self._stream = stream  # collected, it would close the buffer
        self._note = note
        self._line = ""

    def write(self, text: str) -> int:
        """Notes the lines that `text` ends."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._note(line)
        return super().write(text)
