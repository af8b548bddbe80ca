"""How many bytes a log's scores were divided by: `tokens * val_loss / (val_bpb * ln 2)`.

The validation text is one, so whatever the tokenizer this is the same number, if every token is
scored and every byte counted once. It needs neither tokenizer nor data.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.evidence.figures import Figure, JsonClaims, LogClaims, Metric

# Of 117 logs of merged records 116 fall in 151.05 to 151.10 million; the text has 151.08.
TEXT_BYTES = 151_080_000
TOLERANCE = 0.0005  # the last digit of a score with four decimals
SAME_SCORE = 0.0015  # bits a byte: a claim is the mean over seeds


@dataclass(frozen=True)
class ScoredBytes:
    """One line of a log: how many bytes its score was divided by, in all or per token."""

    metric: Metric
    per_token: float
    tokens: Figure | None

    @property
    def total(self) -> float | None:
        """Bytes in all, if the log says how many tokens were scored."""
        return self.per_token * self.tokens.value if self.tokens is not None else None

    @property
    def excess(self) -> float | None:
        """By how much the total exceeds the text's bytes, as a fraction; negative if it is less."""
        return self.total / TEXT_BYTES - 1 if self.total is not None else None


def scored_bytes(log: LogClaims) -> list[ScoredBytes]:
    """Every line of a log with a loss in nats and in bits a byte, but those printed in training."""
    return list(_scored(log))


def _scored(log: LogClaims) -> Iterator[ScoredBytes]:
    for metric in log.metrics:
        loss, bpb = metric.val_loss, metric.val_bpb
        if loss and bpb and loss > 0 and bpb > 0 and not metric.tag.startswith("step"):
            yield ScoredBytes(metric, loss / bpb / math.log(2), log.run.val_tokens)


def claimed_bytes(claim: JsonClaims | None) -> ScoredBytes | None:
    """What a claim of a loss in nats and of bits a byte implies, without its tokens."""
    if claim is None or claim.val_loss is None or claim.val_bpb is None:
        return None
    loss, bpb = claim.val_loss.value, claim.val_bpb.value
    if loss <= 0 or bpb <= 0:
        return None
    metric = Metric("val_bpb", loss, bpb, None, claim.val_bpb.evidence)
    return ScoredBytes(metric, loss / bpb / math.log(2), None)


def claimed_line(lines: list[ScoredBytes], claim: Figure | None) -> ScoredBytes | None:
    """The line that a claim of `submission.json` rests on: the nearest score, else the last."""
    if claim is not None:
        near = [
            line
            for line in lines
            if line.metric.val_bpb is not None
            and abs(line.metric.val_bpb - claim.value) <= SAME_SCORE
        ]
        if near:
            return min(near, key=lambda line: abs((line.metric.val_bpb or 0.0) - claim.value))
    return lines[-1] if lines else None
