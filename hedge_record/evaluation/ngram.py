"""N-gram experts that are probability distributions by construction.

A table counts tokens per context row and keeps, beside the counts, each row's exact total n and
its number of distinct tokens u. With a discount d in (0, 1) a row predicts

    p(x) = max(count(x) - d, 0) / n  +  (d * u / n) * lower(x)

Every nonzero count is an integer of at least 1, so the first terms sum to 1 - d * u / n: the row
sums to 1 exactly if `lower` does. The unigram's lower order is uniform, so all orders sum to 1.
This is interpolated absolute discounting (Ney, Essen and Kneser, 1994). Contexts that share a row
by hashing merge their statistics; the row is still a function of the past alone and still sums
to 1, which a count divided by a *separately hashed* total would not.

Sums over the vocabulary are never needed to score: `probability` reads one entry per target.
"""

from typing import NamedTuple

import torch
from torch import Tensor

UNIGRAM_DISCOUNT = 0.1
# Below the 0.75 and more that serve n-grams on their own: beside the neural expert, which covers
# what they have not seen, they do best when they trust what they have.
BIGRAM_DISCOUNT = 0.65
TRIGRAM_DISCOUNT = 0.65


class TokenContext(NamedTuple):
    """The two tokens before each target: `previous` and the one before it, int64 [n]."""

    before_previous: Tensor
    previous: Tensor


def context_of(tokens: Tensor, positions: Tensor) -> TokenContext:
    """The context of the targets `tokens[positions + 1]`; position 0 repeats its only token."""
    return TokenContext(tokens[(positions - 1).clamp_min(0)], tokens[positions])


def trigram_rows(context: TokenContext, buckets: int) -> Tensor:
    """The hashed row of each context, int64 [n] in 0..buckets - 1."""
    return ((context.before_previous * 36313) ^ (context.previous * 27191)) % buckets


class NGramTable:
    """Counts of tokens per context row, with what turns them into distributions."""

    def __init__(self, rows: int, vocab_size: int, discount: float, device: torch.device) -> None:
        self.discount = discount
        self.counts = torch.zeros(rows, vocab_size, dtype=torch.int32, device=device)
        self.totals = torch.zeros(rows, dtype=torch.int32, device=device)
        self.distinct = torch.zeros(rows, dtype=torch.int32, device=device)

    def count(self, rows: Tensor, tokens: Tensor) -> None:
        """Adds one observation of `tokens[i]` in context row `rows[i]`, int64 [n] each."""
        width = self.counts.shape[1]
        seen, times = torch.unique(rows * width + tokens, return_counts=True)
        flat = self.counts.view(-1)
        new_rows = seen[flat[seen] == 0] // width
        flat[seen] += times.int()
        self.totals.index_add_(0, rows, torch.ones_like(rows, dtype=torch.int32))
        self.distinct.index_add_(0, new_rows, torch.ones_like(new_rows, dtype=torch.int32))

    def probability(self, rows: Tensor, tokens: Tensor, lower: Tensor) -> Tensor:
        """p(tokens[i] | rows[i]) float64 [n], given the lower order's probability of the same."""
        return self._interpolate(self.counts[rows, tokens], rows, lower)

    def distribution(self, rows: Tensor, lower: Tensor) -> Tensor:
        """p(. | rows[i]) float64 [n, V], given the lower order's distribution [n, V]."""
        return self._interpolate(self.counts[rows].T, rows, lower.T).T

    def _interpolate(self, counts: Tensor, rows: Tensor, lower: Tensor) -> Tensor:
        """[..., n] counts in `rows` [n] -> [..., n] probabilities; an empty row is its lower."""
        totals = self.totals[rows].double()
        kept = (counts.double() - self.discount).clamp_min(0)
        passed_on = self.discount * self.distinct[rows].double()
        return torch.where(totals > 0, (kept + passed_on * lower) / totals.clamp_min(1), lower)


class NGramExperts:
    """Unigram, bigram and hashed trigram, each backing off to the one before it."""

    def __init__(self, vocab_size: int, trigram_buckets: int, device: torch.device) -> None:
        self.vocab_size = vocab_size
        self.unigram = NGramTable(1, vocab_size, UNIGRAM_DISCOUNT, device)
        self.bigram = NGramTable(vocab_size, vocab_size, BIGRAM_DISCOUNT, device)
        self.trigram = NGramTable(trigram_buckets, vocab_size, TRIGRAM_DISCOUNT, device)

    def count(self, context: TokenContext, tokens: Tensor) -> None:
        """Takes in targets that are already scored."""
        for table, rows in self._tables(context):
            table.count(rows, tokens)

    def probabilities(self, context: TokenContext, targets: Tensor) -> Tensor:
        """Each expert's probability of each target, float64 [n, 3]."""
        experts = []
        lower = self._uniform(*targets.shape)
        for table, rows in self._tables(context):
            lower = table.probability(rows, targets, lower)
            experts.append(lower)
        return torch.stack(experts, dim=-1)

    def distributions(self, context: TokenContext) -> Tensor:
        """Each expert's whole distribution at each context, float64 [n, 3, V]."""
        experts = []
        lower = self._uniform(context.previous.numel(), self.vocab_size)
        for table, rows in self._tables(context):
            lower = table.distribution(rows, lower)
            experts.append(lower)
        return torch.stack(experts, dim=1)

    def evidence(self, context: TokenContext) -> Tensor:
        """How often each context's trigram row was seen, int32 [n]."""
        return self.trigram.totals[trigram_rows(context, self.trigram.totals.numel())]

    def _uniform(self, *shape: int) -> Tensor:
        device = self.unigram.totals.device
        return torch.full(shape, 1 / self.vocab_size, dtype=torch.float64, device=device)

    def _tables(self, context: TokenContext) -> list[tuple[NGramTable, Tensor]]:
        return [
            (self.unigram, torch.zeros_like(context.previous)),
            (self.bigram, context.previous),
            (self.trigram, trigram_rows(context, self.trigram.totals.numel())),
        ]
