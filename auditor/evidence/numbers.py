"""The figures of an audit, by name: what was claimed, what the logs say, what was measured."""

from collections.abc import Mapping
from typing import Any

from auditor.evidence.figures import Claims, LogClaims
from auditor.evidence.ledger import check_claim, scores_by_tag
from auditor.evidence.scored_text import corrected_bpb, scored_texts
from auditor.submission.model import Submission
from auditor.submission.unpack import Unpacked

RESTS_ON = {
    "mean": "a mean",
    "run": "one run",
    "corrected": "a mean corrected for bytes",
    "none": "no log",
}
# Named even where they are not known: their absence says something.
EXPECTED = {"claimed bpb", "logged bytes, largest total"}


def numbers(
    submission: Submission, unpacked: Unpacked, claims: Claims, dynamic: Mapping[str, Any]
) -> dict[str, Any]:
    """Every figure that is known, in a fixed order. Scores in bits a byte, times in seconds."""
    described = claims.submission_json
    found: dict[str, Any] = {}
    if described is not None:
        found["claimed bpb"] = described.val_bpb.value if described.val_bpb else None
        if described.bytes_total is not None:
            found["claimed bytes"] = int(described.bytes_total.value)
        scores = scores_by_tag(claims)
        check = check_claim(described.val_bpb, scores)
        if check is not None and check.scores is not None:
            found["claim rests on"] = RESTS_ON[check.basis]
            found["logged bpb, mean of the claim's tag"] = check.scores.mean
            found["logged bpb, deviation of the claim's tag"] = check.scores.deviation
            texts = scored_texts(claims, check.scores.metrics)
            found["bpb corrected for bytes"] = corrected_bpb(texts)
    metrics = [(log, log.last_metric) for log in claims.logs]
    found["logged bpb, last line"] = [m.val_bpb for _, m in metrics if m is not None]
    totals = [total for log in claims.logs if (total := logged_total(log)) is not None]
    found["logged bytes, largest total"] = max(totals, default=None)
    found["script bytes"] = len(submission.main.data)
    if unpacked.layers:
        found["unpacked script bytes"] = len(unpacked.source.encode("utf-8", "replace"))
    stops = [log.train_stop.value / 1000 for log in claims.logs if log.train_stop is not None]
    found["training seconds at the stop"] = stops
    found["seeds"] = list(claims.seeds)
    for scorer in getattr(dynamic.get("mass"), "scorers", ()):
        if scorer.positions:
            found[f"mass of {scorer.name}, highest"] = scorer.highest
            found[f"mass of {scorer.name}, lowest"] = scorer.lowest
            found[f"free bits of {scorer.name}, mean"] = scorer.mean_free_bits
    return {n: v for n, v in found.items() if v != [] and (v is not None or n in EXPECTED)}


def logged_total(log: LogClaims) -> int | None:
    """A log's total of code and compressed model: the line that names a codec, if one does."""
    totals = log.sizes_of("total")
    named = [size.bytes for size in totals if size.codec]
    return max(named or [size.bytes for size in totals], default=None)
