"""The books of a submission: what it claims beside what its own logs add up to, run by run.

Everything is computed from figures that keep their lines, so a report can point at each. Nothing
here judges: rules do.
"""

import math
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from auditor.evidence.figures import Claims, Figure, LogClaims, Metric
from auditor.evidence.scored_bytes import TEXT_BYTES

# Of a logged loss and score, and of the text; by vocabulary. Bytes per token over the whole text.
VOCABULARIES: Mapping[str, float] = {
    "bytes": 1.0,
    "1,024 tokens": 2.4359,
    "8,192 tokens, case as tokens of their own": 3.1583,
    "4,096 tokens": 3.3197,
    "8,192 tokens": 3.7265,
}
SAME_VOCABULARY = 0.002
BYTE_TOLERANCE = 0.001  # of the text's bytes: rounding, and a last sequence that is not whole
_PREFIX = re.compile(
    r"^(?:\[[^\]]{0,60}\]:?\s?|(?:info|debug)\b:?\s?|\d[\d:., T-]{5,30}\s)+", re.IGNORECASE
)
_EXACT = re.compile(r"[_ ]exact\b")
_IN_TRAINING = re.compile(
    r"^(?:>>> )?(?:step|\d+/\d+|s:\d|iter|epoch)|epoch \d|best_|temp_", re.IGNORECASE
)
_PER_RUN = re.compile(
    r"seed|run_?id|path|dir|file|log|time|rank|port|date|uuid|name|host|device|cache|pattern|world"
)


@dataclass(frozen=True)
class TagScores:
    """The scores that logs print under one tag, one a run. Values in bits per byte."""

    tag: str
    metrics: tuple[Metric, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """Bits per byte, by run."""
        return tuple(metric.val_bpb for metric in self.metrics if metric.val_bpb is not None)

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the runs, with n - 1; None for one run."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class ClaimCheck:
    """A claimed score held against the logs, tag by tag.

    `basis` is `mean` or `run`, as the claim equals the mean of a tag's scores or the score of one
    run; `none` if no tag gives it, and then `scores` are the last that the logs print.
    """

    claim: Figure
    basis: str
    scores: TagScores | None

    @property
    def difference(self) -> float | None:
        """The claim less the mean of the scores, in bits per byte."""
        return self.claim.value - self.scores.mean if self.scores is not None else None

    def words(self) -> str:
        """The outcome as a clause."""
        if self.scores is None:
            return "no log reports a score"
        runs = len(self.scores.values)
        tag = self.scores.tag or "no tag"
        if self.basis == "mean":
            return f"the mean of {runs} runs under {tag!r}" if runs > 1 else f"the run of {tag!r}"
        if self.basis == "run":
            return f"one of {runs} runs under {tag!r}, whose mean is {self.scores.mean:.6f}"
        return f"no score in the logs; the last, {tag!r}, has mean {self.scores.mean:.6f}"


@dataclass(frozen=True)
class Difference:
    """A hyperparameter that is not the same in all logs: path of the log, line and value."""

    name: str
    values: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True)
class ScoredText:
    """Which text a score was divided by, as its loss in nats and its bits per byte imply."""

    metric: Metric
    per_token: float
    total: float | None
    vocabulary: str | None

    @property
    def correction(self) -> float | None:
        """What the score must be multiplied by if it was of the whole text, with other bytes."""
        if self.total is None or abs(self.total / TEXT_BYTES - 1) <= BYTE_TOLERANCE:
            return None
        return self.total / TEXT_BYTES


def plain_tag(tag: str) -> str:
    """A tag without time stamps, ranks, and the mark of a line with more digits."""
    return _EXACT.sub("", _PREFIX.sub("", tag)).strip(" :")


