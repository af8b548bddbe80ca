"""Laws of scoring: every target once, each before anything learns from it."""

import math
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from golden_recipes import lcg, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hedge_record.config import EvaluationConfig
from hedge_record.data.byte_table import ByteTable
from hedge_record.errors import RecordError
from hedge_record.evaluation.adaptation import adapted_parameters, chunk_learning_rate
from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.evaluation.make_mixer import make_mixer
from hedge_record.evaluation.ngram import EXPERT_NAMES
from hedge_record.evaluation.sliding import score_sliding
from hedge_record.evaluation.temperature import adaptive_temperature
from hedge_record.evaluation.ttt import AdaptiveScore, plan_chunks, score_first_ttt
from hedge_record.evaluation.windows import plan_windows
from hedge_record.model.gpt import GPT
from hedge_record.progress import SilentReporter

VOCAB = 64
CPU = torch.device("cpu")
CONFIG = EvaluationConfig(
    sequence_length=32,
    stride=8,
    batch_windows=5,
    ttt_epochs=1,
    ttt_chunk_tokens=128,
    ttt_batch_sequences=2,
    ttt_lr=1e-3,
    mixer_block_tokens=16,
    ngram_buckets=97,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def byte_table() -> ByteTable:
    ids = torch.arange(VOCAB)
    return ByteTable((1 + ids % 4).int(), ids % 3 == 0, ids == 0)


def stream(targets: int) -> Tensor:
    return torch.tensor(lcg(targets + 1, VOCAB, seed=3))


def slide(model: GPT, tokens: Tensor, config: EvaluationConfig) -> Score:
    return score_sliding(model, tokens, byte_table(), config, device=CPU, reporter=SilentReporter())


def adapt(model: GPT, tokens: Tensor, config: EvaluationConfig) -> AdaptiveScore:
    mixer = make_mixer(config, tokens, VOCAB, CPU)
    return score_first_ttt(
        model, tokens, byte_table(), config, device=CPU, reporter=SilentReporter(), mixer=mixer
    )


def test_bits_per_byte_divides_once() -> None:
    parts = Score(nats=10.0, tokens=4, bytes=3) + Score(nats=2.0, tokens=2, bytes=9)
    assert parts == Score(12.0, 6, 12)
    assert parts.bpb == pytest.approx(12 / math.log(2) / 12)
    assert parts.loss == 2.0
    assert Score.of(torch.tensor([1.0, 2.5]), torch.tensor([3, 0])) == Score(3.5, 2, 3)


def test_scores_of_nothing_say_so() -> None:
    with pytest.raises(RecordError, match="no validation target"):
        _ = Score().loss
    with pytest.raises(RecordError, match="0 bytes"):
        _ = Score(nats=1.0, tokens=1).bpb


@settings(deadline=None)
@given(
    positions=st.integers(1, 300),
    length=st.integers(1, 40),
    stride=st.integers(1, 40),
)
def test_every_position_is_scored_exactly_once(positions: int, length: int, stride: int) -> None:
    stride = min(stride, length)
    config = replace(CONFIG, sequence_length=length, stride=stride)
    scored: list[int] = []
    for window in plan_windows(positions, config):
        assert 0 < window.length <= length
        assert window.end <= positions
        # Only the first window has less than this before its first scored position.
        assert window.start == 0 or window.scored_from == length - stride
        scored.extend(range(window.first_scored, window.end))
    assert scored == list(range(positions))


def test_the_submitted_tail_scores_the_last_targets_again_and_again() -> None:
    config = replace(CONFIG, score_tail_repeatedly=True)
    windows = plan_windows(100, config, shortest_tail=8)
    tail = [window for window in windows if window.end == 100 and window.start]
    assert len(tail) == 3
    assert {window.first_scored for window in tail} == {92}


@pytest.mark.parametrize("stride", [0, 33])
def test_impossible_strides_are_refused(stride: int) -> None:
    with pytest.raises(RecordError, match="stride"):
        plan_windows(100, replace(CONFIG, stride=stride))


def test_sliding_score_matches_scoring_one_target_at_a_time() -> None:
    model, tokens = tiny_model().eval(), stream(75)
    nats = 0.0
    for position in range(75):
        start = 0 if position < 32 else (position - 32) // 8 * 8 + 8
        row = torch.zeros(1, 32, dtype=torch.int64)
        row[0, : position + 1 - start] = tokens[start : position + 1]
        with torch.no_grad():
            logits = model.forward_logits(row)[0, position - start]
        nats -= logits.log_softmax(0)[tokens[position + 1]].item()
    score = slide(model, tokens, CONFIG)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.tokens == 75
    assert score.bytes == byte_table().target_bytes(tokens[:-1], tokens[1:]).sum()


def test_scores_depend_neither_on_batches_nor_on_being_asked_twice() -> None:
    model, tokens = tiny_model(), stream(260)
    results = [
        (slide(model, tokens, config), adapt(model, tokens, config).score)
        for config in (CONFIG, CONFIG, replace(CONFIG, batch_windows=64))
    ]
    assert results[0] == results[1]
    for ours, other in zip(results[0], results[2], strict=True):
        assert ours.nats == pytest.approx(other.nats, rel=1e-6)
        assert ours.tokens == other.tokens == 260


def test_adaptation_leaves_the_model_as_it_was() -> None:
    model, tokens = tiny_model(), stream(400)
    model.tok_emb.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapt(model, tokens, CONFIG)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    flags = {name: value.requires_grad for name, value in model.named_parameters()}
    assert [name for name, flag in flags.items() if not flag] == ["tok_emb.weight"]
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize("mixer", ["off", "compliant", "as-submitted"])
def test_chunks_are_scored_before_they_are_learned_from(mixer: Any) -> None:
    config = replace(CONFIG, mixer=mixer, mixer_gate_tokens=100)
    model, tokens = tiny_model(), stream(512)
    changed = tokens.clone()
    # The last target of the second of four chunks.
    changed[256] = (changed[256] + 1) % VOCAB
    score, other = adapt(model, tokens, config), adapt(model, changed, config)
    assert len(score.per_chunk) == 4
    assert sum(score.per_chunk, Score()) == score.score
    assert score.per_chunk[0] == other.per_chunk[0]
    table = byte_table()
    for chunk in (1, 2, 3):
        assert score.per_chunk[chunk].nats != other.per_chunk[chunk].nats
    counted = table.target_bytes(tokens[255:256], tokens[256:257]).item()
    recounted = table.target_bytes(changed[255:256], changed[256:257]).item()
    assert score.per_chunk[1].bytes - other.per_chunk[1].bytes == counted - recounted


def test_adaptation_lowers_the_loss_of_a_stream_that_repeats() -> None:
    tokens = torch.tensor(lcg(33, VOCAB)[1:] * 32 + [0])
    config = replace(CONFIG, mixer="off", ttt_epochs=4, ttt_polyak_decay=0.9, ttt_lr=3e-3)
    chunks = adapt(tiny_model(), tokens, config).per_chunk
    assert chunks[-1].loss < chunks[0].loss - 0.1


def test_without_epochs_the_adapted_model_is_the_fixed_one() -> None:
    model, tokens = tiny_model(), stream(300)
    config = replace(CONFIG, ttt_epochs=0, temperature=1.0)
    adaptive = adapt(model, tokens, config)
    assert adaptive.neural.nats == pytest.approx(slide(model, tokens, config).nats, rel=1e-6)
    assert set(adaptive.mixer_figures) == {f"weight_{name}" for name in EXPERT_NAMES}


def test_chunks_hold_their_windows_even_when_a_window_spans_chunks() -> None:
    config = replace(CONFIG, ttt_chunk_tokens=12)
    chunks = plan_chunks(100, config)
    assert [(begin, end) for begin, end, _ in chunks][-1] == (96, 100)
    scored: set[int] = set()
    for _, end, windows in chunks:
        for window in windows:
            scored.update(range(window.first_scored, window.end))
        assert scored >= set(range(end))
    adaptive = adapt(tiny_model(), stream(100), config)
    assert adaptive.score.tokens == adaptive.neural.tokens == 100


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(RecordError, match="validation target"):
        adapt(tiny_model(), stream(0), CONFIG)


def test_the_compliant_mixer_refuses_to_score_targets_again() -> None:
    with pytest.raises(RecordError, match="each target once"):
        make_mixer(replace(CONFIG, score_tail_repeatedly=True), stream(9), VOCAB, CPU)


def test_learning_rate_ramps_up_and_falls_to_zero() -> None:
    rates = [chunk_learning_rate(chunk, 100, CONFIG) / CONFIG.ttt_lr for chunk in range(100)]
    assert rates[0] == 1
    assert rates[30] == pytest.approx(3 * 0.5 * (1 + math.cos(math.pi * 30 / 99)))
    assert rates[99] == pytest.approx(0)
    assert chunk_learning_rate(0, 1, CONFIG) == CONFIG.ttt_lr


def test_adapted_parameters_are_the_last_blocks_and_all_scales() -> None:
    model = tiny_model()
    chosen = {id(parameter) for parameter in adapted_parameters(model, blocks=2)}
    names = {name for name, value in model.named_parameters() if id(value) in chosen}
    assert {"blocks.2.mlp.fc.weight", "blocks.3.attn.q_gain", "blocks.0.attn_scale"} <= names
    assert {"bigram.scale", "ve_shared.scale", "ve_layer_scales.0"} <= names
    assert not names & {"blocks.1.mlp.fc.weight", "tok_emb.weight", "skip_weights"}


def test_temperature_sharpens_only_what_is_confident() -> None:
    uniform, sure = torch.zeros(1, 8), torch.tensor([[50.0] + [0.0] * 7])
    assert adaptive_temperature(sure, 1.0) is sure
    assert torch.equal(adaptive_temperature(uniform, 0.5), uniform)
    assert torch.allclose(adaptive_temperature(sure, 0.98), sure / 0.98)
    assert torch.allclose(adaptive_temperature(sure, 0.5), sure / 0.9)


def _score_as_rank(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks
    )
    config = replace(CONFIG, mixer_block_tokens=24)
    model, tokens = tiny_model(), stream(300)
    scores = (slide(model, tokens, config), adapt(model, tokens, config))
    torch.save(scores, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 4])
def test_scores_do_not_depend_on_the_number_of_ranks(ranks: int, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_score_as_rank, args=(rank, ranks, str(tmp_path)))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    config = replace(CONFIG, mixer_block_tokens=24)
    model, tokens = tiny_model(), stream(300)
    alone = (slide(model, tokens, config), adapt(model, tokens, config))
    for rank in range(ranks):
        sliding, adaptive = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        pairs = [
            (sliding, alone[0]),
            (adaptive.score, alone[1].score),
            (adaptive.neural, alone[1].neural),
            *zip(adaptive.per_chunk, alone[1].per_chunk, strict=True),
        ]
        for theirs, ours in pairs:
            assert (theirs.tokens, theirs.bytes) == (ours.tokens, ours.bytes)
            assert theirs.nats == pytest.approx(ours.nats, rel=1e-6)
