"""What an interrupted run leaves behind, so that the next one continues instead of starting over.

Each finished stage keeps its result as JSON and its log lines; the training stage keeps its own
checkpoints beside them. The folder goes once the record is written.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hedge_record.errors import RecordError
from hedge_record.files import append_line, make_folder, write_atomically
from hedge_record.progress import Reporter


class StageReporter:
    """Passes everything on, and appends log lines to the stage's own file, line by line."""

    def __init__(self, reporter: Reporter, path: Path) -> None:
        self._reporter = reporter
        self._path = path
        self.start, self.advance, self.finish = reporter.start, reporter.advance, reporter.finish

    def log(self, line: str) -> None:
        """Keeps the line, then passes it on."""
        append_line(self._path, line)
        self._reporter.log(line)


class WorkFolder:
    """The folder of one run: a configuration on certain data.

    Without `reuse` nothing of an earlier session is read: several ranks could not agree on it.
    """

    def __init__(self, path: Path, *, reuse: bool = True) -> None:
        self.path = make_folder(path)
        self._reuse = reuse
        self._stages: list[str] = []

    def stage(
        self,
        name: str,
        compute: Callable[[Reporter], dict[str, Any]],
        reporter: Reporter,
        *,
        resumable: bool = False,
    ) -> dict[str, Any]:
        """The result of a stage, computed now or read back; `seconds` is added to it.

        A `resumable` stage keeps the log lines of its interrupted sessions.
        """
        self._stages.append(name)
        result_path, log_path = self.path / f"{name}.json", self.path / f"{name}.log"
        if self._reuse and result_path.is_file():
            return _read_json(result_path)
        if not resumable:
            log_path.unlink(missing_ok=True)
        started = time.perf_counter()
        result = compute(StageReporter(reporter, log_path))
        result = {"seconds": time.perf_counter() - started, **result}
        write_atomically(result_path, json.dumps(result))
        return result

    def log_lines(self) -> list[str]:
        """The whole log in the order of the stages, whatever sessions it took."""
        lines: list[str] = []
        for name in self._stages:
            path = self.path / f"{name}.log"
            if path.is_file():
                lines += path.read_text(encoding="utf-8").splitlines()
        return without_repeated_steps(lines)

    def remove(self) -> None:
        """Deletes the folder: its run is complete."""
        shutil.rmtree(self.path, ignore_errors=True)


def without_repeated_steps(lines: list[str]) -> list[str]:
    """Drops the steps that ran after the last checkpoint of an interrupted session.

    They ran again after the line `resumed:step:K/N`, with the same losses.
    """
    kept: list[str] = []
    for line in lines:
        if line.startswith("resumed:step:"):
            checkpoint = _step_of(line.removeprefix("resumed:"))
            kept = [
                earlier
                for earlier in kept
                if not earlier.startswith("step:") or _step_of(earlier) <= checkpoint
            ]
        kept.append(line)
    return kept


def _step_of(line: str) -> int:
    return int(line.removeprefix("step:").split("/")[0])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: damaged; delete it and run again") from error
    return content
