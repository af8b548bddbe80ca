"""The mixers: when a mixture is a probability distribution, and when it is not."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from golden_recipes import lcg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hedge_record.config import EvaluationConfig
from hedge_record.errors import RecordError
from hedge_record.evaluation.hedge_mixer import HedgeMixer, NeuralExpert
from hedge_record.evaluation.mixture import LEARNING_RATE, CompliantMixer
from hedge_record.evaluation.ngram import (
    CONTEXT_KINDS,
    EXPERT_NAMES,
    RECENT_DECAY,
    ContextExperts,
    NGramTable,
)
from hedge_record.evaluation.windows import Window, WindowBatch

VOCAB = 64
CPU = torch.device("cpu")
# Stands in for a model whose logits are known.
LOGITS_AS_HIDDEN = cast(Any, SimpleNamespace(project=lambda hidden: hidden))


def compliant_mixer(block_tokens: int = 16) -> CompliantMixer:
    # Fewer buckets than contexts: rows are shared by collisions.
    return CompliantMixer(VOCAB, buckets=97, block_tokens=block_tokens, device=CPU)


def hedge_mixer(gate_tokens: int) -> HedgeMixer:
    return HedgeMixer(
        VOCAB, buckets=97, eta=0.1, gate_tokens=gate_tokens, temperature=1.0, device=CPU
    )


def random_logits(positions: int, seed: int, size: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(positions, VOCAB, generator=generator)


def stream(length: int, seed: int = 1) -> Tensor:
    return torch.tensor(lcg(length, VOCAB, seed))


def batch_of(tokens: Tensor, logits: Tensor, windows: list[Window]) -> WindowBatch:
    """A batch whose model predicts position p by `logits[p]` in every window."""
    rows = [slice(window.start, window.end) for window in windows]
    return WindowBatch(
        LOGITS_AS_HIDDEN,
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
            mixer.take(batch, batch.scored_logits())
        nll.append(mixer.finish_chunk(tokens, chunk + 64))
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


def test_context_experts_without_counts_are_uniform() -> None:
    experts = ContextExperts(VOCAB, 97, CPU)
    for expert in experts.distributions(stream(9), torch.arange(8)).values():
        assert torch.allclose(expert, torch.tensor(1 / VOCAB))


@pytest.mark.parametrize("counted", [0, 1, 5, 500])
def test_every_context_expert_is_a_distribution_and_tells_its_ratio(counted: int) -> None:
    experts = ContextExperts(VOCAB, 97, CPU)
    tokens, positions = stream(601), torch.arange(counted, counted + 50)
    experts.count(tokens, torch.arange(counted))
    distributions = experts.distributions(tokens, positions)
    for expert in distributions.values():
        assert (expert > 0).all()
        assert torch.allclose(expert.sum(1), torch.ones(50), atol=1e-5)
    ratios = experts.predict(tokens, positions).log_ratios
    for index, kind in enumerate(CONTEXT_KINDS):
        lower = distributions[kind.lower] if kind.lower else torch.tensor(1 / VOCAB)
        assert torch.allclose(ratios[:, index], (distributions[kind.name] / lower).log(), atol=1e-4)


def test_contexts_are_the_tokens_that_their_kind_names() -> None:
    """What followed a context once is foretold when every named token comes back, and only then."""
    tokens = torch.tensor([1, 2, 3, 4, 9, 60, 2, 3, 4, 5, 1, 2, 3, 4, 0])
    experts = ContextExperts(VOCAB, 65_536, CPU)
    experts.count(tokens, torch.arange(4))  # the last counted target: 9, after 1 2 3 4
    seen = experts.predict(tokens, torch.tensor([8, 13])).totals > 0
    names = [kind.name for kind in CONTEXT_KINDS]
    # At position 8 the tokens 2 3 4 came back after a 60, at 13 after the 1 of before.
    assert dict(zip(names, seen[0].tolist(), strict=True)) == {
        "unigram": True, "bigram": True, "trigram": True, "4-gram": True, "5-gram": False,
        "skip": True,
    }  # fmt: skip
    assert seen[1].all()


def test_recent_tokens_fade_alike_in_blocks_of_any_size() -> None:
    tokens = stream(301)
    whole, parts = ContextExperts(VOCAB, 97, CPU), ContextExperts(VOCAB, 97, CPU)
    whole.count(tokens, torch.arange(300))
    for first in range(0, 300, 50):
        parts.count(tokens, torch.arange(first, first + 50))
    assert torch.allclose(whole.recent, parts.recent, rtol=1e-4)
    remembered = (1 - RECENT_DECAY**300) / (1 - RECENT_DECAY)
    assert whole.recent.sum().item() == pytest.approx(remembered, rel=1e-3)


@pytest.mark.parametrize("scored_chunks", [0, 1, 8])
@pytest.mark.parametrize("size", [0.0, 3.0, 30.0])
def test_compliant_mixture_sums_to_one_in_every_state(scored_chunks: int, size: float) -> None:
    mixer = compliant_mixer()
    tokens = stream(64 * 8 + 1)
    logits = random_logits(64 * 8, seed=2)
    scored_stream(mixer, tokens, logits[: 64 * scored_chunks], size=4)
    logits = random_logits(64, seed=3, size=size)
    mixture = mixer.mix(logits, tokens, torch.arange(200, 264)).log_probs.exp()
    assert torch.allclose(mixture.sum(1), torch.ones(64, dtype=torch.float64), atol=1e-9)


def test_compliant_score_is_the_targets_entry_of_the_whole_row() -> None:
    """Asked for every token of the vocabulary in the target's place, scores sum to one."""
    tokens, logits = stream(257), random_logits(256, seed=2)
    total = torch.zeros(1, dtype=torch.float64)
    for token in range(VOCAB):
        asked = tokens.clone()
        asked[256] = token
        total += torch.exp(-scored_stream(compliant_mixer(), asked, logits, 8)[-1])
    assert total.item() == pytest.approx(1, abs=1e-6)


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
    counts = mixer.experts.tables["unigram"].counts[0].long()
    assert torch.equal(counts, tokens[1:].bincount(minlength=VOCAB))
    assert mixer.position == 256


