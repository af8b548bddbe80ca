"""Flip: the loss of a token may not move when a later token changes (C1, C3, C7, D1).

Two kinds of change, each a run of its own from the first opening of the validation shard on:
single tokens, and everything from some place on. The unchanged repeat must agree to the last bit,
so every difference counts.

Tokens scored in another order than the text's are no fault: what counts is the order of scoring,
which is that of the values. Of which token a value is, the moves tell: most moves the changed
token's own. Where that leaves doubt, the changed sets themselves must allow *some* order: in any,
the token that comes first moves a loss, its own, that none of the later ones moves. Where no order
is left, there is a cycle, and nobody could decode.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.dynamic.capture.record import Floats
from auditor.dynamic.data import make_shard
from auditor.dynamic.probes.binding import Bound
from auditor.dynamic.probes.result import Outcome, ProbeResult, not_audited
from auditor.dynamic.probes.stream import Stream, Tokens
from auditor.dynamic.probes.trace import read_trace
from auditor.dynamic.rehearsal import Rehearsal
from auditor.errors import AuditError

NAME = "flip"
REPEAT = "repeat"
IN_ORDER = "in the order of the text"
OWN = "own losses"  # value by token, for the tokens that were changed
_STRONG = 0.25  # of the largest move: what the changed token's own loss moves at least


@dataclass(frozen=True)
class Change:
    """One changed stream: from `index` on, to `end` (exclusive)."""

    name: str
    index: int
    end: int
    shard: bytes
    token: int  # what stands at `index` now

    @property
    def single(self) -> bool:
        """Only one token differs."""
        return self.end == self.index + 1


@dataclass(frozen=True)
class Moved:
    """Which losses moved (indices into the bound values), and by how much at most, in nats."""

    change: Change
    indices: Tokens
    losses: Floats

    def before(self, index: int) -> Tokens:
        """The moved ones that are scored before value `index`."""
        return self.indices[self.indices < index]


def plan(stream: Stream, random: np.random.Generator) -> list[Change]:
    """Neighbours in the middle, the last token, and two suffixes. A common token becomes a rare
    one, which moves its own loss most. No document mark is touched: it may well say how the text is
    cut, which is known before anything is scored."""
    length = len(stream.tokens)
    common = np.isin(stream.tokens, stream.common)
    middle, last = length // 2, length - 1
    while not (common[middle] and common[middle + 1]):
        middle -= 1
    while not common[last]:
        last -= 1
    rare = stream.ordinary[~np.isin(stream.ordinary, stream.common)]
    changes = []
    for index in (middle, middle + 1, last):
        token = int(random.choice(rare))
        shard = stream.with_token(index, token)
        changes.append(Change(f"flip-{index}", index, index + 1, shard, token))
    for index in (length // 3, 3 * length // 4):
        changed = stream.with_random(index, random)
        shard = make_shard(changed.tolist())
        changes.append(Change(f"suffix-{index}", index, length, shard, int(changed[index])))
    return changes


def moved(bound: Bound, run: Rehearsal, change: Change) -> Moved:
    """What a change moved. Raises `AuditError` where that run has no such losses."""
    losses = bound.same_place(read_trace(run, change.name))
    if losses is None:
        raise AuditError(f"with token {change.index} changed, the score is computed otherwise")
    return Moved(change, np.flatnonzero(losses != bound.losses), losses)


def took_place(run: Rehearsal, changes: list[Change]) -> list[Change]:
    """The changes that there was time for. Raises `AuditError` where there are none."""
    found = [c for c in changes if c.name in run.variants and run.variants[c.name].json("exit")]
    if not any(change.single for change in found):
        raise AuditError("no time was left for a run with a changed token")
    return found


def judge(bound: Bound, run: Rehearsal, changes: list[Change]) -> ProbeResult:
    """The probe's result."""
    try:
        changes = took_place(run, changes)
        repeat = bound.same_place(read_trace(run, REPEAT))
        if repeat is None or not np.array_equal(repeat, bound.losses):
            return not_audited(NAME, "an unchanged repeat gives other losses")
        found = [moved(bound, run, change) for change in changes]
    except AuditError as error:
        return not_audited(NAME, str(error))
    singles = [m for m in found if m.change.single]
    if not all(m.indices.size for m in singles):
        return not_audited(NAME, "a changed token moves no loss: it was not read, or not scored")
    owns = {m.change.name: own(bound, m) for m in singles}
    in_order = all(owns[m.change.name] == m.change.index - 1 for m in singles)
    counted = found if in_order else singles
    early = {m.change.name: m.before(owns.get(m.change.name, m.change.index - 1)) for m in counted}
    numbers = {
        "losses": int(bound.losses.size),
        IN_ORDER: in_order,
        OWN: {m.change.index: owns[m.change.name] for m in singles},
        "moved": {m.change.name: int(m.indices.size) for m in found},
        "moved before": {name: int(indices.size) for name, indices in early.items()},
        "largest move": max(_largest(bound, m, early[m.change.name]) for m in counted),
    }
    guilty = [name for name, indices in early.items() if indices.size]
    if not guilty:
        order = "" if in_order else "tokens are scored in another order than the text's, and "
        tried = ", ".join(_words(m.change) for m in counted)
        reason = f"{order}no loss scored before a token moves by a single bit ({tried} changed)"
        return ProbeResult(NAME, Outcome.CLEAN, reason, numbers)
    if not in_order and not cycle([m.indices for m in singles]):
        return not_audited(NAME, "losses move, but it is not clear which tokens they are of")
    if not in_order:
        numbers[OWN] = {}
    worst = max(guilty, key=lambda name: early[name].size)
    change = next(c for c in changes if c.name == worst)
    reason = (
        f"changing {_words(change)} moves {early[worst].size} of the losses of tokens scored "
        f"before it, by up to {numbers['largest move']:.3g} nats"
    )
    return ProbeResult(NAME, Outcome.FOUND, reason, numbers, runs=(REPEAT, worst))


def own(bound: Bound, found: Moved) -> int:
    """The value that is the changed token's own loss: the one before it in the text, if it is the
    first that moves, or its move is among the largest three, as that of another target is; else the
    first of those that move strongly, as the next token's loss may move more."""
    size = np.abs(found.losses - bound.losses)
    largest = np.argsort(-size, kind="stable")[:3]
    expected = found.change.index - 1
    if expected in largest or found.indices[:1] == expected:
        return expected
    return int(np.flatnonzero(size >= _STRONG * size.max())[0])


def _largest(bound: Bound, found: Moved, indices: Tokens) -> float:
    moves = np.abs(found.losses[indices] - bound.losses[indices])
    return float(moves.max(initial=0.0))


def _words(change: Change) -> str:
    return f"token {change.index}" if change.single else f"everything from token {change.index} on"


def cycle(moved_by: list[NDArray[Any]]) -> bool:
    """Whether no order of coding allows these sets of moved losses, one for each flipped token.

    In any order, the flip that comes first moves a loss (its own) that no later one moves.
    """
    left = [set(indices.tolist()) for indices in moved_by if indices.size]
    while left:
        first = next((s for s in left if s - set().union(*(o for o in left if o is not s))), None)
        if first is None:
            return True
        left.remove(first)
    return False
