"""Reads from a log how the run went: how much data it saw, what it did after training stopped.

Patterns are linear in a line of bounded length; each is tried only where its word stands.
"""

import re

from auditor.evidence.figures import Block, Calibration, CalibrationData, Figure, RunFacts
from auditor.finding import Evidence

NUMBER = r"(\d{1,9}(?:\.\d{0,9})?)"
VAL_TOKENS = re.compile(
    r"(?:\bval_tokens|\bvalidation tokens|\bval_loader:.{0,400}?\btokens)\s{0,4}[:=]\s{0,4}"
    r"(\d[\d,_]{0,14})",
    re.IGNORECASE,
)
TRAIN_SHARDS = re.compile(r"\btrain_shards\s{0,4}[:=]\s{0,4}(\d{1,6})\b", re.IGNORECASE)
RESERVE = re.compile(
    rf"(?<![a-z])reserv(?:e_seconds|ing)\s{{0,4}}[:=]?\s{{0,4}}{NUMBER}\s?(ms|s)?\b"
)
CALIBRATION = re.compile(
    r"calibrat|\bhessians?\b.{0,80}(?:collect|from)|collect\w{0,4}\b.{0,40}\bhessians?\b|"
    r"\bgptq:\s?generated\b",
    re.IGNORECASE,
)
CALIBRATION_WORDS = ("calib", "hessian", "gptq")
TOOK = re.compile(rf"(?:\bin\s|\btime[=:]\s?|\belapsed[=:]\s?|\(){NUMBER}\s?(ms|s)\b")
GENERATED = re.compile(
    r"self[- ]?gen|autoregressive|generat|random|synthetic|validation|\bval\b", re.IGNORECASE
)
EVALUATION = re.compile(
    rf"\b(?:\w{{0,40}}_)?eval[_ ]time\s{{0,4}}[:=]\s{{0,4}}{NUMBER}\s?(ms|s)?\b", re.IGNORECASE
)
OUTSIDE = re.compile(
    rf"\bprecompute\w{{0,40}}outside\w{{0,40}}.{{0,40}}elapsed[=:]\s?{NUMBER}\s?(ms|s)\b"
)
# Of the training on validation tokens that stands outside of any evaluation's timer.
ADAPTATION = re.compile(
    rf"\b\w{{0,20}}ttt\w{{0,20}}\s?:\s?done\b.{{0,40}}?(?:\bin\s|time[=:]\s?|elapsed[=:]\s?)"
    rf"{NUMBER}\s?(ms|s)\b",
    re.IGNORECASE,
)
GATE = re.compile(r"\b([a-z]{1,20}_gate)=(\d{1,12})\b")
NO_SETTING = re.compile(r"^\s{0,8}[A-Za-z_]{1,60}\s?[:=]\s?\S{1,80}$")


class RunReader:
    """Collects the facts of one run, line after line."""

    def __init__(self) -> None:
        self.val_tokens: Figure | None = None
        self.train_shards: Figure | None = None
        self.reserve: Figure | None = None
        self.calibrations: list[Calibration] = []
        self.blocks: list[Block] = []
        self.gates: dict[str, Figure] = {}
        self.stopped = False

    def read(self, line: str, low: str, evidence: Evidence) -> None:
        """Takes in one line of the log, cut at a bounded length; `low` is it in lower case."""
        if "stopping" in low:
            self.stopped |= "stopping_early" in line
        if "tokens" in low and self.val_tokens is None and (found := VAL_TOKENS.search(line)):
            count = int(found[1].replace(",", "").replace("_", ""))
            self.val_tokens = Figure(count, evidence)
        if "shards" in low and self.train_shards is None and (found := TRAIN_SHARDS.search(line)):
            self.train_shards = Figure(int(found[1]), evidence)
        if "reserv" in low and (found := RESERVE.search(line)):
            self.reserve = Figure(_seconds(found[1], found[2] or "s"), evidence)
        elif any(word in low for word in CALIBRATION_WORDS):
            self._calibration(line, evidence)
        if "precompute" in low and (found := OUTSIDE.search(line)):
            self.blocks.append(Block("precompute", _seconds(found[1], found[2]), evidence))
        elif "eval" in low and (found := EVALUATION.search(line)):
            unit = found[2] or ("s" if "." in found[1] else "ms")
            self.blocks.append(Block("evaluation", _seconds(found[1], unit), evidence))
        elif "ttt" in low and "bpb" not in low and (found := ADAPTATION.search(line)):
            self.blocks.append(Block("adaptation", _seconds(found[1], found[2]), evidence))
        if "_gate=" in low and "tilt" in low:
            self.gates |= {n: Figure(int(count), evidence) for n, count in GATE.findall(line)}

    def _calibration(self, line: str, evidence: Evidence) -> None:
        if not CALIBRATION.search(line) or NO_SETTING.match(line):
            return
        took = TOOK.search(line)
        data: CalibrationData = "unknown"
        if GENERATED.search(line):
            data = "generated"
        elif "train" in line.lower():
            data = "training"
        seconds = _seconds(took[1], took[2]) if took else None
        self.calibrations.append(Calibration(data, seconds, self.stopped, evidence))

    def facts(self) -> RunFacts:
        """What the lines said."""
        return RunFacts(
            self.val_tokens,
            self.train_shards,
            self.reserve,
            tuple(self.calibrations),
            tuple(self.blocks),
            dict(self.gates),
        )


def _seconds(text: str, unit: str) -> float:
    return float(text) / (1000.0 if unit == "ms" else 1.0)