def test_compliant_weights_follow_the_gradient_of_the_log_likelihood() -> None:
    tokens, logits = stream(257), random_logits(256, seed=4)
    mixer = compliant_mixer()
    scored_stream(mixer, tokens, logits[:128], 8)
    weights = [of_set.clone().requires_grad_() for of_set in mixer.weight_sets]
    positions = torch.arange(128, 136)
    mixer.weight_sets = weights
    block = mixer.mix(logits[128:136], tokens, positions)
    torch.autograd.backward(block.log_probs[torch.arange(8), tokens[129:137]].sum())
    before = [of_set.detach().clone() for of_set in weights]
    mixer.weight_sets = [of_set.clone() for of_set in before]
    mixer.score(logits[128:136], tokens)
    for old, new, learned in zip(before, mixer.weight_sets, weights, strict=True):
        assert learned.grad is not None
        assert torch.allclose(new - old, LEARNING_RATE * learned.grad, atol=1e-6)


def test_a_full_weight_cell_steps_no_further_in_a_longer_block() -> None:
    tokens = torch.zeros(4097, dtype=torch.int64)
    short, long = compliant_mixer(16), compliant_mixer(4096)
    logits = torch.zeros(4096, VOCAB)
    start = short.weight_sets[0].clone()
    short.score(logits[:16], tokens)
    long.score(logits, tokens)
    assert torch.allclose(short.weight_sets[0] - start, long.weight_sets[0] - start, atol=1e-6)


def test_an_expert_that_is_left_out_never_speaks() -> None:
    tokens, logits = stream(257), random_logits(256, seed=4)
    alone = CompliantMixer(VOCAB, buckets=97, block_tokens=16, device=CPU, experts=["neural"])
    scored_stream(alone, tokens, logits, 8)
    for of_set in alone.weight_sets:
        assert not of_set[:, 1:].any()
    block = alone.mix(logits[:50], tokens, torch.arange(200, 250))
    weight = torch.stack([s[r, 0] for s, r in zip(alone.weight_sets, block.selected, strict=True)])
    tempered = (logits[:50].log_softmax(1) * weight.sum(0)[:, None]).log_softmax(1)
    assert torch.allclose(block.log_probs.float(), tempered, atol=1e-5)
    with pytest.raises(RecordError, match="no 9-gram; choose from neural"):
        CompliantMixer(VOCAB, buckets=97, block_tokens=16, device=CPU, experts=["9-gram"])


def test_the_configuration_names_every_expert() -> None:
    assert EvaluationConfig().mixer_experts == EXPERT_NAMES


def test_compliant_mixture_beats_an_uninformed_model_and_keeps_up_with_a_perfect_one() -> None:
    # Every other token follows from the one before it.
    noise = torch.randint(VOCAB, (1025,), generator=torch.Generator().manual_seed(1))
    tokens = torch.stack((noise, (5 * noise + 3) % VOCAB), dim=1).flatten()[:2049]
    blank = torch.zeros(2048, VOCAB)
    learned = scored_stream(compliant_mixer(), tokens, blank, 8)
    assert learned[1024:].mean() < 0.75 * math.log(VOCAB)
    perfect = 20.0 * torch.nn.functional.one_hot(tokens[1:], VOCAB).float()
    assert scored_stream(compliant_mixer(), tokens, perfect, 8).mean() < 0.1


def test_submitted_mixture_takes_more_than_it_may() -> None:
    """The entropy expert: a confident model that is always wrong scores better than chance."""
    mixer = hedge_mixer(gate_tokens=10)
    mixer.count(stream(1000))
    inputs = stream(65)[:-1].view(1, 64)
    targets = stream(65)[1:].view(1, 64)
    wrong = torch.nn.functional.one_hot((targets + 1) % VOCAB, VOCAB).float() * 20
    neural = NeuralExpert.of(wrong, targets)
    for _ in range(60):
        nll, expert_nll = mixer.nll(neural, inputs, targets)
        assert expert_nll is not None
        mixer.update_weights(expert_nll, [64])
    assert nll.mean() < 0.1
    assert mixer.log_mass(neural, inputs).mean() > 0.9 * math.log(VOCAB)


def test_submitted_mixer_reports_the_mass_of_what_it_scored() -> None:
    mixer = hedge_mixer(gate_tokens=100)
    tokens, logits = stream(257), random_logits(256, seed=4)
    first = batch_of(tokens, logits, [Window(0, 128, 0)])
    neural = torch.nn.functional.cross_entropy(logits[:128], tokens[1:129], reduction="none")
    mixer.take(first, first.scored_logits())
    assert torch.allclose(mixer.finish_chunk(tokens, 128), neural)
    assert mixer.figures()["mean_log_mass"] == 0
    second = batch_of(tokens, logits, [Window(64, 128, 64)])
    at_all = NeuralExpert.of(second.all_logits(), second.targets)
    mass = second.scored(mixer.log_mass(at_all, second.inputs))
    mixer.take(second, second.scored_logits())
    assert mixer.figures()["mean_log_mass"] == pytest.approx(mass.sum().item() / 192, rel=1e-5)
    mixer.finish_chunk(tokens, 256)
    # Position 128's input closes one chunk's count and opens the next.
    assert mixer.counted == 257 + 1
