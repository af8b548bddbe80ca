"""C2c: a token's probability is handed to its bytes and mixed with counts of bytes."""

import re
from collections.abc import Iterator

from auditor.finding import Axis, Confidence, Evidence, Finding, Status
from auditor.program.byte_mixtures import ByteMixture, byte_mixtures
from auditor.program.dataflow.marks import Place
from auditor.program.reached import is_called
from auditor.program.steps import inner_steps
from auditor.rules.base import Context, Rule
from auditor.rules.quoting import quote

# Shares for bytes never seen, counters, bytes of tokens: without all three, no function needs to be
# looked at.
_NEEDED = (
    re.compile(r"/ {0,2}256\b|log\w{0,4}\( ?256|\b0?\.00390625|\b5\.545"),
    re.compile(r"\+ ?=? ?1\b|\+\+"),
    re.compile(r"encode\(|bytes\w{0,9}\(|\bb[\"']|IdTo|id_to|uint8_t|char\b"),
)


class RealisedBytesMixed(Rule):
    """Looks for the arithmetic of such a mixture in functions that the run calls."""

    id = "C2c"
    title = "a token model is mixed with counts of bytes along the realised bytes"
    axis = Axis.VALIDITY
    what = (
        "A network over tokens is weighed against a table of byte counts with an escape to 1/256, "
        "and only the bytes of the realised token are looked up; often the token's "
        "log-probability is divided by its number of bytes first. It is found by the shape of the "
        "arithmetic in Python and C functions that the run calls, whatever they are called."
    )
    why = (
        "The n-th root of a token's probability is the same for all 256 bytes, so those shares "
        "sum to 256 times it and not to one; and n itself is known only once the token is. "
        "Neither part is a distribution over the token alphabet, so the mixture's score is not "
        "the length of any code."
    )
    source = "byte mixtures excluded in PR 1902 of 2026-04-28; audit notes on PRs 1991 and 2083"
    precedents = ("#1902", "#1991", "#2076", "#2083", "#2098", "#2103")
    legal = (
        "A network over bytes mixed with byte counts, both normalised over the 256 bytes; a "
        "byte's conditional probability as the sum over all tokens that begin so, which no ruling "
        "has accepted yet."
    )
    known_misses = (
        "a byte model that lives in a compiled library or another process",
        "count tables filled by library calls alone, such as numpy.add.at",
        "mixtures whose two weights are computed apart, not as w and 1 - w",
        "too strict: a mixture that is printed but not claimed is reported like one that is",
    )
    valid = (
        """
import math, numpy as np, torch
import torch.nn.functional as F
stream = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
net = torch.nn.Linear(8, 256)
def score(symbols, losses, share):
    seen, total = {}, 0.0
    for i, symbol in enumerate(symbols):
        row = seen.setdefault(symbols[i - 1] if i else 0, {})
        p = (row.get(symbol, 0) + 1 / 256) / (sum(row.values()) + 1)
        total -= math.log(share * math.exp(-losses[i]) + (1 - share) * p)
        row[symbol] = row.get(symbol, 0) + 1
    return total
loss = F.cross_entropy(net(stream[:-1]), stream[1:], reduction="none")
print(score(stream[1:].tolist(), loss.tolist(), 0.7) / math.log(2))
""",
    )
    invalid = (
        """
import math, numpy as np, torch
import torch.nn.functional as F
stream = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
net = torch.nn.Linear(8, 1024)
def score(ids, losses, spelling, share):
    seen, before, total = {}, 0, 0.0
    for token, loss in zip(ids, losses):
        text = spelling[token]
        size = len(text)
        for symbol in text:
            row = seen.setdefault(before, {})
            p = (row.get(symbol, 0) + 1 / 256) / (sum(row.values()) + 1)
            total -= math.log(share * math.exp(-loss / size) + (1 - share) * p)
            row[symbol] = row.get(symbol, 0) + 1
            before = symbol
    return total
spelling = [str(i).encode() for i in range(1024)]
loss = F.cross_entropy(net(stream[:-1]), stream[1:], reduction="none")
print(score(stream[1:].tolist(), loss.tolist(), spelling, 0.7) / math.log(2))
""",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure for each mixture that runs; a note for those that do not."""
        found = _mixtures(context)
        if not found:
            yield self.finding(Status.PASS, "no mixture of a token model with counts of bytes")
        for mixture in found:
            evidence = _evidence(context, mixture)
            if not is_called(context.program, context.trace, mixture.routine):
                yield self.finding(
                    Status.NOTE,
                    "a mixture with counts of bytes is there, but the submitted run does not "
                    "call it",
                    evidence,
                )
                continue
            how = (
                "the log-probability of the realised token is divided among its bytes, and each "
                "share is"
                if mixture.spread
                else "the probability of the realised token is"
            )
            yield self.finding(
                Status.FAIL,
                f"{how} mixed with a count model that is asked for the realised bytes only: "
                "nothing holds the mixture to a sum of one over the tokens",
                evidence,
                confidence=Confidence.HIGH if _reports(context, mixture) else Confidence.MEDIUM,
            )


def _mixtures(context: Context) -> list[ByteMixture]:
    program = context.program
    native = [s.text for s in program.native]
    texts = [*(m.source for m in program.modules), *native]
    if not all(any(map(needed.search, texts)) for needed in _NEEDED):
        return []
    python = program.routines.where(lambda _: True)
    return byte_mixtures([*python, *(r for s in program.native for r in s.routines)])


def _evidence(context: Context, mixture: ByteMixture) -> tuple[Evidence, ...]:
    places = [Place(*p) for p in (mixture.spread, mixture.weighed) if p is not None]
    return tuple(quote(context, place) for place in dict.fromkeys(places))


def _reports(context: Context, mixture: ByteMixture) -> bool:
    """Whether a loss is turned into bits in the mixture's own lines."""
    routine = mixture.routine
    last = max((s.line for s in inner_steps(routine.body)), default=routine.line)
    return any(
        r.place.path == routine.path and routine.line <= r.place.line <= last
        for r in context.trace.reports
    )
