"""Which values a printed score is the mean of: the per-token losses of the submitted metric.

Nothing is known of the script. A site whose latest values, up to the moment of printing, have the
printed mean to its last digit is where the score comes from. Zeros are also tried as what a mask
left out. Where only bits per byte are printed, the sum of the losses must give them with the
text's bytes.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.dynamic.capture.record import Floats, Reduced, Site
from auditor.dynamic.probes.trace import Trace, values_of
from auditor.evidence.figures import Metric

_FLOAT32 = 2e-7  # relative; what a script accumulates in single precision
_EXACT = 6  # digits after which a mean is no coincidence
_LOOSE, _TIGHT = (0.5, 4.0), (0.85, 1.15)  # counts of values, in targets


@dataclass(frozen=True)
class Target:
    """What a run was given: tokens to be scored, and the bytes that they stand for."""

    tokens: int
    bytes: int


@dataclass(frozen=True)
class Bound:
    """The losses behind a printed metric, in nats, in the order of scoring.

    `ordinals` says for each loss which reduction of the site it went into; `masked` whether zeros
    were left out; `scale` is what the recorded values were multiplied by.
    """

    metric: Metric
    site: Site
    losses: Floats
    ordinals: NDArray[np.int64]
    events: tuple[Reduced, ...]
    masked: bool
    scale: float

    @property
    def first_tick(self) -> int:
        """The number of the event at which scoring began."""
        return self.events[0].tick

    def ticks(self) -> NDArray[np.int64]:
        """For each loss, the number of the event that scored it."""
        return _per_value(self, [e.tick for e in self.events])

    def same_place(self, trace: Trace) -> Floats | None:
        """The losses of another run at the same reductions, or None where they are not there."""
        wanted = {e.ordinal for e in self.events}
        events = [e for e in trace.sites.get(self.site, []) if e.ordinal in wanted]
        if len(events) != len(self.events):
            return None
        values = values_of(events) * self.scale
        kept = values[values_of(list(self.events)) != 0] if self.masked else values
        return kept if kept.size == self.losses.size else None


def submitted(metrics: Sequence[Metric], tag: str | None) -> Metric | None:
    """The metric that counts: the last under `tag`, else the last with bits per byte. Where it has
    no loss, the line that prints the same bits per byte with one."""
    named = [m for m in metrics if tag and m.tag == tag]
    scored = [m for m in metrics if m.val_bpb is not None]
    metric = next(iter([*reversed(named), *reversed(scored), *reversed(metrics)]), None)
    if metric is None or metric.val_loss is not None or metric.val_bpb is None:
        return metric
    twins = (m for m in reversed(scored) if m.val_loss is not None and _same(m, metric.val_bpb))
    return next(twins, metric)


def _same(metric: Metric, bpb: float) -> bool:
    assert metric.val_bpb is not None
    slack = 0.6 * 10.0 ** -digits(metric.evidence.text, "val_bpb")
    return abs(metric.val_bpb - bpb) <= slack


def bind(trace: Trace, metric: Metric, target: Target) -> Bound | None:
    """The losses behind `metric`, if any site has them: those nearest to one a target; of several
    places that they pass, the first."""
    end = trace.when(metric)
    found = [
        bound
        for site, events in trace.sites.items()
        for bound in _candidates(site, [e for e in events if e.tick < end], metric, target)
    ]
    return min(found, key=lambda b: _rank(b, target), default=None)


def _rank(bound: Bound, target: Target) -> tuple[int, bool, int]:
    return abs(bound.losses.size - target.tokens), bound.masked, bound.first_tick


def _candidates(
    site: Site, events: list[Reduced], metric: Metric, target: Target
) -> Iterator[Bound]:
    if not events:
        return
    sums = np.array([e.values.sum() for e in events])
    if not np.isfinite(sums).all():
        return
    sizes = np.array([e.values.size for e in events])
    nonzero = np.array([np.count_nonzero(e.values) for e in events])
    totals = np.cumsum(sums[::-1])
    tests = _tests(metric, target)
    for masked, counts in ((False, np.cumsum(sizes[::-1])), (True, np.cumsum(nonzero[::-1]))):
        if masked and np.array_equal(sizes, nonzero):
            return
        for scale in _scales(site):
            for test in tests:
                good = np.flatnonzero(test.holds(totals * scale, counts))
                if good.size:
                    best = good[np.argmin(np.abs(counts[good] - target.tokens))]
                    yield _made(site, events[len(events) - 1 - best :], metric, masked, scale)


def _scales(site: Site) -> tuple[float, ...]:
    """Recorded logarithms are log-probabilities; some scripts count in bits."""
    bits = math.log(2)
    return (-1.0, -bits) if site.kind in ("log", "log2") else (1.0, -1.0, bits, -bits)


@dataclass(frozen=True)
class _Test:
    """Sums over counts (or over the text's bytes, in bits) have to be `printed` within `slack`."""

    printed: float
    slack: float
    low: float
    high: float
    divisor: float | None  # of the sum; None for the count

    def holds(self, totals: Floats, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        means = totals / (self.divisor or np.maximum(counts, 1))
        fits: NDArray[np.bool_] = np.abs(means - self.printed) <= self.slack
        return fits & (counts >= self.low) & (counts <= self.high)


def _tests(metric: Metric, target: Target) -> list[_Test]:
    tests: list[_Test] = []
    for name, value, divisor in (
        ("val_loss", metric.val_loss, None),
        ("val_bpb", metric.val_bpb, math.log(2) * target.bytes),
    ):
        if value is None or (divisor is not None and (tests or not target.bytes)):
            continue
        places = digits(metric.evidence.text, name)
        low, high = _LOOSE if places >= _EXACT and divisor is None else _TIGHT
        slack = 0.6 * 10.0 ** -min(places, 12) + _FLOAT32 * abs(value)
        tests.append(
            _Test(value, slack, max(low * target.tokens, 2), high * target.tokens + 1, divisor)
        )
    return tests


def digits(line: str, name: str) -> int:
    """Digits after the point of a printed number."""
    printed = re.search(rf"{name}\s*[:=]\s*-?\d*\.(\d+)", line)
    return len(printed.group(1)) if printed else 0


def _made(site: Site, events: list[Reduced], metric: Metric, masked: bool, scale: float) -> Bound:
    values = values_of(events)
    ordinals = np.repeat([e.ordinal for e in events], [e.values.size for e in events])
    kept = values != 0 if masked else np.ones(values.size, dtype=bool)
    return Bound(metric, site, values[kept] * scale, ordinals[kept], tuple(events), masked, scale)


def _per_value(bound: Bound, of_event: list[int]) -> NDArray[np.int64]:
    by_ordinal = dict(zip((e.ordinal for e in bound.events), of_event, strict=True))
    return np.array([by_ordinal[int(o)] for o in bound.ordinals], dtype=np.int64)
