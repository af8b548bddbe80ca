"""The evaluation against numbers measured from PR 700's own script (float32 on CPU)."""

import math

import pytest
import torch
from golden_recipes import assert_matches_stats, golden_numbers, lcg, lcg_rows, tiny_model
from torch import Tensor

from hedge_record.config import EvaluationConfig
from hedge_record.data.byte_table import ByteTable
from hedge_record.evaluation.hedge_mixer import HedgeMixer, NeuralExpert
from hedge_record.evaluation.make_mixer import make_mixer
from hedge_record.evaluation.ttt import score_first_ttt
from hedge_record.progress import SilentReporter

VOCAB = 64


def warm_hedge_mixer() -> HedgeMixer:
    mixer = HedgeMixer(
        VOCAB,
        buckets=65_536,
        eta=0.1,
        gate_tokens=10_000,
        temperature=1.0,
        device=torch.device("cpu"),
    )
    mixer.count(torch.tensor(lcg(12_000, VOCAB, seed=7)))
    return mixer


def mixer_batch() -> tuple[Tensor, Tensor, Tensor]:
    inputs, targets = lcg_rows(3, 64, VOCAB, seed=9)
    flat = torch.arange(3 * 64 * 64, dtype=torch.float64)
    return (3 * torch.sin(0.11 * flat)).float().view(3, 64, 64), inputs, targets


def test_parity_mixer_nll_and_hedge_step() -> None:
    golden = golden_numbers()["mixer"]
    mixer = warm_hedge_mixer()
    logits, inputs, targets = mixer_batch()
    nll, expert_nll = mixer.nll(NeuralExpert.of(logits, targets), inputs, targets)
    assert_matches_stats(nll, golden["nll"])
    assert expert_nll is not None
    means = expert_nll.mean((0, 1)).tolist()
    assert means == pytest.approx(golden["expert_mean"], rel=1e-4)
    # Hedge averages over valid positions only: the last window holds 40 of 64.
    mixer.update_weights(expert_nll, [64, 64, 40])
    assert mixer.log_weights.tolist() == pytest.approx(golden["log_weights"], rel=1e-4)


def test_parity_mixer_sum_over_the_vocabulary() -> None:
    golden = golden_numbers()["mixer"]["sum_over_vocab_of_mixed_p"]
    mixer = warm_hedge_mixer()
    logits, inputs, targets = mixer_batch()
    neural = NeuralExpert.of(logits, targets)
    mass = mixer.log_mass(neural, inputs).exp()
    assert mass.mean().item() == pytest.approx(golden["mean"], rel=1e-4)
    assert mass.max().item() == pytest.approx(golden["max"], rel=1e-4)
    per_expert = mixer.expert_mass(neural, inputs).mean((0, 1)).tolist()
    assert per_expert == pytest.approx(golden["per_expert_mean"], rel=1e-4)
    # The closed form is what asking for every target in turn adds up to.
    asked = torch.zeros_like(mass)
    for token in range(VOCAB):
        every = torch.full_like(targets, token)
        asked += torch.exp(-mixer.nll(NeuralExpert.of(logits, every), inputs, every)[0])
    assert torch.allclose(asked, mass, rtol=1e-4)
    assert math.isclose(asked.mean(), golden["mean"], rel_tol=1e-4)


@pytest.mark.parametrize(
    ("entry", "epochs", "temperature", "mixed"),
    [
        ("epochs0_temp1", 0, 1.0, True),
        ("epochs2_temp0.98", 2, 0.98, True),
        ("epochs2_temp0.98_no_mixer", 2, 0.98, False),
    ],
)
def test_parity_score_first_ttt(entry: str, epochs: int, temperature: float, mixed: bool) -> None:
    golden = golden_numbers()["ttt_eval"]
    config = EvaluationConfig(
        sequence_length=golden["seq_len"],
        stride=golden["stride"],
        score_tail_repeatedly=True,
        ttt_epochs=epochs,
        ttt_chunk_tokens=golden["chunk"],
        batch_windows=golden["batch_seqs"],
        ttt_batch_sequences=golden["batch_seqs"],
        ttt_lr=golden["lr"],
        ttt_unfrozen_blocks=golden["unfrozen_last_blocks"],
        temperature=temperature,
        mixer="as-submitted" if mixed else "off",
    )
    tokens = torch.tensor(lcg(64 * 320 + 1, VOCAB, seed=3))
    ids = torch.arange(VOCAB)
    table = ByteTable(torch.full((VOCAB,), 2, dtype=torch.int32), ids % 3 == 0, ids == 0)
    device = torch.device("cpu")
    adaptive = score_first_ttt(
        tiny_model(),
        tokens,
        table,
        config,
        device=device,
        reporter=SilentReporter(),
        mixer=make_mixer(config, tokens, VOCAB, device),
    )
    assert adaptive.score.loss == pytest.approx(golden[entry]["val_loss"], rel=1e-5)
    assert adaptive.score.bpb == pytest.approx(golden[entry]["val_bpb"], rel=1e-5)
