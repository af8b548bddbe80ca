"""The mixer as PR 700 submitted it, kept so that its faults can be measured.

What is wrong with it (none of this is in `mixture`, which the other presets use):
1. The entropy expert claims the model's entropy H as its NLL whatever the target. Over the
   vocabulary that is V * exp(-H) in place of 1, and Hedge rewards it for being wrong where the
   model is confident. `log_mass` measures by how much the mixture exceeds a distribution.
2. The trigram divides by at least 1: an unseen row sums to less than 1.
3. Hedge averages over whole windows, so targets weigh in several times, and once per batch, so
   the score depends on the batch size; each rank keeps weights of its own.
4. A chunk's first token is counted twice, at the end of one chunk and the start of the next.

Measured on real English (122,880 targets; an `embedded` model trained 250 steps by plain AdamW;
both mixers under one adaptation, rate 5e-4 and Polyak 0.998): neural 2.489 bpb; claimed 2.426;
mean ln of the sum 0.656 nats, so 2.842 once renormalised. The compliant mixer: 2.221.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hedge_record.evaluation.temperature import adaptive_temperature, softmax_entropy
from hedge_record.evaluation.windows import WindowBatch

HEDGE_EXPERT_NAMES = ("neural", "unigram", "bigram", "trigram", "entropy")
ROWS_AT_ONCE = 512  # their logits stay in a CPU's cache, where many windows' do not


class NeuralExpert(NamedTuple):
    """What the mixer needs of the model's distributions: tensors of one shape, in nats."""

    nll: Tensor  # of the targets
    entropy: Tensor

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor) -> "NeuralExpert":
        """From `logits` [..., V] and `targets` [...]."""
        log_probs = torch.log_softmax(logits, dim=-1)
        nll = -log_probs.gather(-1, targets[..., None]).squeeze(-1)
        return cls(nll, softmax_entropy(log_probs))


