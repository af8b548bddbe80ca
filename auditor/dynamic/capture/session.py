"""One audited run: installs the hooks, forks the variants of the job, tells what was noted."""

import gc
import os
import platform
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from auditor.dynamic.capture import pokes
from auditor.dynamic.capture.files import Files, change
from auditor.dynamic.capture.lines import Lines
from auditor.dynamic.capture.printed import Printed
from auditor.dynamic.capture.record import Recorder, Site
from auditor.dynamic.capture.reductions import Reductions
from auditor.dynamic.capture.steps import Steps
from auditor.dynamic.device.run import Run


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
        self.until: tuple[Site, int] | None = None
        names = {moment: settings.get(moment, ()) for moment in ("training", "validation")}
        self.files = Files(self.recorder, names, self._reached)
        self.lines = Lines()
        self.steps = Steps(self.recorder)
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
            for number, poke in enumerate(self.pokes):
                if poke.after is None and self._poke(number, poke):
                    return
        for variant in self.variants:
            if variant["at"] == moment and self.run.fork(variant["name"]):
                self.lines.stop()
                self.recorder.forget()
                self.pokes = []
                change(variant.get("files", {}))
                self.files.later = variant.get("later", {})
                return

    def _seen(self, site: Site, ordinal: int) -> None:
        self.steps.look()
        if self.until == (site, ordinal):
            latest = self.recorder.sites[site].latest
            self.run.send_json("losses", [v for r in latest for v in r.values.tolist()])
            os._exit(0)
        for number, poke in enumerate(self.pokes):
            if (poke.site, poke.after) == (site, ordinal) and self._poke(number, poke):
                return

    def _poke(self, number: int, poke: pokes.Poke) -> bool:
        """Forks a variant a token; True in one of them."""
        with self.files.unwatched():
            copies = pokes.find(poke.stream, poke.index)
            for token in poke.values:
                if self.run.fork(f"poke-{number}-{token}"):
                    self.lines.stop()
                    copies.write(token)
                    self.recorder.forget()
                    self.pokes, self.until = [], (poke.site, poke.until)
                    return True
            self.recorder.notes.append(f"poke {number}: {copies}")
        return False
