"""Bits per byte, the unit of the score.

Loss per token depends on the tokenizer: longer pieces mean fewer and harder predictions. Bits per
byte divides the same nats by what every tokenizer agrees on, the UTF-8 bytes of the text, and is
thus a compression rate: 1.05 bpb codes the text in 1.05/8 of its size.

Three subtleties:
1. Nats and bytes are summed apart and divided once at the end. A mean of per-batch ratios would
   weigh batches of short pieces more.
2. Both sums run over the same targets. A target without text (a document boundary) adds its nats
   and no bytes: predicting it costs, skipping it would not.
3. Sums are float64: 62 million float32 terms would lose the digits that records are compared by.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from hedge_record.errors import RecordError


@dataclass(frozen=True)
class Score:
    """What some scored targets cost: `nats` over `tokens` targets that stand for `bytes` bytes."""

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, nll: Tensor, target_bytes: Tensor) -> "Score":
        """The score of targets given their NLL in nats and their bytes, tensors of one shape."""
        return cls(float(nll.double().sum()), nll.numel(), int(target_bytes.sum()))

    def __add__(self, other: "Score") -> "Score":
        return Score(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes)

    @property
    def loss(self) -> float:
        """Nats per token.

        Raises:
            RecordError: nothing was scored.
        """
        if not self.tokens:
            raise RecordError("no validation target was scored: the validation text is too short")
        return self.nats / self.tokens

    @property
    def bpb(self) -> float:
        """Bits per byte.

        Raises:
            RecordError: the scored targets stand for no byte.
        """
        if not self.bytes:
            raise RecordError("the scored targets stand for 0 bytes: give a validation text")
        return self.nats / math.log(2) / self.bytes
