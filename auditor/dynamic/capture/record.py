"""The record of one process, in order: what it reduced to numbers, printed, stepped and opened.

One counter numbers all events. Of each place in the script only the latest values are kept, so that
a long run needs no more memory than a short one.
"""

import sys
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.dynamic.device.clock import real_monotonic

Floats = NDArray[np.float64]
FROM_ARTIFACT = "tokens were replaced from the artifact on"  # a note: see `session`
BY_HAND = "by hand"  # ends the place of a weight change that no optimizer made
_OURS = "/auditor/dynamic/"
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python3", "<frozen ")
_MOST_TEXT = 2000  # characters kept of a printed line
_MOST_BYTES = 512 << 20  # of unpacked values; no honest run comes near


class Site(NamedTuple):
    """A place in the script where something is reduced; `kind` is the reduction's name, `at` the
    offset of the instruction in its function, as a line may hold several."""

    path: str
    line: int
    kind: str
    at: int = 0


class Reduced(NamedTuple):
    """One reduction: its number among all events and among those of its site, when it was (seconds
    of the real clock, which is no part of any result), and the float64 values that went in."""

    tick: int
    ordinal: int
    seconds: float
    values: Floats


@dataclass
class _Kept:
    """The latest reductions of one site, up to `Recorder.keep` values."""

    latest: deque[Reduced] = field(default_factory=deque)
    held: int = 0
    count: int = 0


@dataclass
class Recorder:
    """Collects. `keep` bounds the values kept of each site."""

    keep: int = 1 << 17
    tick: int = 0
    sites: dict[Site, _Kept] = field(default_factory=dict)
    printed: list[tuple[int, str]] = field(default_factory=list)
    steps: list[tuple[int, str, str]] = field(default_factory=list)
    files: list[tuple[int, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def now(self) -> int:
        """The next event's number."""
        self.tick += 1
        return self.tick

    def reduced(self, site: Site, values: Floats) -> int:
        """Notes one reduction; returns its ordinal at its site, from 1."""
        kept = self.sites.setdefault(site, _Kept())
        kept.count += 1
        kept.latest.append(Reduced(self.now(), kept.count, real_monotonic(), values))
        kept.held += values.size
        while kept.held - kept.latest[0].values.size >= self.keep:
            kept.held -= kept.latest.popleft().values.size
        return kept.count

    def print(self, text: str) -> None:
        """Notes printed text, line by line."""
        for line in text.splitlines():
            if line.strip():
                self.printed.append((self.now(), line[:_MOST_TEXT]))

    def step(self, digest: str, place: str) -> None:
        """Notes that weights changed: `digest` of them afterwards."""
        self.steps.append((self.now(), digest, place))

    def file(self, action: str, path: str) -> None:
        """Notes that a file was opened: `read`, `write`; or that a connection was tried."""
        self.files.append((self.now(), action, path))

    def forget(self) -> None:
        """Drops all that was noted so far, but not the counts: a child tells what comes after."""
        for kept in self.sites.values():
            kept.latest.clear()
            kept.held = 0
        for noted in (self.printed, self.steps, self.files, self.notes):
            noted.clear()

    def packed(self) -> tuple[dict[str, Any], bytes]:
        """Plain data, and the values of all sites as compressed little-endian float64."""
        sites, values = [], []
        for site, kept in self.sites.items():
            events = [(r.tick, r.ordinal, r.seconds, r.values.size) for r in kept.latest]
            sites.append({"site": list(site), "events": events})
            values += [r.values for r in kept.latest]
        flat = np.concatenate(values) if values else np.zeros(0)
        entry = {
            "sites": sites,
            "printed": self.printed,
            "steps": self.steps,
            "files": self.files,
            "notes": self.notes,
        }
        return entry, zlib.compress(flat.astype("<f8").tobytes(), 1)


def unpack(entry: Mapping[str, Any], values: bytes) -> dict[Site, list[Reduced]]:
    """The reductions that `Recorder.packed` told of.

    Raises `KeyError`, `TypeError`, `ValueError` or `zlib.error` for anything else.
    """
    inflate = zlib.decompressobj()
    flat = np.frombuffer(inflate.decompress(values, _MOST_BYTES), "<f8")
    found: dict[Site, list[Reduced]] = {}
    start = 0
    for held in entry["sites"]:
        path, line, kind, at = held["site"]
        events = found.setdefault(Site(str(path), int(line), str(kind), int(at)), [])
        for tick, ordinal, seconds, size in held["events"]:
            taken = flat[start : start + size]
            events.append(Reduced(int(tick), int(ordinal), float(seconds), taken))
            start += size
    if start != flat.size:
        raise ValueError(f"{flat.size} values for {start} places")
    return found


def place(depth: int = 1) -> tuple[str, int, int]:
    """The innermost line of the script on the stack: its file's path, the line, and the offset of
    the instruction."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        if is_script(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno, frame.f_lasti
        frame = frame.f_back
    return "", 0, 0


def is_script(path: str) -> bool:
    """Whether code of this file is the script's own: no library's, and not ours."""
    return _OURS not in path and not any(part in path for part in _LIBRARIES)


def scored(losses: Sequence[float], counted: int, *, masked: bool) -> list[float]:
    """The last `counted` of a place's losses, as earlier ones are of earlier evaluations; without
    the zeros that a mask left."""
    kept = [loss for loss in losses if loss != 0 or not masked]
    return kept[len(kept) - counted :] if counted < len(kept) else kept
