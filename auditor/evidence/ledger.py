"""The books of a submission: what it claims beside what its own logs add up to, run by run.

Everything is computed from figures that keep their lines, so a report can point at each. Nothing
here judges: rules do.
"""

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from auditor.evidence.figures import Claims, Figure, LogClaims, Metric
from auditor.evidence.scored_text import corrected_bpb, scored_texts

SAME = 1e-4  # bits per byte: a line with four digits, and the exact one after it
CORRECTED = 1e-4  # bits per byte: the text's bytes are known to a few thousand
_PREFIX = re.compile(
    r"^(?:\[[^\]]{0,60}\]:?\s?|(?:info|debug)\b:?\s?|\d[\d:., T-]{5,30}\s)+", re.IGNORECASE
)
_EXACT = re.compile(r"[_ ]exact\b")
_DIGITS = re.compile(r"\d+")
_IN_TRAINING = re.compile(
    r"^(?:>>> )?(?:step|\d+/\d+|s:\d|iter|epoch)|epoch \d|(?:^|:)best_|best_val|temp_(?:search|re)",
    re.IGNORECASE,
)
_PER_RUN = re.compile(
    r"seed|run_?id|path|dir|file|log|time|rank|port|date|uuid|name|host|device|cache|pattern|world"
)


@dataclass(frozen=True)
class TagScores:
    """The scores that logs print under one tag, one a run. Values in bits per byte.

    `earlier` are lines that a later one of the same run takes the place of. `groups` are runs that
    the submission itself sets apart: those whose scores submission.json lists by seed, and those
    whose logs have one name but for numbers. `corrected` is the mean over the text's own bytes,
    where all were divided by more.
    """

    tag: str
    metrics: tuple[Metric, ...]
    earlier: tuple[Metric, ...] = ()
    groups: tuple[tuple[Metric, ...], ...] = ()
    corrected: float | None = None

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

    def parts(self) -> Iterator["TagScores"]:
        """Its groups, each as the scores of the same tag."""
        return (TagScores(self.tag, group) for group in self.groups)


@dataclass(frozen=True)
class ClaimCheck:
    """A claimed score held against the logs, tag by tag.

    `basis` is `mean` or `run`, as the claim equals the mean of a tag's scores or the score of one
    run; `corrected`, if it equals their mean over the bytes that the text has; `none` if no tag
    gives it, and then `scores` are the last that the logs print. `runs` is how many runs the tag
    has, of which `scores` may be a group. `later` are the scores that take the place of a claimed
    line further up.
    """

    claim: Figure
    basis: str
    scores: TagScores | None
    runs: int = 0
    later: TagScores | None = None

    @property
    def difference(self) -> float | None:
        """The claim less the mean of the scores, in bits per byte; less the corrected mean where
        the claim rests on that."""
        if self.scores is None:
            return None
        if self.basis == "corrected" and self.scores.corrected is not None:
            return self.claim.value - self.scores.corrected
        return self.claim.value - self.scores.mean

    def words(self) -> str:
        """The outcome as a clause."""
        if self.scores is None:
            return "no log reports a score"
        runs = len(self.scores.values)
        tag = self.scores.tag or "no tag"
        mean = f"mean {self.scores.mean:.6f}"
        if self.basis == "mean":
            more = f", of {self.runs} in the logs" if self.runs > runs else ""
            return (
                f"the mean of {runs} runs under {tag!r}{more}"
                if runs > 1
                else f"the run of {tag!r}"
            )
        if self.basis == "run":
            if self.later is None:
                return f"one of {runs} runs under {tag!r}, whose mean is {self.scores.mean:.6f}"
            return f"an earlier line under {tag!r}; the last has mean {self.later.mean:.6f}"
        if self.basis == "corrected":
            return (
                f"what {tag!r} comes to over the bytes that the text has; the logs print {mean}, "
                "over more"
            )
        return f"no score in the logs; the last, {tag!r}, has {mean}"


@dataclass(frozen=True)
class Difference:
    """A hyperparameter that is not the same in all logs: path of the log, line and value."""

    name: str
    values: tuple[tuple[str, int, str], ...]


def plain_tag(tag: str) -> str:
    """A tag without time stamps, ranks, and the mark of a line with more digits."""
    return _EXACT.sub("", _PREFIX.sub("", tag)).strip(" :")


