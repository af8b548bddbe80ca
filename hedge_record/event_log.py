"""Runs that other programs watch: events as JSON lines, and figures for a tracker."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from hedge_record.errors import RecordError
from hedge_record.progress import Reporter

SECONDS_BETWEEN_EVENTS = 1.0  # of one stage's progress
TRACKERS = ("tensorboard", "trackio")


class JsonReporter:
    """Prints one JSON object a line: `start`, `progress`, `finish` of a stage, `log` lines."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._stage = ""
        self._done = 0.0
        self._told = 0.0

    def start(self, stage: str, total: float, unit: str) -> None:
        """`{"event": "start", "stage": ..., "total": ..., "unit": ...}`."""
        self._stage, self._done, self._told = stage, 0.0, 0.0
        self.event("start", stage=stage, total=total, unit=unit)

    def advance(self, amount: float, **figures: float) -> None:
        """`{"event": "progress", "stage": ..., "done": ...}` and the figures, once a second."""
        self._done += amount
        if time.monotonic() - self._told >= SECONDS_BETWEEN_EVENTS:
            self._told = time.monotonic()
            self.event("progress", stage=self._stage, done=self._done, **figures)

    def finish(self) -> None:
        """`{"event": "finish", "stage": ..., "done": ...}`."""
        self.event("finish", stage=self._stage, done=self._done)

    def log(self, line: str) -> None:
        """`{"event": "log", "line": ...}`."""
        self.event("log", line=line)

    def event(self, event: str, **content: object) -> None:
        """One object."""
        print(json.dumps({"event": event, **content}), file=self._stream, flush=True)


class Tracker(Protocol):
    """Where curves are drawn."""

    def add(self, name: str, value: float, step: int) -> None:
        """One point."""


class TrackingReporter:
    """Passes everything on, and every figure to a tracker under `<stage>/<figure>`."""

    def __init__(self, reporter: Reporter, tracker: Tracker) -> None:
        self._reporter, self._tracker = reporter, tracker
        self._stage = ""
        self._done = 0.0
        self.finish, self.log = reporter.finish, reporter.log

    def start(self, stage: str, total: float, unit: str) -> None:
        """Passes on; curves of a stage begin at 0."""
        self._stage, self._done = stage.replace(" ", "_"), 0.0
        self._reporter.start(stage, total, unit)

    def advance(self, amount: float, **figures: float) -> None:
        """A point per figure, at what is done of the stage."""
        self._done += amount
        for name, value in figures.items():
            self._tracker.add(f"{self._stage}/{name}", value, int(self._done))
        self._reporter.advance(amount, **figures)


@contextmanager
def tracked(reporter: Reporter, kind: str | None, name: str, folder: Path) -> Iterator[Reporter]:
    """The reporter, tracked where `kind` names a tracker; files of tensorboard go to `folder`.

    Raises:
        RecordError: the tracker is not installed.
    """
    if kind is None:
        yield reporter
        return
    try:
        tracker = _TensorBoard(folder / name) if kind == "tensorboard" else _Trackio(name)
    except ImportError as error:
        raise RecordError(
            f"--track {kind}: not installed; pip install 'parameter-golf-proof[tracking]'"
        ) from error
    try:
        yield TrackingReporter(reporter, tracker)
    finally:
        tracker.close()


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def add(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Trackio:
    def __init__(self, name: str) -> None:
        import trackio

        self._trackio = trackio
        trackio.init(project="hedge-record", name=name)

    def add(self, name: str, value: float, step: int) -> None:
        self._trackio.log({name: value}, step=step)

    def close(self) -> None:
        self._trackio.finish()
