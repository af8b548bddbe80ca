"""Which text a score was divided by, and what the score is over the bytes of the real one."""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from auditor.evidence.figures import Claims, Metric
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


@dataclass(frozen=True)
class ScoredText:
    """Which text a score was divided by, as its loss in nats and its bits per byte imply."""

    metric: Metric
    per_token: float
    total: float | None
    vocabulary: str | None

    @property
    def correction(self) -> float | None:
        """What the score must be multiplied by if the whole text was scored and bytes were counted
        that it does not have. Fewer bytes than the text's are rather a part of it: None."""
        if self.total is None or self.total / TEXT_BYTES - 1 <= BYTE_TOLERANCE:
            return None
        return self.total / TEXT_BYTES


def scored_texts(claims: Claims, metrics: Iterable[Metric]) -> Iterator[ScoredText]:
    """The text behind every score that has a loss in nats beside it."""
    tokens = {log.path: log.run.val_tokens for log in claims.logs}
    for metric in metrics:
        if metric.val_loss and metric.val_bpb and metric.val_loss > 0 and metric.val_bpb > 0:
            per_token = metric.val_loss / metric.val_bpb / math.log(2)
            count = tokens[metric.evidence.path]
            total = per_token * count.value if count is not None else None
            yield ScoredText(metric, per_token, total, _vocabulary(per_token))


def corrected_bpb(texts: Iterable[ScoredText]) -> float | None:
    """The mean of scores over the text's own bytes, if all of them were divided by more."""
    known = []
    for text in texts:
        if text.correction is None or text.metric.val_bpb is None:
            return None
        known.append(text.correction * text.metric.val_bpb)
    return statistics.fmean(known) if known else None


def _vocabulary(per_token: float) -> str | None:
    near = (n for n, v in VOCABULARIES.items() if abs(per_token / v - 1) <= SAME_VOCABULARY)
    return next(near, None)
