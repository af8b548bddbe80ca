"""The compliant mixer: the model and the context experts in one softmax, which makes it a code.

Why it may be claimed
---------------------
- The mixture is a distribution over the whole vocabulary by construction: a softmax of

      z(v) = w_0 * ln p_model(v)  +  sum over context experts i of  w_i * ln(p_i(v) / lower_i(v))

  whose every entry is computed at every position, and whose weights are fixed before the target is
  known. An expert that has not seen its context equals its lower order and says nothing.
- Everything it uses lies in the past. Counts and weights hold the targets before the current block
  of `block_tokens` positions. Blocks are fixed positions of the stream, and every rank mixes all
  rows in order: a score depends neither on the batch size nor on the number of ranks.

The weights
-----------
Multiplying predictions (mixing in the logistic domain, as PAQ does: Mahoney, 2005) lets experts
that know different things sharpen each other, where a weighted mean only chooses among them. Each
position adds up the weight vectors that several contexts select: one common to all, one for how
much evidence there is and how uncertain the model is, one for how many context lengths were seen
and whether one of them was always followed by the same token, one for the last token. All are
learned online: after a block they take a step along the gradient of its log likelihood.

Measured on the development split of the embedded corpus (110,484 targets, an `embedded` model of
600 steps that adapts at 3e-4), in bits per byte: the model alone 2.135; a weighted mean of it and
three n-grams, weights learned per cell, 1.996; this form with one weight vector for all 2.004, with
those selected by evidence and by context lengths 1.957, and by the last token too 1.937. The
skipping and the recent expert take another 0.01.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hedge_record.errors import RecordError
from hedge_record.evaluation.ngram import CONTEXT_KINDS, EXPERT_NAMES, ContextExperts
from hedge_record.evaluation.windows import WindowBatch
from hedge_record.training.distributed import gather_rows

# The common weights before the first target, in the order of EXPERT_NAMES.
START_WEIGHTS = (0.8, 0.1, 0.2, 0.4, 0.3, 0.2, 0.12, 0.15)
LEARNING_RATE = 0.0015  # per target
# A weight vector that many targets of a block select moves by the mean of their gradients, for at
# most so many targets: the block's length must not decide how far a step goes.
TARGETS_PER_STEP = 16
EVIDENCE_LEVELS = 8  # trigram context seen 0, 1, 3, 7, ... 127 times
UNCERTAINTY_LEVELS = 4  # quarters of the greatest entropy, ln V
TRIGRAM = EXPERT_NAMES.index("trigram") - 1  # among the context kinds


class MixedBlock(NamedTuple):
    """The mixture at n positions, and what it was made of."""

    log_probs: Tensor  # float64 [n, V]
    features: Tensor  # float32 [n, experts, V]
    selected: list[Tensor]  # int64 [n] per weight set: the row that each position selects


class CompliantMixer:
    """Scores chunks of positions under the mixture, block by block; then learns from each block.

    Raises:
        RecordError: `experts` names one that there is not.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        buckets: int,
        block_tokens: int,
        device: torch.device,
        experts: Sequence[str] = EXPERT_NAMES,
    ) -> None:
        unknown = sorted(set(experts) - set(EXPERT_NAMES))
        if unknown:
            raise RecordError(
                f"evaluation: mixer_experts has no {', '.join(unknown)}; "
                f"choose from {', '.join(EXPERT_NAMES)}"
            )
        self.experts = ContextExperts(vocab_size, buckets, device)
        # An expert that is left out keeps the weight 0.
        taking_part = [float(name in experts) for name in EXPERT_NAMES]
        self._taking_part = torch.tensor(taking_part, device=device)
        self.block_tokens = block_tokens
        self.position = 0  # the next to be scored; all targets before it are learned
        sizes = (
            1,
            EVIDENCE_LEVELS * UNCERTAINTY_LEVELS,
            2 * (len(CONTEXT_KINDS) + 1),
            vocab_size,
        )
        self.weight_sets = [torch.zeros(size, len(EXPERT_NAMES), device=device) for size in sizes]
        self.weight_sets[0] += torch.tensor(START_WEIGHTS, device=device) * self._taking_part
        self._logits: list[Tensor] = []
        self._own: list[Tensor] = []

    def take(self, batch: WindowBatch, logits: Tensor) -> None:  # noqa: ARG002
        """Keeps the logits [n, V] of scored positions, of all ranks, until the chunk is whole."""
        rows, own = gather_rows(logits)
        mine = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        mine[own] = True
        self._logits.append(rows)
        self._own.append(mine)

    def finish_chunk(self, tokens: Tensor, end: int) -> Tensor:  # noqa: ARG002
        """NLL float64 [n] of the scored positions that this rank took."""
        if not self._logits:
            return torch.zeros(0, dtype=torch.float64, device=tokens.device)
        logits, own = torch.cat(self._logits), torch.cat(self._own)
        self._logits, self._own = [], []
        return self.score(logits, tokens)[own]

    def score(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """NLL float64 [n] of the next n targets of `tokens` [N + 1], given `logits` [n, V]."""
        nll = []
        done = 0
        while done < len(logits):
            room = self.block_tokens - self.position % self.block_tokens
            block = logits[done : done + room]
            positions = torch.arange(len(block), device=tokens.device) + self.position
            targets = tokens[positions + 1]
            mixed = self.mix(block, tokens, positions)
            nll.append(-mixed.log_probs.gather(1, targets[:, None]).squeeze(1))
            self._learn(mixed, targets)
            self.experts.count(tokens, positions)
            self.position += len(block)
            done += len(block)
        return torch.cat(nll)

    def mix(self, logits: Tensor, tokens: Tensor, positions: Tensor) -> MixedBlock:
        """The mixture after each of `positions`, given the model's `logits` [n, V] there."""
        neural = torch.log_softmax(logits.float(), dim=-1)
        contexts = self.experts.predict(tokens, positions)
        features = torch.cat((neural[:, None], contexts.log_ratios), dim=1)
        selected = [
            torch.zeros_like(positions),
            _evidence_and_uncertainty(contexts.totals[:, TRIGRAM], neural),
            2 * (contexts.totals > 0).sum(1) + (contexts.distinct == 1).any(1),
            tokens[positions],
        ]
        weights = torch.stack(
            [of_set[rows] for of_set, rows in zip(self.weight_sets, selected, strict=True)]
        ).sum(0)
        mixed = torch.bmm(weights[:, None], features).squeeze(1)
        return MixedBlock(torch.log_softmax(mixed.double(), dim=-1), features, selected)

    def figures(self) -> dict[str, float]:
        """The weights common to all positions."""
        common = self.weight_sets[0][0].tolist()
        return {f"weight_{name}": value for name, value in zip(EXPERT_NAMES, common, strict=True)}

    def _learn(self, mixed: MixedBlock, targets: Tensor) -> None:
        """One step of every selected weight vector along the gradient of ln p(target)."""
        expected = torch.bmm(mixed.features, mixed.log_probs.exp().float()[:, :, None]).squeeze(2)
        observed = mixed.features[torch.arange(len(targets), device=targets.device), :, targets]
        gradients = (observed - expected) * self._taking_part
        for of_set, rows in zip(self.weight_sets, mixed.selected, strict=True):
            counts = torch.bincount(rows, minlength=len(of_set))
            steps = LEARNING_RATE * (TARGETS_PER_STEP / counts.clamp_min(TARGETS_PER_STEP))
            of_set.index_add_(0, rows, gradients * steps[rows][:, None])


def _evidence_and_uncertainty(seen: Tensor, log_probs: Tensor) -> Tensor:
    """A cell by how often a context was seen [n] and by the entropy of `log_probs` [n, V]."""
    evidence = (seen + 1).float().log2().long().clamp_max(EVIDENCE_LEVELS - 1)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    uncertainty = (UNCERTAINTY_LEVELS * entropy / math.log(log_probs.shape[-1])).long()
    return evidence * UNCERTAINTY_LEVELS + uncertainty.clamp(0, UNCERTAINTY_LEVELS - 1)
