"""Reads the scores that a line of a log reports, whatever the log calls them.

`val_loss` and `val_bpb` are what the baseline prints. Where a line has neither, any number under a
name that ends in `bpb` is a score, unless the line shows progress (a running mean over part of the
text) or a difference of two scores.
"""

import re

from auditor.evidence.figures import Metric
from auditor.finding import Evidence

NUMBER = r"[-+]?\d{1,20}(?:\.\d{0,20})?(?:[eE][-+]?\d{1,3})?"
_BETWEEN = r"(?:\s?\([^()]{0,30}\))?\"?\s{0,12}(?:[:=|]\s{0,12})?(?:\*\*)?"
# A brace before the name is a format string: source that a log repeats.
_SCORE = re.compile(rf"(?<![{{\w])(val_loss|val_bpb){_BETWEEN}({NUMBER})(?![\w.])")
_ANY_BPB = re.compile(
    rf"(?<![{{\w.])((?:[a-z][\w-]{{0,40}}[_ -])?)bpb{_BETWEEN}({NUMBER})(?![\w.])", re.IGNORECASE
)
_ANY_LOSS = re.compile(
    rf"(?<![{{\w])(?:\w{{0,30}}_)?(?:val_loss|validation_loss|vl){_BETWEEN}({NUMBER})(?![\w.])"
)
_EVAL_TIME = re.compile(rf"\beval_time\s{{0,4}}[:=]\s{{0,4}}({NUMBER})\s?(ms|s)?")
_PROGRESS = re.compile(
    r"running|partial|progress|train_(?:loss|bpb)|\beta\b|\d%|\[\s?\d{1,9}/|"
    r"\b(?:chunk|batch|step|windows?|docs?|epoch|seq|s)[ :=\[]\s?\d{1,9}(?:/|\s\|)",
    re.IGNORECASE,
)
_DIFFERENCE = re.compile(
    r"delta|gain|improv|gap|diff|threshold|target|base|prior|sota|train|calib|std|min|max|inf",
    re.IGNORECASE,
)
MILLISECONDS = {"ms": 1.0, "s": 1000.0, "m": 60_000.0, "min": 60_000.0}
TAG_LIMIT = 80


def read_scores(line: str, evidence: Evidence) -> list[Metric]:
    """The scores of one line, cut at a bounded length; usually none or one."""
    if "val_loss" in line or "val_bpb" in line:
        found = list(_SCORE.finditer(line))
        if found:
            # Of several on one line the last counts: a summary repeats the partial ones first.
            scores = {match[1]: float(match[2]) for match in found}
            tag = _tag(line[: found[0].start()])
            loss, bpb = scores.get("val_loss"), scores.get("val_bpb")
            return [Metric(tag, loss, bpb, _milliseconds(line), evidence)]
    if "bpb" not in line and "BPB" not in line:
        return []
    return [] if _PROGRESS.search(line) else _named_otherwise(line, evidence)


def _named_otherwise(line: str, evidence: Evidence) -> list[Metric]:
    losses = _ANY_LOSS.search(line)
    metrics = []
    for match in _ANY_BPB.finditer(line):
        if not _DIFFERENCE.search(match[1]):
            first = min(match.start(), losses.start()) if losses else match.start()
            tag = _tag(f"{line[:first]} {match[1]}")
            loss = float(losses[1]) if losses else None
            metrics.append(Metric(tag, loss, float(match[2]), _milliseconds(line), evidence))
    # One loss belongs to one score: beside several it is not known to which.
    if len(metrics) > 1:
        return [Metric(m.tag, None, m.val_bpb, m.eval_ms, evidence) for m in metrics]
    return metrics


def _tag(text: str) -> str:
    return " ".join(text.strip(" \t:=|,-_\"'*").split())[:TAG_LIMIT]


def _milliseconds(line: str) -> float | None:
    timed = _EVAL_TIME.search(line) if "eval_time" in line else None
    return float(timed[1]) * MILLISECONDS[timed[2] or "ms"] if timed else None
