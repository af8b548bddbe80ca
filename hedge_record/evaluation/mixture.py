"""The compliant mixer: a mixture of the model and three n-gram experts that is a code.

Why it may be claimed
---------------------
- Each expert is a distribution over the whole vocabulary (the model's softmax; n-grams by
  construction, see `ngram`), and the weights are nonnegative, sum to 1 and are chosen before the
  target is known: so the mixture sums to 1 at every position, and reading the target's entry alone
  is the same as computing the whole row and reading it there.
- Everything it uses lies in the past. Counts hold the targets before the current block of
  `mixer_block_tokens` positions, weights those before the current chunk. Blocks and chunks are
  fixed positions of the stream: a score depends neither on the batch size nor on the ranks.

The weights
-----------
Hedge over experts, as submitted, goes to the single best expert, and a mixture of several beats
each of them. So it is the mixture whose weights are learned: every scored target is shared out to
the experts in proportion to what each contributed to its probability, and an expert's weight is
its part of all shares so far, prior included. That is expectation maximisation run online: the
deleted interpolation of Jelinek and Mercer (1980). There is one set of weights per cell of (how
often the trigram context was seen, how uncertain the model is), both known in advance.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hedge_record.evaluation.ngram import NGramExperts, TokenContext, context_of
from hedge_record.evaluation.windows import WindowBatch
from hedge_record.training.distributed import sum_over_ranks

EXPERT_NAMES = ("neural", "unigram", "bigram", "trigram")
# Shares that every cell holds before the first target, in tokens, in the order of EXPERT_NAMES.
PRIOR_SHARES = (16.0, 0.1, 0.1, 8.0)
EVIDENCE_LEVELS = 8  # trigram context seen 0, 1, 3, 7, ... 127 times
UNCERTAINTY_LEVELS = 4  # quarters of the greatest entropy, ln V


class MixedTargets(NamedTuple):
    """Some scored targets: `nll` float64 [n]; their cells int64 [n]; `shares` [n, experts]."""

    nll: Tensor
    cells: Tensor
    shares: Tensor


class CompliantMixer:
    """Scores targets under the mixture; counts them afterwards."""

    def __init__(
        self, vocab_size: int, *, trigram_buckets: int, block_tokens: int, device: torch.device
    ) -> None:
        self.experts = NGramExperts(vocab_size, trigram_buckets, device)
        self.block_tokens = block_tokens
        self.counted = 0  # targets of positions before this one are in the counts
        prior = torch.tensor(PRIOR_SHARES, dtype=torch.float64, device=device)
        self.shares = prior.repeat(EVIDENCE_LEVELS * UNCERTAINTY_LEVELS, 1)
        self._chunk_shares = torch.zeros_like(self.shares)

    def score_batch(self, batch: WindowBatch, tokens: Tensor) -> Tensor:
        """NLL float64 [n] of the scored positions of `batch`, windows over `tokens` [N + 1].

        Goes block by block: a block's targets enter the counts after all of them are scored.
        """
        position = batch.windows[0].first_scored
        # Other ranks are scoring what lies between; on one rank nothing does.
        self._count_before(tokens, position - position % self.block_tokens)
        logits = batch.scored(batch.logits)
        nll = []
        done = 0
        while done < len(logits):
            room = self.block_tokens - position % self.block_tokens
            block = logits[done : done + room]
            positions = torch.arange(position, position + len(block), device=tokens.device)
            scored = self.mix(block, context_of(tokens, positions), tokens[positions + 1])
            nll.append(scored.nll)
            self._chunk_shares.index_add_(0, scored.cells, scored.shares)
            position, done = position + len(block), done + len(block)
            if position % self.block_tokens == 0:
                self._count_before(tokens, position)
        return torch.cat(nll)

    def count_chunk(self, tokens: Tensor, end: int) -> None:
        """Takes in the rest of a chunk that ends before position `end`, and its shares."""
        self._count_before(tokens, end)
        self.shares += sum_over_ranks(self._chunk_shares)
        self._chunk_shares.zero_()

    def mix(self, logits: Tensor, context: TokenContext, targets: Tensor) -> MixedTargets:
        """The mixture's NLL of `targets` [n] after `context`, given `logits` [n, V]."""
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        neural = log_probs.gather(-1, targets[:, None]).double().exp()
        experts = torch.cat((neural, self.experts.probabilities(context, targets)), dim=-1)
        cells = self._cells(log_probs, context)
        parts = self.weights()[cells] * experts
        probability = parts.sum(-1)
        return MixedTargets(-probability.log(), cells, parts / probability[:, None])

    def distribution(self, logits: Tensor, context: TokenContext) -> Tensor:
        """The whole mixture after each context, float64 [n, V]: what `mix` reads entries of."""
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        neural = log_probs.double().exp()[:, None]
        experts = torch.cat((neural, self.experts.distributions(context)), dim=1)
        weights = self.weights()[self._cells(log_probs, context)]
        return (weights[:, :, None] * experts).sum(1)

    def weights(self) -> Tensor:
        """Each cell's mixing weights, float64 [cells, experts]; rows sum to 1."""
        return self.shares / self.shares.sum(-1, keepdim=True)

    def figures(self) -> dict[str, float]:
        """Each expert's part of all targets scored in finished chunks, prior included."""
        parts = self.shares.sum(0) / self.shares.sum()
        return {
            f"weight_{name}": part for name, part in zip(EXPERT_NAMES, parts.tolist(), strict=True)
        }

    def _cells(self, log_probs: Tensor, context: TokenContext) -> Tensor:
        """The weight cell of each position, from its past alone: int64 [n]."""
        seen = (self.experts.evidence(context) + 1).float().log2().long()
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        uncertainty = (UNCERTAINTY_LEVELS * entropy / math.log(log_probs.shape[-1])).long()
        return seen.clamp_max(EVIDENCE_LEVELS - 1) * UNCERTAINTY_LEVELS + uncertainty.clamp(
            0, UNCERTAINTY_LEVELS - 1
        )

    def _count_before(self, tokens: Tensor, end: int) -> None:
        """Counts the targets of all positions before `end` that are not counted yet."""
        if end > self.counted:
            positions = torch.arange(self.counted, end, device=tokens.device)
            self.experts.count(context_of(tokens, positions), tokens[positions + 1])
            self.counted = end
