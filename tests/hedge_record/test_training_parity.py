"""Training arithmetic against numbers measured from PR 700's own script."""

import pytest
import torch
from golden_recipes import golden_numbers, tiny_model
from torch import nn

from hedge_record.training.muon import Muon
from hedge_record.training.quantization import crown_q_penalty


def test_parity_crown_q() -> None:
    penalty = 0.01 * crown_q_penalty(tiny_model(), clip_range=15).item()
    assert penalty == pytest.approx(golden_numbers()["tiny_crown_q_lambda_0.01"], rel=1e-4)


def test_parity_three_muon_steps() -> None:
    """Loose: the gradient has rank 3, and the iteration lifts bfloat16 noise in the other 17."""
    matrix = nn.Parameter(torch.zeros(48, 20))
    muon = Muon([matrix], lr=0.1, momentum=0.95, weight_decay=0.04, newton_schulz_steps=5)
    wave = torch.sin(0.1 * torch.arange(48 * 20, dtype=torch.float64)).view(48, 20)
    for k in range(3):
        matrix.grad = ((k + 1) * wave + 0.01 * k).float()
        muon.step()
    stats = golden_numbers()["muon_3_steps_48x20"]
    moved = matrix.detach().double().flatten()
    assert moved.numel() == stats["n"]
    assert moved.sum().item() == pytest.approx(stats["sum"], abs=0.02 * stats["abs_sum"])
    assert moved.abs().sum().item() == pytest.approx(stats["abs_sum"], rel=0.02)
    assert moved.square().sum().item() == pytest.approx(stats["sq_sum"], rel=0.05)
    ends = moved[:8].tolist() + moved[-8:].tolist()
    assert ends == pytest.approx(stats["first"] + stats["last"], abs=0.005)
