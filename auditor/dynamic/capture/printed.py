"""Standard output that notes what passes, between the other events."""

import io
from typing import TextIO

from auditor.dynamic.capture.record import Recorder


class Printed(io.TextIOWrapper):
    """Writes on to the buffer of another stream."""

    def __init__(self, stream: TextIO, recorder: Recorder) -> None:
        super().__init__(stream.buffer, encoding="utf-8", errors="replace", write_through=True)
        self._stream = stream  # collected, it would close the buffer
        self._recorder = recorder
        self._line = ""

    def write(self, text: str) -> int:
        """Notes the lines that `text` ends."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._recorder.print(line)
        return super().write(text)