def scores_by_tag(claims: Claims) -> list[TagScores]:
    """What the logs report after training, by tag, in the order in which tags are last printed.

    Of `x` and `x_exact` the exact one stands; of several lines of a run under one tag the last; a
    log that is shipped twice counts once.
    """
    found: dict[str, dict[tuple[str, float | None], Metric]] = {}
    earlier: dict[str, list[Metric]] = {}
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
                if run in own and abs((own[run].val_bpb or 0.0) - metric.val_bpb) > SAME:
                    earlier.setdefault(tag, []).append(own[run])
                own[run] = metric
            found[tag] = own
    table = claims.submission_json.seed_bpb if claims.submission_json is not None else ()
    made = []
    for tag, own in found.items():
        metrics = tuple(_once(own))
        groups = tuple(_groups(metrics, [figure.value for figure in table]))
        corrected = corrected_bpb(scored_texts(claims, metrics))
        made.append(TagScores(tag, metrics, tuple(earlier.get(tag, ())), groups, corrected))
    return made


def _once(own: Mapping[tuple[str, float | None], Metric]) -> Iterator[Metric]:
    """The scores of distinct runs: the same seed with the same score is the same run."""
    seen = set()
    for (path, seed), metric in own.items():
        run = (path if seed is None else seed, metric.val_bpb)
        if run not in seen:
            seen.add(run)
            yield metric


def _groups(metrics: Sequence[Metric], table: Sequence[float]) -> Iterator[tuple[Metric, ...]]:
    """The runs that a table by seed lists, and those whose logs are named alike."""
    listed = []
    for value in table:
        near = (m for m in metrics if m not in listed and _equals(value, m))
        listed.append(next(near, None))
    if len(listed) > 1 and None not in listed:
        yield tuple(metric for metric in listed if metric is not None)
    alike: dict[str, list[Metric]] = {}
    for metric in metrics:
        alike.setdefault(_DIGITS.sub("#", metric.evidence.path), []).append(metric)
    yield from (tuple(own) for own in alike.values() if 1 < len(own) < len(metrics))


def check_claim(claim: Figure | None, scores: list[TagScores]) -> ClaimCheck | None:
    """Which tag a claimed score comes from: tags printed last, and means, are tried first."""
    if claim is None:
        return None
    if not scores:
        return ClaimCheck(claim, "none", None)
    latest = scores[::-1]
    for candidates in (latest, [part for own in latest for part in own.parts()]):
        means = [own for own in candidates if _is(claim.value, own.mean, own.values)]
        if means:
            nearest = min(means, key=lambda own: round(abs(own.mean - claim.value), 6))
            runs = max(len(own.values) for own in scores if own.tag == nearest.tag)
            return ClaimCheck(claim, "mean", nearest, runs)
    for own in latest:
        if any(_equals(claim.value, metric) for metric in own.metrics):
            return ClaimCheck(claim, "run", own, len(own.values))
    for own in latest:
        if line := next((m for m in reversed(own.earlier) if _equals(claim.value, m)), None):
            return ClaimCheck(claim, "run", TagScores(own.tag, (line,)), later=own)
    for own in latest:
        if own.corrected is not None and abs(claim.value - own.corrected) <= CORRECTED:
            return ClaimCheck(claim, "corrected", own, len(own.values))
    return ClaimCheck(claim, "none", latest[0], len(latest[0].values))


def line_in_training(claims: Claims, check: ClaimCheck | None) -> Metric | None:
    """The last line in training whose score is a claim that no line after training has."""
    if check is None or check.basis != "none":
        return None
    lines = (metric for log in claims.logs for metric in log.metrics)
    training = [m for m in lines if _IN_TRAINING.search(plain_tag(m.tag))]
    return next((m for m in reversed(training) if _equals(check.claim.value, m)), None)


def unlogged(table: Iterable[Figure], scores: Sequence[TagScores]) -> Iterator[Figure]:
    """The scores by seed of submission.json that no log prints, if any log prints scores."""
    printed = [metric for own in scores for metric in (*own.metrics, *own.earlier)]
    for figure in table if printed else ():
        if not any(_equals(figure.value, metric) for metric in printed):
            yield figure


def _equals(claim: float, metric: Metric) -> bool:
    return metric.val_bpb is not None and _is(claim, metric.val_bpb, [metric.val_bpb])


def _is(claim: float, score: float, values: Sequence[float]) -> bool:
    return abs(score - claim) <= _rounding(claim, values)


def _rounding(claim: float, values: Sequence[float]) -> float:
    """Half a unit of the claim's last digit, and half of the finest value's; within 1e-5 and 5e-4,
    for a claim of two digits equals too much. The mean of rounded scores is off by half a unit
    more."""
    units = 0.51 if len(values) == 1 else 1.02
    own = units * 10.0 ** -_decimals(claim) + 0.5 * 10.0 ** -max(map(_decimals, values))
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
