"""Context experts: what followed the same context earlier in the stream, as full distributions.

A table counts tokens per context row and keeps, beside the counts, each row's exact total n and
its number of distinct tokens u. With a discount d in (0, 1) a row predicts

    p(x) = max(count(x) - d, 0) / n  +  (d * u / n) * lower(x)

Every nonzero count is an integer of at least 1, so the first terms sum to 1 - d * u / n: the row
sums to 1 exactly if `lower` does. The unigram's lower order is uniform, so all of them sum to 1.
This is interpolated absolute discounting (Ney, Essen and Kneser, 1994). Contexts that share a row
by hashing merge their statistics; the row is still a function of the past alone and still sums
to 1, which a count divided by a *separately hashed* total would not.
"""

from typing import NamedTuple

import torch
from torch import Tensor

RECENT_DECAY = 0.996  # per token: a memory of some 250 tokens
RECENT_PRIOR_TOKENS = 20.0  # the unigram's weight against it
HASH_MULTIPLIER = 36_313


class ContextKind(NamedTuple):
    """Which of the tokens before a target make up the context: 0 is the last one."""

    name: str
    offsets: tuple[int, ...]
    lower: str | None  # the expert that an unseen context falls back to; None: uniform
    discount: float


# Discounts below the 0.75 and more that serve n-grams on their own: beside the neural expert, which
# covers what they have not seen, they do best when they trust what they have.
CONTEXT_KINDS = (
    ContextKind("unigram", (), None, 0.1),
    ContextKind("bigram", (0,), "unigram", 0.65),
    ContextKind("trigram", (0, 1), "bigram", 0.65),
    ContextKind("4-gram", (0, 1, 2), "trigram", 0.65),
    ContextKind("5-gram", (0, 1, 2, 3), "4-gram", 0.65),
    ContextKind("skip", (1, 2), "unigram", 0.65),
)
EXPERT_NAMES = ("neural", *(kind.name for kind in CONTEXT_KINDS), "recent")


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

    def distribution(self, rows: Tensor, lower: Tensor) -> Tensor:
        """p(. | rows[i]) [n, V], given the lower order's distribution [n, V]; empty rows are it."""
        totals = self.totals[rows].to(lower.dtype)
        passed_on = self.discount * self.distinct[rows] / totals.clamp_min(1)
        passed_on = torch.where(totals > 0, passed_on, 1.0)
        kept = (self.counts[rows] - self.discount).clamp_min_(0) / totals.clamp_min(1)[:, None]
        return kept.addcmul_(lower, passed_on[:, None])


class ContextPrediction(NamedTuple):
    """What the context experts say of n targets, knowing only what comes before them."""

    log_ratios: Tensor  # [n, experts, V]: ln of each expert's p over that of its lower order
    totals: Tensor  # int32 [n, tables]: how often each table has seen the context
    distinct: Tensor  # int32 [n, tables]: how many tokens followed it


class ContextExperts:
    """One table per context kind, and the tokens that were frequent lately."""

    def __init__(self, vocab_size: int, buckets: int, device: torch.device) -> None:
        self.vocab_size = vocab_size
        self.tables = {
            kind.name: NGramTable(
                _row_count(kind, vocab_size, buckets), vocab_size, kind.discount, device
            )
            for kind in CONTEXT_KINDS
        }
        self.recent = torch.zeros(vocab_size, device=device)

    def predict(self, tokens: Tensor, positions: Tensor) -> ContextPrediction:
        """Predicts the targets `tokens[positions + 1]` from the tokens up to `positions`."""
        experts = self.distributions(tokens, positions)
        uniform = torch.full_like(experts["unigram"], 1 / self.vocab_size)
        logs = {name: p.log() for name, p in {**experts, "uniform": uniform}.items()}
        lowers = [kind.lower or "uniform" for kind in CONTEXT_KINDS] + ["unigram"]
        log_ratios = torch.stack(
            [logs[name] - logs[lower] for name, lower in zip(experts, lowers, strict=True)], dim=1
        )
        rows = [(table, self._rows(kind, tokens, positions)) for kind, table in self._tables()]
        return ContextPrediction(
            log_ratios,
            torch.stack([table.totals[row] for table, row in rows], dim=1),
            torch.stack([table.distinct[row] for table, row in rows], dim=1),
        )

    def distributions(self, tokens: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """Each expert's whole distribution after each of `positions`, float32 [n, V]."""
        shape = (len(positions), self.vocab_size)
        uniform = torch.full(shape, 1 / self.vocab_size, device=tokens.device)
        experts: dict[str, Tensor] = {}
        for kind, table in self._tables():
            lower = uniform if kind.lower is None else experts[kind.lower]
            experts[kind.name] = table.distribution(self._rows(kind, tokens, positions), lower)
        weighed = self.recent + RECENT_PRIOR_TOKENS * experts["unigram"]
        experts["recent"] = weighed / (self.recent.sum() + RECENT_PRIOR_TOKENS)
        return experts

    def count(self, tokens: Tensor, positions: Tensor) -> None:
        """Takes in the targets of consecutive `positions`, all of them scored."""
        targets = tokens[positions + 1]
        for kind, table in self._tables():
            table.count(self._rows(kind, tokens, positions), targets)
        ages = torch.arange(len(targets) - 1, -1, -1, device=tokens.device)
        self.recent *= RECENT_DECAY ** len(targets)
        self.recent.index_add_(0, targets, torch.pow(RECENT_DECAY, ages.float()))

    def _tables(self) -> list[tuple[ContextKind, NGramTable]]:
        return [(kind, self.tables[kind.name]) for kind in CONTEXT_KINDS]

    def _rows(self, kind: ContextKind, tokens: Tensor, positions: Tensor) -> Tensor:
        """The table row of each context, int64 [n]; before the stream lies its first token."""
        rows = torch.zeros_like(positions)
        for offset in kind.offsets:
            rows = rows * HASH_MULTIPLIER + tokens[(positions - offset).clamp_min(0)]
        return rows % len(self.tables[kind.name].totals)


def table_rows(vocab_size: int, buckets: int) -> int:
    """Rows of all tables together; each holds `vocab_size` int32 counts."""
    return sum(_row_count(kind, vocab_size, buckets) for kind in CONTEXT_KINDS)


def _row_count(kind: ContextKind, vocab_size: int, buckets: int) -> int:
    """A context of no or one token has a row of its own; longer ones are hashed."""
    return (1, vocab_size)[len(kind.offsets)] if len(kind.offsets) < 2 else buckets
