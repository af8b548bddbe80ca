"""What a record reports, and its score taken apart.

In bits per byte, over the same targets in every pass:
    L  sliding window with the trained (averaged) weights
    Q  cost of quantisation: the same pass with the artifact's weights, minus L
    T  gain of test-time training: the adapted model alone, minus the pass before
    M  gain of the mixer: the final score, minus the adapted model alone
and L + Q + T + M is the final score.
"""

from dataclasses import dataclass
from typing import Any

from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.evaluation.ttt import AdaptiveScore


@dataclass(frozen=True)
class Part:
    """One contribution to the final score: L, Q, T or M, in bits per byte."""

    symbol: str
    meaning: str
    bpb: float
    seconds: float


@dataclass(frozen=True)
class RecordResult:
    """Everything that a record folder reports."""

    parameters: int
    steps: int
    training_tokens: int
    losses: tuple[tuple[int, float], ...]
    code_bytes: int
    model_bytes: int
    trained: Score
    quantized: Score
    adaptive: AdaptiveScore
    seconds: dict[str, float]  # per stage
    hardware: str

    @property
    def total_bytes(self) -> int:
        """What counts against the limit of 16,000,000."""
        return self.code_bytes + self.model_bytes

    @property
    def parts(self) -> tuple[Part, ...]:
        """The final score taken apart; the `bpb` of all parts add up to it."""
        trained, quantized = self.trained.bpb, self.quantized.bpb
        neural, final = self.adaptive.neural.bpb, self.adaptive.score.bpb
        seconds = self.seconds
        return (
            Part("L", "after training, sliding window", trained, seconds["training"]),
            Part("Q", "quantisation", quantized - trained, seconds["export"]),
            Part("T", "test-time training", neural - quantized, seconds["adaptive"]),
            Part("M", "mixer, in the same pass", final - neural, 0.0),
        )


def adaptive_score_of(result: dict[str, Any]) -> AdaptiveScore:
    """The score that the stage `adaptive` kept as plain values."""
    return AdaptiveScore(
        score=Score(**result["score"]),
        per_chunk=tuple(Score(**chunk) for chunk in result["per_chunk"]),
        neural=Score(**result["neural"]),
        mixer_figures=dict(result["mixer_figures"]),
    )
