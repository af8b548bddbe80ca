"""The mixers: when a mixture is a probability distribution, and when it is not."""

import math

import pytest
import torch
from golden_recipes import lcg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hedge_record.evaluation.hedge_mixer import HedgeMixer
from hedge_record.evaluation.mixture import CompliantMixer
from hedge_record.evaluation.ngram import NGramExperts, NGramTable, TokenContext, context_of
from hedge_record.evaluation.windows import Window, WindowBatch

VOCAB = 64
CPU = torch.device("cpu")


def compliant_mixer(block_tokens: int = 16) -> CompliantMixer:
    # Fewer buckets than contexts: rows are shared by collisions.
    return CompliantMixer(VOCAB, trigram_buckets=97, block_tokens=block_tokens, device=CPU)


def random_logits(positions: int, seed: int, size: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(positions, VOCAB, generator=generator)


def stream(length: int, seed: int = 1) -> Tensor:
    return torch.tensor(lcg(length, VOCAB, seed))


def batch_of(tokens: Tensor, logits: Tensor, windows: list[Window]) -> WindowBatch:
    """A batch whose model predicts position p by `logits[p]` in every window."""
    rows = [slice(window.start, window.end) for window in windows]
    return WindowBatch(
        windows,
        torch.stack([tokens[:-1][row] for row in rows]),
        torch.stack([tokens[1:][row] for row in rows]),
        torch.stack([logits[row] for row in rows]),
    )


def scored_stream(mixer: CompliantMixer, tokens: Tensor, logits: Tensor, size: int) -> Tensor:
    """NLL of all positions, `size` windows of 8 positions per batch, chunks of 64."""
    nll = [logits.new_zeros(0, dtype=torch.float64)]
    for chunk in range(0, len(logits), 64):
        windows = [Window(start, 8, 0) for start in range(chunk, chunk + 64, 8)]
        for first in range(0, len(windows), size):
            batch = batch_of(tokens, logits, windows[first : first + size])
            nll.append(mixer.score_batch(batch, tokens))
        mixer.count_chunk(tokens, chunk + 64)
    return torch.cat(nll)


@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), max_size=60),
    discount=st.floats(0.01, 0.99),
)
def test_ngram_rows_sum_to_one_and_totals_match_counts(
    rows: list[tuple[int, int]], discount: float
) -> None:
    table = NGramTable(5, 8, discount, CPU)
    for part in (rows[:20], rows[20:]):
        if part:
            table.count(torch.tensor([r for r, _ in part]), torch.tensor([t for _, t in part]))
    for row, token in set(rows):
        assert table.counts[row, token] == rows.count((row, token))
    assert torch.equal(table.totals, table.counts.sum(1).int())
    assert torch.equal(table.distinct, (table.counts > 0).sum(1).int())
    lower = torch.rand(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    lower /= lower.sum(1, keepdim=True)
    distribution = table.distribution(torch.arange(5), lower)
    assert (distribution >= 0).all()
    assert torch.allclose(distribution.sum(1), torch.ones(5, dtype=torch.float64), atol=1e-12)


def test_an_ngram_without_counts_is_uniform() -> None:
    experts = NGramExperts(VOCAB, 97, CPU)
    context = context_of(stream(9), torch.arange(8))
    assert torch.allclose(
        experts.distributions(context), torch.tensor(1 / VOCAB, dtype=torch.float64)
    )


@pytest.mark.parametrize("scored_chunks", [0, 1, 8])
@pytest.mark.parametrize("size", [0.0, 3.0, 30.0])
def test_compliant_mixture_sums_to_one_in_every_state(scored_chunks: int, size: float) -> None:
    mixer = compliant_mixer()
    tokens = stream(64 * 8 + 1)
    logits = random_logits(64 * 8, seed=2)
    scored_stream(mixer, tokens, logits[: 64 * scored_chunks], size=4)
    context = context_of(tokens, torch.arange(200, 264))
    distribution = mixer.distribution(random_logits(64, seed=3, size=size), context)
    assert (distribution >= 0).all()
    assert torch.allclose(distribution.sum(1), torch.ones(64, dtype=torch.float64), atol=1e-5)
    weights = mixer.weights()
    assert torch.allclose(weights.sum(1), torch.ones(len(weights), dtype=torch.float64))


def test_compliant_mixture_also_sums_to_one_when_asked_target_by_target() -> None:
    mixer = compliant_mixer()
    tokens = stream(257)
    scored_stream(mixer, tokens, random_logits(256, seed=2), size=4)
    logits = random_logits(40, seed=5)
    context = context_of(tokens, torch.arange(10, 50))
    asked = torch.stack(
        [
            torch.exp(-mixer.mix(logits, context, torch.full((40,), token)).nll)
            for token in range(VOCAB)
        ],
        dim=1,
    )
    assert torch.allclose(asked, mixer.distribution(logits, context), atol=1e-12)
    assert torch.allclose(asked.sum(1), torch.ones(40, dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize("block_tokens", [4, 16, 24, 1000])
def test_compliant_score_is_the_same_for_any_batch_size(block_tokens: int) -> None:
    tokens, logits = stream(257), random_logits(256, seed=4)
    one, three, all_at_once = (
        scored_stream(compliant_mixer(block_tokens), tokens, logits, size) for size in (1, 3, 8)
    )
    assert torch.equal(one, three)
    assert torch.equal(one, all_at_once)


def test_compliant_scores_before_a_changed_token_stay_the_same() -> None:
    tokens, logits = stream(257), random_logits(256, seed=4)
    changed = tokens.clone()
    changed[150:] = (changed[150:] + 7) % VOCAB
    scores = scored_stream(compliant_mixer(), tokens, logits, 8)
    other = scored_stream(compliant_mixer(), changed, logits, 8)
    # Position 149 is the first with a changed target.
    assert torch.equal(scores[:149], other[:149])
    assert not torch.equal(scores[149:], other[149:])


def test_compliant_mixer_counts_each_target_once() -> None:
    tokens = stream(257)
    mixer = compliant_mixer(block_tokens=24)
    scored_stream(mixer, tokens, random_logits(256, seed=4), 3)
    counts = mixer.experts.unigram.counts[0].long()
    assert torch.equal(counts, tokens[1:].bincount(minlength=VOCAB))
    assert mixer.shares.sum().item() == pytest.approx(256 + compliant_mixer().shares.sum().item())


def test_compliant_mixture_beats_an_uninformed_model_and_keeps_up_with_a_perfect_one() -> None:
    # Every other token follows from the one before it.
    noise = torch.randint(VOCAB, (1025,), generator=torch.Generator().manual_seed(1))
    tokens = torch.stack((noise, (5 * noise + 3) % VOCAB), dim=1).flatten()[:2049]
    blank = torch.zeros(2048, VOCAB)
    learned = scored_stream(compliant_mixer(), tokens, blank, 8)
    assert learned[1024:].mean() < 0.75 * math.log(VOCAB)
    perfect = 20.0 * torch.nn.functional.one_hot(tokens[1:], VOCAB).float()
    assert scored_stream(compliant_mixer(), tokens, perfect, 8).mean() < 0.1


def test_trigram_context_of_a_stream_is_its_two_last_tokens() -> None:
    context = context_of(torch.tensor([5, 6, 7, 8]), torch.arange(3))
    assert context == TokenContext(context.before_previous, context.previous)
    assert context.before_previous.tolist() == [5, 5, 6]
    assert context.previous.tolist() == [5, 6, 7]


def test_submitted_mixture_takes_more_than_it_may() -> None:
    """The entropy expert: a confident model that is always wrong scores better than chance."""
    mixer = HedgeMixer(VOCAB, trigram_buckets=97, eta=0.1, gate_tokens=10, device=CPU)
    mixer.count(stream(1000))
    inputs = stream(65)[:-1].view(1, 64)
    targets = stream(65)[1:].view(1, 64)
    wrong = torch.nn.functional.one_hot((targets + 1) % VOCAB, VOCAB).float() * 20
    for _ in range(60):
        nll, expert_nll = mixer.nll(wrong, inputs, targets)
        assert expert_nll is not None
        mixer.update_weights(expert_nll, [64])
    assert nll.mean() < 0.1
    assert mixer.log_mass(wrong, inputs).mean() > 0.9 * math.log(VOCAB)


def test_submitted_mixer_reports_the_mass_of_what_it_scored() -> None:
    mixer = HedgeMixer(VOCAB, trigram_buckets=97, eta=0.1, gate_tokens=100, device=CPU)
    tokens, logits = stream(257), random_logits(256, seed=4)
    first = batch_of(tokens, logits, [Window(0, 128, 0)])
    neural = torch.nn.functional.cross_entropy(logits[:128], tokens[1:129], reduction="none")
    assert torch.allclose(mixer.score_batch(first, tokens), neural)
    mixer.count_chunk(tokens, 128)
    assert mixer.figures()["mean_log_mass"] == 0
    second = batch_of(tokens, logits, [Window(64, 128, 64)])
    mass = second.scored(mixer.log_mass(second.logits, second.inputs))
    mixer.score_batch(second, tokens)
    assert mixer.figures()["mean_log_mass"] == pytest.approx(mass.sum().item() / 192, rel=1e-5)
    mixer.count_chunk(tokens, 256)
    # Position 128's input closes one chunk's count and opens the next.
    assert mixer.counted == 257 + 1
