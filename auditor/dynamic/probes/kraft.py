"""Mass: exp(-loss) summed over every token that could have stood there (C2, C2b, C2c, C6).

A code has a sum of at most one (Kraft) given what came before. At sampled positions each token of
the vocabulary is put in the place of the real one, right before its window is scored; everything
before is as it was. What is beyond one are bits that the score takes without paying, log2 of the
sum: *free bits*. Per byte of the text they lead to the *honest* score.

Three controls: the real token must give the loss of the run itself; one other token must give the
loss of a run that read it from the start; and the losses must depend on the token at all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.dynamic.capture.record import BY_HAND, Floats, scored
from auditor.dynamic.probes.binding import Bound
from auditor.dynamic.probes.flip import Change
from auditor.dynamic.probes.result import Outcome, ProbeResult, not_audited
from auditor.dynamic.probes.stream import Stream
from auditor.dynamic.probes.trace import Trace, read_trace
from auditor.dynamic.rehearsal import Rehearsal
from auditor.dynamic.result import TOLERANCE
from auditor.errors import AuditError

NAME = "mass"
_Z95 = 1.96
_KINDS = 4.0  # how much longer a pause with a forward pass is than one without
_FORK = 0.05  # seconds that a child takes besides
_SECONDS = 40.0  # that the children of all positions may take
_PASS = 0.002  # seconds that a forward pass takes at least
Ordinals = NDArray[np.int64]


@dataclass(frozen=True)
class Sampled:
    """A position to be measured: value `value` of the bound losses is that of token `index`.

    The children live from reduction `after` of the bound site to reduction `until`; without
    `after`, from the moment on at which the artifact is read. Where weights change in between, they
    live from the last change on, which is number `step` of the run.
    """

    index: int
    value: int
    after: int | None
    until: int
    step: int | None = None

    def first(self, bound: Bound) -> int:
        """The index of the first bound loss that the children record."""
        return int(np.searchsorted(bound.ordinals, self.after or 0, side="right"))

    def poke(
        self, bound: Bound, path: str, tokens: list[int], known: Mapping[int, float]
    ) -> dict[str, Any]:
        """The entry for the capture hook."""
        return {
            "site": list(bound.site),
            "after": self.after,
            "step": self.step,
            "until": self.until,
            "stream": path,
            "index": self.index,
            "values": [*known, *(token for token in tokens if token not in known)],
            "known": [[token, loss] for token, loss in known.items()],
            "counted": int(np.searchsorted(bound.ordinals, self.until, side="right"))
            - self.first(bound),
            "value": self.value - self.first(bound),
            "scale": bound.scale,
            "masked": bound.masked,
        }


def choose(
    bound: Bound,
    base: Trace,
    stream: Stream,
    count: int,
    first: int,
    own: int,
    seconds: float,
) -> list[Sampled]:
    """Up to `count` positions, `first` (a token's index, whose loss is value `own`) and, where
    losses are in the order of the text, others, spread over the stream past
    its first third, so that gates are behind and tables are filled, and away from its tail, which
    overlapping windows score again. Where no pause parts one window from the next, the children
    start when the artifact is read, and there is one position: each token costs an evaluation.
    There are as many as about `seconds` allow, at least one."""
    if abs(bound.losses.size - stream.targets) > stream.targets // 4:
        raise AuditError("the values behind the score are not one a token")
    starts = _window_starts(bound)
    starts = starts[starts > bound.ordinals[0]]
    if not len(starts):
        return [from_artifact(bound, first, own)]
    tail = max(bound.losses.size - stream.targets, 0)
    last = int(stream.targets * 0.9) - tail
    spread = np.linspace(stream.targets // 3, last, max(count - 1, 1)).astype(int).tolist()
    values = {first: own}
    if own == first - 1:
        values |= {index: index - 1 for index in spread}
    found = []
    for index, value in values.items():
        until = int(bound.ordinals[value])
        before = starts[starts <= until]
        if len(before) and stream.is_text(index):
            start = int(before[-1])
            found.append(Sampled(index, value, start - 1, until, _step(bound, base, start)))
    if not found or found[0].index != first:
        return [from_artifact(bound, first, own)]
    return found[: max(1, min(count, _affordable(bound, found, stream, seconds)))]


def _step(bound: Bound, base: Trace, start: int) -> int | None:
    """The number of the last weight change between reduction `start` of the bound site and the one
    before it, if there is one that an optimizer made."""
    ticks = {event.ordinal: event.tick for event in bound.events}
    earlier = [number for number, (tick, *_) in enumerate(base.steps, 1) if tick < ticks[start]]
    if not earlier:
        return None
    tick, _, place = base.steps[earlier[-1] - 1]
    return None if tick < ticks.get(start - 1, 0) or place.endswith(BY_HAND) else earlier[-1]


def _affordable(bound: Bound, found: list[Sampled], stream: Stream, seconds: float) -> int:
    """How many positions fit into half of the time and into `_SECONDS`, judged by the first run's
    own pace."""
    when = {e.ordinal: e.seconds for e in bound.events}
    spans = [when[p.until] - when[p.after] for p in found if p.after in when]
    each = stream.vocabulary * (_FORK + (max(spans) if spans else 0.0))
    return int(min(0.5 * seconds, _SECONDS) / each)


def from_artifact(bound: Bound, index: int, own: int) -> Sampled:
    """One position, whose children live from the reading of the artifact on."""
    return Sampled(index, own, None, int(bound.ordinals[own]))


def _window_starts(bound: Bound) -> Ordinals:
    """Ordinals of the reductions that come after a pause: the first of each batch of windows.

    Rows of a batch are summed at once, after a forward pass: the pauses are of two kinds. Where
    they are of one kind, each reduction has a pass of its own, or all have one together.
    """
    seconds = np.array([e.seconds for e in bound.events])
    ordinals = np.array([e.ordinal for e in bound.events])
    pauses = np.diff(seconds)
    if len(pauses) < 2:
        return ordinals[:0]
    ordered = np.maximum(np.sort(pauses), 1e-6)
    steps = ordered[1:] / ordered[:-1]
    cut = int(np.argmax(steps))
    if steps[cut] >= _KINDS:
        starts: Ordinals = ordinals[1:][pauses > ordered[cut] * 1.001]
        return starts
    return ordinals[1:] if np.median(pauses) > _PASS else ordinals[:0]


def judge(
    bound: Bound,
    run: Rehearsal,
    first: Rehearsal,
    stream: Stream,
    sampled: list[Sampled],
    control: Change,
) -> ProbeResult:
    """The probe's result. `control` is a flip at the first sampled position, which a variant of
    the run `first` read from the start."""
    try:
        sampled, columns = _measured(bound, run, sampled, stream)
        _check(bound, first, stream, sampled, columns, control)
    except AuditError as error:
        return not_audited(NAME, str(error))
    masses = [float(np.exp(-column).sum()) for column in columns]
    free = np.log2(masses)
    counts = stream.byte_counts()[[place.index - 1 for place in sampled]]
    per_byte, interval = ratio(free, counts)
    worst = int(np.argmax(masses))
    numbers = {
        "positions": [place.index for place in sampled],
        "mass": masses,
        "free bits a byte": per_byte,
        "95% interval": interval,
    }
    if bound.metric.val_bpb is not None:
        numbers["bpb of this run"] = bound.metric.val_bpb
        numbers["honest bpb of this run"] = bound.metric.val_bpb + per_byte
    said = f"over all {stream.vocabulary} tokens at {len(sampled)} sampled positions"
    if max(masses) > 1 + TOLERANCE:
        reason = (
            f"what the run scores sums to up to {masses[worst]:.4g} {said} (mean free bits a byte "
            f"{per_byte:.3f}{_words(interval)})"
        )
        return ProbeResult(NAME, Outcome.FOUND, reason, numbers, runs=(f"poke-{worst}",))
    reason = f"what the run scores sums to {min(masses):.6f} to {max(masses):.6f} {said}"
    return ProbeResult(NAME, Outcome.CLEAN, reason, numbers)


def _words(interval: tuple[float, float]) -> str:
    low, high = interval
    return f", 95% interval {low:.3f} to {high:.3f}" if math.isfinite(low) else ""


def _measured(
    bound: Bound, run: Rehearsal, sampled: list[Sampled], stream: Stream
) -> tuple[list[Sampled], list[Floats]]:
    """The positions that there was time for, the first always among them, and their losses."""
    columns = []
    for number, place in enumerate(sampled):
        try:
            columns.append(_losses(bound, run, number, place, stream))
        except AuditError:
            if not columns:
                raise
            break
    return sampled[: len(columns)], columns


def _losses(bound: Bound, run: Rehearsal, number: int, place: Sampled, stream: Stream) -> Floats:
    """The loss of token `place.index` for each token that it could be, in nats."""
    first = place.first(bound)
    counted = int(np.searchsorted(bound.ordinals, place.until, side="right")) - first
    column = np.empty(stream.vocabulary)
    for token in range(stream.vocabulary):
        found = run.variants.get(f"poke-{number}-{token}")
        losses = found.json("losses") if found is not None else None
        losses = scored(losses, counted, masked=bound.masked) if isinstance(losses, list) else []
        if len(losses) <= place.value - first:
            raise AuditError(f"token {place.index} cannot be replaced while the run goes on")
        column[token] = float(losses[place.value - first]) * bound.scale
    if np.isnan(column).any():
        raise AuditError("some losses are not numbers")
    return column


def _check(
    bound: Bound,
    first: Rehearsal,
    stream: Stream,
    sampled: list[Sampled],
    columns: list[Floats],
    control: Change,
) -> None:
    """The controls; raises `AuditError` where one fails."""
    if not sampled:
        raise AuditError("no position is scored apart from the first window")
    for place, column in zip(sampled, columns, strict=True):
        if column[stream.tokens[place.index]] != bound.losses[place.value]:
            raise AuditError(f"token {place.index} put in its own place gives another loss")
    if all(len(set(column.tolist())) == 1 for column in columns):
        raise AuditError("no loss changes with the token: its copies were not found")
    whole = bound.same_place(read_trace(first, control.name))
    if whole is None:
        raise AuditError("with another token the score is computed otherwise")
    here, there = columns[0][control.token], whole[sampled[0].value]
    if here != there:
        raise AuditError(
            f"token {control.index} changed during the run gives {here:.6f} nats, and "
            f"{there:.6f} if it was so from the start: it is read ahead of its window"
        )


def ratio(free: Floats, counts: Ordinals) -> tuple[float, tuple[float, float]]:
    """Free bits a byte over the sampled positions, and its 95% interval (normal, delta method)."""
    per_byte = float(free.sum() / counts.sum())
    rest = free - per_byte * counts
    spread = float(np.std(rest, ddof=1)) if len(free) > 1 else math.inf
    half = _Z95 * spread / (math.sqrt(len(free)) * float(np.mean(counts)))
    return per_byte, (per_byte - half, per_byte + half)


def known(
    bound: Bound, first: Rehearsal, stream: Stream, control: Change, own: int
) -> dict[int, float]:
    """What the losses at the first sampled position must be, in nats: that of the run itself with
    the real token, and that of the run which read the changed token from the start."""
    found = {int(stream.tokens[control.index]): float(bound.losses[own])}
    whole = bound.same_place(read_trace(first, control.name))
    if whole is not None:
        found[control.token] = float(whole[own])
    return found


def pokes(
    bound: Bound,
    stream: Stream,
    path: str,
    sampled: list[Sampled],
    known: Mapping[int, float],
) -> list[Mapping[str, Any]]:
    """What the capture hook is to do. `known` are losses at the first of the places."""
    tokens = list(range(stream.vocabulary))
    return [
        place.poke(bound, path, tokens, {} if number else known)
        for number, place in enumerate(sampled)
    ]