def scores_by_tag(claims: Claims) -> list[TagScores]:
    """What the logs report after training, by tag, in the order in which tags are last printed.

    Of `x` and `x_exact` the exact one stands; of several lines of a run under one tag the last.
    """
    found: dict[str, dict[tuple[str, float | None], Metric]] = {}
    for log in claims.logs:
        for metric in log.metrics:
            tag = plain_tag(metric.tag)
            if metric.val_bpb is None or not 0 < metric.val_bpb < 32 or _IN_TRAINING.search(tag):
                continue
            exact = bool(_EXACT.search(metric.tag))
            seed = log.run_of(metric.evidence.line)
            run = (log.path, seed.value if seed else None)
            own = found.pop(tag, {})
            if exact or run not in own or not _EXACT.search(own[run].tag):
                own[run] = metric
            found[tag] = own
    return [TagScores(tag, tuple(own.values())) for tag, own in found.items()]


def check_claim(claim: Figure | None, scores: list[TagScores]) -> ClaimCheck | None:
    """Which tag a claimed score comes from: tags printed last, and means, are tried first."""
    if claim is None:
        return None
    if not scores:
        return ClaimCheck(claim, "none", None)
    latest = scores[::-1]
    means = [own for own in latest if _is(claim.value, own.mean, own.values)]
    if means:
        nearest = min(means, key=lambda own: round(abs(own.mean - claim.value), 6))
        return ClaimCheck(claim, "mean", nearest)
    for own in latest:
        if any(_is(claim.value, value, [value]) for value in own.values):
            return ClaimCheck(claim, "run", own)
    return ClaimCheck(claim, "none", latest[0])


def _is(claim: float, score: float, values: Iterable[float]) -> bool:
    return abs(score - claim) <= _rounding(claim, values)


def _rounding(claim: float, values: Iterable[float]) -> float:
    """Half a unit of the claim's last digit, and half of the finest value's; within 1e-5 and 5e-4,
    for a claim of two digits equals too much."""
    own = 0.51 * 10.0 ** -_decimals(claim) + 0.5 * 10.0 ** -max(map(_decimals, values))
    return min(max(1e-5, own), 5e-4)


def _decimals(value: float) -> int:
    return len(repr(value).partition(".")[2]) if "e" not in repr(value) else 8


def differences(logs: Iterable[LogClaims]) -> list[Difference]:
    """Hyperparameters whose dumps differ between logs, but those that differ by nature."""
    by_name: dict[str, dict[str, tuple[int, str]]] = {}
    for log in logs:
        for name, setting in log.settings.items():
            if not _PER_RUN.search(name):
                own = by_name.setdefault(name, {})
                own[log.path] = (setting.evidence.line, setting.value)
    found = []
    for name, own in sorted(by_name.items()):
        if len({value for _, value in own.values()}) > 1:
            values = tuple((path, line, value) for path, (line, value) in sorted(own.items()))
            found.append(Difference(name, values))
    return found


def scored_texts(claims: Claims, scores: TagScores | None) -> Iterator[ScoredText]:
    """The text behind every score of a tag that has a loss in nats beside it."""
    tokens = {log.path: log.run.val_tokens for log in claims.logs}
    for metric in scores.metrics if scores is not None else ():
        if metric.val_loss and metric.val_bpb and metric.val_loss > 0 and metric.val_bpb > 0:
            per_token = metric.val_loss / metric.val_bpb / math.log(2)
            count = tokens[metric.evidence.path]
            total = per_token * count.value if count is not None else None
            yield ScoredText(metric, per_token, total, _vocabulary(per_token))


def corrected_bpb(texts: Iterable[ScoredText]) -> float | None:
    """The mean of scores over the text's own bytes, if all of them were divided by others."""
    known = []
    for text in texts:
        if text.correction is None or text.metric.val_bpb is None:
            return None
        known.append(text.correction * text.metric.val_bpb)
    return statistics.fmean(known) if known else None


def _vocabulary(per_token: float) -> str | None:
    near = (n for n, v in VOCABULARIES.items() if abs(per_token / v - 1) <= SAME_VOCABULARY)
    return next(near, None)
