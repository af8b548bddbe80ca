"""Once: each target is scored once, and the bytes are the text's own (B1, C4, D3).

From what the run prints alone: a loss a token and bits a byte imply how many bytes a token was
counted for, and the data say how many it has.
"""

import math

from auditor.dynamic.probes.binding import Bound, digits
from auditor.dynamic.probes.result import Outcome, ProbeResult, not_audited
from auditor.dynamic.probes.stream import Stream
from auditor.evidence.figures import Metric

NAME = "once"
_WINDOWS = 0.12  # windows past the end score the last tokens again: at most this share of a run


def judge(metric: Metric, bound: Bound | None, stream: Stream) -> ProbeResult:
    """The probe's result. `bound` gives the number of scored tokens, if it is known."""
    counts = stream.byte_counts()
    truths = {"tokenizer": int(counts.sum()), "sidecar": int(stream.sizes[stream.tokens[1:]].sum())}
    scored = bound.losses.size if bound is not None else None
    numbers: dict[str, object] = {"targets": stream.targets, "scored": scored, **truths}
    if scored is not None and abs(scored - stream.targets) > _WINDOWS * stream.targets:
        reason = f"the score is a mean over {scored} losses, and there are {stream.targets} targets"
        return ProbeResult(NAME, Outcome.FOUND, reason, numbers)
    if metric.val_loss is None or not metric.val_bpb:
        return not_audited(NAME, "only one of loss and bits a byte is printed", **numbers)
    per_token = metric.val_loss / (math.log(2) * metric.val_bpb)
    rounding = _rounding(metric)
    numbers["bytes a token"] = per_token
    numbers["implied bytes"] = per_token * (scored or stream.targets)
    ratios = {name: per_token * stream.targets / truth for name, truth in truths.items()}
    near = min(ratios, key=lambda name: abs(ratios[name] - 1))
    off = abs(ratios[near] - 1)
    if off <= rounding + (_WINDOWS / 4 if scored != stream.targets else 0.0):
        reason = (
            f"the printed scores imply {numbers['implied bytes']:,.1f} bytes, and the {near} has "
            f"{truths[near]:,} for the targets"
        )
        return ProbeResult(NAME, Outcome.CLEAN, reason, numbers, outside=True)
    reason = (
        f"the printed scores imply {ratios[near]:.4f} times the bytes that the {near} has for the "
        f"targets ({truths[near]:,})"
    )
    return ProbeResult(NAME, Outcome.FOUND, reason, numbers, outside=True)


def _rounding(metric: Metric) -> float:
    """Relative error that the printed digits leave."""
    assert metric.val_loss
    assert metric.val_bpb
    text = metric.evidence.text
    loss = 0.5 * 10.0 ** -digits(text, "val_loss") / abs(metric.val_loss)
    return 1.1 * (loss + 0.5 * 10.0 ** -digits(text, "val_bpb") / abs(metric.val_bpb)) + 1e-6