class HedgeMixer:
    """Five experts, one Hedge step per scored batch."""

    def __init__(
        self,
        vocab_size: int,
        *,
        buckets: int,
        eta: float,
        gate_tokens: int,
        temperature: float,
        device: torch.device,
    ) -> None:
        self.vocab_size = vocab_size
        self.eta = eta
        self.gate_tokens = gate_tokens
        self.temperature = temperature
        self.log_weights = torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0], device=device)
        self.counted = 0
        self.unigrams = torch.zeros(vocab_size, device=device)
        self.bigrams = torch.zeros(vocab_size, vocab_size, device=device)
        self.bigram_totals = torch.zeros(vocab_size, device=device)
        self.trigrams = torch.zeros(buckets, vocab_size, device=device)
        self.trigram_totals = torch.zeros(buckets, device=device)
        self._nll = [torch.zeros(0, device=device)]
        self._chunk_start = 0
        self._scored = 0
        self._log_mass = torch.zeros((), dtype=torch.float64, device=device)

    def take(self, batch: WindowBatch, logits: Tensor) -> None:  # noqa: ARG002
        """Scores the scored positions of `batch`, then one Hedge step on all its positions."""
        neural = self._neural(batch)
        nll, expert_nll = self.nll(neural, batch.inputs, batch.targets)
        mass = batch.scored(self.log_mass(neural, batch.inputs))
        self._scored += mass.numel()
        self._log_mass += mass.double().sum()
        if expert_nll is not None:
            self.update_weights(expert_nll, batch.lengths())
        self._nll.append(batch.scored(nll))

    def _neural(self, batch: WindowBatch) -> NeuralExpert:
        """The model at every position [B, T] of `batch`, its temperature applied."""
        pairs = zip(
            torch.split(batch.hidden.flatten(0, 1), ROWS_AT_ONCE),
            torch.split(batch.targets.flatten(), ROWS_AT_ONCE),
            strict=True,
        )
        parts = [
            NeuralExpert.of(
                adaptive_temperature(batch.model.project(hidden).float(), self.temperature), targets
            )
            for hidden, targets in pairs
        ]
        return NeuralExpert(
            *(torch.cat(of_all).view(batch.targets.shape) for of_all in zip(*parts, strict=True))
        )

    def finish_chunk(self, tokens: Tensor, end: int) -> Tensor:
        """NLL [n] of what was taken; counts the chunk's tokens, its last target too."""
        nll, self._nll = torch.cat(self._nll), self._nll[:1]
        self.count(tokens[self._chunk_start : end + 1])
        self._chunk_start = end
        return nll

    def count(self, tokens: Tensor) -> None:
        """Adds consecutive tokens [n] to the tables."""
        self.counted += tokens.numel()
        self.unigrams += tokens.bincount(minlength=self.vocab_size)
        previous, following = tokens[:-1], tokens[1:]
        ones = torch.ones_like(tokens, dtype=torch.float32)
        self.bigrams.index_put_((previous, following), ones[1:], accumulate=True)
        self.bigram_totals.index_add_(0, previous, ones[1:])
        rows = self._trigram_rows(previous[:-1], previous[1:])
        self.trigrams.index_put_((rows, following[1:]), ones[2:], accumulate=True)
        self.trigram_totals.index_add_(0, rows, ones[2:])

    def nll(
        self, neural: NeuralExpert, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Mixed NLL [B, T] and that of each expert [B, T, 5]; before the gate neural and None."""
        if self.counted < self.gate_tokens:
            return neural.nll, None
        expert_nll = self.expert_nll(neural, inputs, targets)
        mixed = torch.logsumexp(self.log_weights.log_softmax(0) - expert_nll, dim=-1)
        return -mixed, expert_nll

    def expert_nll(self, neural: NeuralExpert, inputs: Tensor, targets: Tensor) -> Tensor:
        """NLL of `targets` [B, T] after `inputs` [B, T] under each expert, [B, T, 5]."""
        rows = self._window_trigram_rows(inputs)
        unigram = (self.unigrams[targets] + 0.1) / (self.counted + 0.1 * self.vocab_size)
        bigram = (self.bigrams[inputs, targets] + 0.1) / self._bigram_denominator(inputs)
        trigram = (self.trigrams[rows, targets] + 0.01) / self._trigram_denominator(rows)
        experts = (neural.nll, -unigram.log(), -bigram.log(), -trigram.log(), neural.entropy)
        return torch.stack(experts, dim=-1)

    def expert_mass(self, neural: NeuralExpert, inputs: Tensor) -> Tensor:
        """What each expert's probabilities sum to over the vocabulary, [B, T, 5]."""
        rows = self._window_trigram_rows(inputs)
        row_sums = self.trigram_totals[rows] + 0.01 * self.vocab_size
        trigram = row_sums / self._trigram_denominator(rows)
        entropy = self.vocab_size * torch.exp(-neural.entropy)
        ones = torch.ones_like(entropy)
        return torch.stack((ones, ones, ones, trigram, entropy), dim=-1)

    def log_mass(self, neural: NeuralExpert, inputs: Tensor) -> Tensor:
        """ln of the mixture's sum over the vocabulary [B, T]: what it takes without paying."""
        if self.counted < self.gate_tokens:
            return torch.zeros_like(neural.nll)
        weights = self.log_weights.softmax(0)
        return (self.expert_mass(neural, inputs) * weights).sum(-1).log()

    def update_weights(self, expert_nll: Tensor, lengths: list[int]) -> None:
        """Hedge: each expert loses eta times its mean NLL over the first `lengths` positions."""
        ends = torch.tensor(lengths, device=expert_nll.device)
        valid = torch.arange(expert_nll.shape[1], device=expert_nll.device) < ends[:, None]
        self.log_weights -= self.eta * expert_nll[valid].mean(0)

    def figures(self) -> dict[str, float]:
        """The experts' weights, and mean ln of the sum over the vocabulary at scored targets."""
        weights = self.log_weights.softmax(0).tolist()
        return {
            **{f"weight_{n}": w for n, w in zip(HEDGE_EXPERT_NAMES, weights, strict=True)},
            "mean_log_mass": float(self._log_mass) / max(self._scored, 1),
        }

    def _bigram_denominator(self, inputs: Tensor) -> Tensor:
        return self.bigram_totals[inputs] + 0.1 * self.vocab_size

    def _trigram_denominator(self, rows: Tensor) -> Tensor:
        return self.trigram_totals[rows].clamp_min(1) + 0.01 * self.vocab_size

    def _window_trigram_rows(self, inputs: Tensor) -> Tensor:
        """Rows for each position of a window, whose first knows no token before its input."""
        before = torch.zeros_like(inputs)
        before[:, 1:] = inputs[:, :-1]
        return self._trigram_rows(before, inputs)

    def _trigram_rows(self, before_previous: Tensor, previous: Tensor) -> Tensor:
        return ((before_previous * 36313) ^ (previous * 27191)) % len(self.trigrams)
