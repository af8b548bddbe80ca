"""The GPT against numbers measured from PR 700's own script (float32 on CPU)."""

import pytest
import torch
from golden_recipes import (
    assert_matches_stats,
    golden_numbers,
    lcg_rows,
    tiny_model,
)

from hedge_record.config import ModelConfig
from hedge_record.model.embedding import bigram_buckets
from hedge_record.model.gpt import GPT
from hedge_record.model.linear import FakeQuantization, set_fake_quantization


def test_parity_full_parameter_names_and_shapes() -> None:
    with torch.device("meta"):
        model = GPT(ModelConfig())
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == golden_numbers()["full_parameters"]
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == golden_numbers()["full_parameter_count"] == 33_317_980


def test_parity_tiny_logits() -> None:
    inputs, _ = lcg_rows(2, 32)
    logits = tiny_model().eval().forward_logits(inputs)
    assert_matches_stats(logits, golden_numbers()["tiny_logits"])


def test_parity_logits_beyond_the_rotary_training_length() -> None:
    inputs, _ = lcg_rows(2, 1500)
    with torch.no_grad():
        logits = tiny_model().eval().forward_logits(inputs)
    assert_matches_stats(logits, golden_numbers()["tiny_logits_len1500_ntk_rope"])


def test_parity_loss_and_gradient_norms() -> None:
    model = tiny_model()
    loss = model(*lcg_rows(2, 32))
    loss.backward()
    assert loss.item() == pytest.approx(golden_numbers()["tiny_loss"], rel=1e-4)
    norms = {
        name: parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    assert norms == pytest.approx(golden_numbers()["tiny_grad_norms"], rel=1e-4)


@pytest.mark.parametrize(
    ("setting", "entry"),
    [
        (FakeQuantization("straight-through"), "tiny_loss_qat_ste"),
        (FakeQuantization("soft", soft_alpha=5.0), "tiny_loss_qat_soft_round_alpha5"),
    ],
)
def test_parity_loss_under_fake_quantization(setting: FakeQuantization, entry: str) -> None:
    model = tiny_model()
    set_fake_quantization(model, setting)
    loss = model(*lcg_rows(2, 32)).item()
    assert loss == pytest.approx(golden_numbers()[entry], rel=1e-5)
    assert loss != pytest.approx(golden_numbers()["tiny_loss"], rel=1e-5)


def test_parity_bigram_buckets() -> None:
    row = golden_numbers()["bigram_hash_row"]
    assert bigram_buckets(torch.tensor(row["tokens"]), 97).tolist() == row["buckets"]
