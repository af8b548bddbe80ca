"""One audited run: installs the hooks, forks the variants of the job, tells what was noted."""

import gc
import os
import platform
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch

from auditor.dynamic.capture import pokes
from auditor.dynamic.capture.files import Files, change
from auditor.dynamic.capture.lines import Lines
from auditor.dynamic.capture.printed import Printed
from auditor.dynamic.capture.record import FROM_ARTIFACT, Recorder, Site
from auditor.dynamic.capture.reductions import Reductions
from auditor.dynamic.capture.steps import Steps
from auditor.dynamic.device.clock import real_monotonic
from auditor.dynamic.device.run import Run

_SCORED = 76  # that of a child that scored its token as it should
_RETURN = 77  # the exit code of a process that is to be repeated from its copy on
_LONGER = 3.0  # times as long as the run itself, a variant is stopped


def install(run: Run, settings: Mapping[str, Any]) -> Callable[[], Any]:
    """Puts all hooks in place; returns what collects their notes at the end of the run."""
    session = Session(run, settings)
    session.install()
    return session.collect


class Session:
    """The hooks of this process and the variants that it is to fork."""

    def __init__(self, run: Run, settings: Mapping[str, Any]) -> None:
        self.run = run
        self.recorder = Recorder(keep=settings.get("keep", 1 << 17))
        self.variants = list(settings.get("variants", ()))
        self.pokes = [pokes.Poke.read(entry) for entry in settings.get("pokes", ())]
        self.fallback = [pokes.Poke.read(entry) for entry in settings.get("fallback", ())]
        self.may_return = False
        self.poked: tuple[pokes.Poke, int] | None = None  # in a child: the poke and its token
        self.reserved = float(settings.get("reserved", 0.0))
        names = {moment: settings.get(moment, ()) for moment in ("training", "validation")}
        self.files = Files(self.recorder, names, self._reached)
        self.files.later = dict(settings.get("later", {}))
        self.lines = Lines()
        self.steps = Steps(self.recorder, self._stepped)
        self.reductions = Reductions(self.recorder, self._seen)

    def install(self) -> None:
        """Replaces what is watched. Objects made so far are out of `pokes`' sight."""
        self.files.install()
        self.steps.install()
        self.reductions.install()
        sys.stdout = Printed(sys.stdout, self.recorder.print)
        gc.collect()
        gc.freeze()
        self.lines.install()

    def collect(self) -> dict[str, Any]:
        """What this process tells, without the values, which are sent apart."""
        self.lines.stop()
        self.files.inside = True  # what is opened from now on is not the script's
        entry, values = self.recorder.packed()
        self.run.send("values", values)
        if not self.run.variant:
            self.run.send("artifact", self.files.artifact)
        return entry | {
            "artifacts": self.files.artifacts(),
            "lines": self.lines.to_json(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def _reached(self, moment: str) -> None:
        if self.run.variant:
            return
        if moment == "artifact":
            self._may_return()
            for number, poke in enumerate(self.pokes):
                if poke.after is None and self._poke(number, poke):
                    return
        moments = {moment, "data"} if moment != "artifact" else {moment}
        variants = [variant for variant in self.variants if variant["at"] in moments]
        self.variants = [variant for variant in self.variants if variant not in variants]
        if variants and threading.active_count() > 1:
            self.recorder.notes.append("threads run, which a copy of the process would not have")
        elif variants:
            self._vary(variants)

    def _may_return(self) -> None:
        """Keeps a copy of this process here, in case that replacing tokens later finds out that
        they had been read by then: it replaces others, from here on."""
        later = bool(self.pokes) and self.pokes[0].after is not None
        if not (later and self.fallback) or threading.active_count() > 1:
            return
        code = self.run.split()
        if code is None:
            self.may_return = True
        elif code == _RETURN:
            self.pokes = self.fallback
            self.recorder.notes.append(FROM_ARTIFACT)
        else:
            self.run.leave(code)

    def _vary(self, variants: list[Mapping[str, Any]]) -> None:
        """Lets the run itself go on first, as a copy, so that its results are there whatever comes;
        then one variant after the other, while there is time for them. Returns in each of these."""
        started = real_monotonic()
        code = self.run.split()
        if code is None:
            return
        took = real_monotonic() - started
        for variant in variants:
            seconds = min(self._left(), _LONGER * took + 1.0)
            if seconds < took:
                break
            if self.run.fork(variant["name"], seconds):
                self.lines.stop()
                self.recorder.forget()
                self.pokes = []
                change(variant.get("files", {}))
                self.files.later = variant.get("later", {})
                return
        self.run.leave(code)

    def _left(self) -> float:
        """Seconds that variants may still take."""
        return self.run.left() - self.reserved

    def _seen(self, site: Site, ordinal: int) -> None:
        self.steps.look()
        if self.poked is not None:
            self._poked(site, ordinal, *self.poked)
        for number, poke in enumerate(self.pokes):
            here = (poke.site, poke.after) == (site, ordinal) and poke.step is None
            if here and self._poke(number, poke):
                return

    def _stepped(self, count: int) -> None:
        for number, poke in enumerate(self.pokes):
            if poke.step == count and self._poke(number, poke):
                return

    def _poked(self, site: Site, ordinal: int, poke: pokes.Poke, token: int) -> None:
        """Ends a child when it has scored its token."""
        if (poke.site, poke.until) == (site, ordinal):
            latest = self.recorder.sites[site].latest
            losses = [value for r in latest for value in r.values.tolist()]
            self.run.send_json("losses", losses)
            os._exit(_RETURN if poke.contradicts(token, losses) else _SCORED)

    def _poke(self, number: int, poke: pokes.Poke) -> bool:
        """Forks a variant a token; True in one of them."""
        with self.files.unwatched():
            copies = pokes.find(poke.stream, poke.index)
            for token in poke.values:
                if self._left() < 0:
                    break
                if self.run.fork(f"poke-{number}-{token}", self._left()):
                    self.lines.stop()
                    copies.write(token)
                    self.recorder.forget()
                    self.pokes, self.poked = [], (poke, token)
                    return True
                ended = self.run.code >= 0  # else there was no time for it
                if self.may_return and token in poke.known and ended and self.run.code != _SCORED:
                    os._exit(_RETURN)
            self.recorder.notes.append(f"poke {number}: {copies}")
        return False
