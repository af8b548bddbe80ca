"""Incompressible: nobody codes random tokens in fewer nats than they have (C1, C2, C3, C7).

Every text token of the stream is drawn from the operating system's random numbers, uniform over U
symbols. So are the training data, other ones: a model that has learned to expect nothing loses
little on them. For any honest scorer, P(total <= N ln U - c) <= exp(-c) by Markov's inequality, as
the expectation of exp(N ln U - total) is at most one. The script is not looked into at all: what it
prints about the stream that it was given decides, so no lie to the hooks helps; only a script that
scores random text worse than it could gets through.
"""

import math

from auditor.dynamic.probes.binding import Bound, submitted
from auditor.dynamic.probes.result import Outcome, ProbeResult, not_audited
from auditor.dynamic.probes.stream import Stream, Tokens
from auditor.dynamic.rehearsal import Rehearsal, metrics

NAME = "incompressible"
_NATS = math.log(1e6)  # one false alarm in a million runs


def judge(
    run: Rehearsal, bound: Bound | None, stream: Stream, drawn: Tokens, tag: str
) -> ProbeResult:
    """The probe's result. `tag` is that of the submitted metric; `bound` tells how many losses the
    printed mean is of: unbound, one a target."""
    found = run.variants.get(NAME)
    metric = submitted(metrics(found.output), tag) if found is not None else None
    if metric is None or metric.val_loss is None:
        return not_audited(NAME, "on random tokens the run printed no loss of the submitted metric")
    if not math.isfinite(metric.val_loss):
        return not_audited(NAME, "on random tokens the loss is not finite")
    text = int((stream.sizes[drawn[1:]] > 0).sum())  # document marks are given away
    floor = text * math.log(len(stream.ordinary))
    # Losses are never negative in sum where a token is scored twice: this bounds the total above.
    counted = max(bound.losses.size if bound is not None else 0, stream.targets)
    gain = floor - counted * metric.val_loss
    numbers = {
        "symbols": len(stream.ordinary),
        "tokens": text,
        "nats below entropy": gain,
        "p": math.exp(-max(gain, 0.0)),
        "loss on random tokens": metric.val_loss,
        "entropy a target": floor / stream.targets,
    }
    if gain > _NATS:
        reason = (
            f"{text} random tokens of {len(stream.ordinary)} symbols, {floor:.0f} nats, are scored "
            f"with {gain:.0f} nats less: for an honest scorer p <= exp(-{gain:.0f})"
        )
        return ProbeResult(NAME, Outcome.FOUND, reason, numbers, outside=True, runs=(NAME,))
    reason = f"random tokens cost {-gain:.0f} nats more than their entropy of {floor:.0f} nats"
    return ProbeResult(NAME, Outcome.CLEAN, reason, numbers, outside=True)
