"""Laws of the optimizers, the schedule, the average and the penalty."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_recipes import lcg_rows, tiny_model, tiny_model_config
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hedge_record.config import RecordConfig, TrainingConfig
from hedge_record.model.gpt import GPT
from hedge_record.model.linear import FakeQuantization
from hedge_record.training.ema import ExponentialAverage
from hedge_record.training.muon import Muon, orthogonalize
from hedge_record.training.optimizers import Optimizers, group_parameters
from hedge_record.training.quantization import crown_q_penalty, fake_quantization_of
from hedge_record.training.schedule import lr_scale, muon_momentum, training_seconds

BY_STEPS = TrainingConfig(seconds=None, iterations=100, warmdown_steps=40)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_by_steps_the_rate_is_flat_then_falls_in_a_line_to_zero() -> None:
    scales = [lr_scale(step, 1e9, BY_STEPS) for step in range(101)]
    assert scales[:61] == [1.0] * 61
    assert np.diff(scales[60:]) == pytest.approx([-1 / 40] * 40)
    assert scales[100] == 0.0


def test_without_warmdown_the_rate_never_falls() -> None:
    assert lr_scale(99, 0.0, replace(BY_STEPS, warmdown_steps=0)) == 1.0


@pytest.mark.parametrize("step_seconds", [0.05, 0.0873, 1.0])
def test_by_clock_the_rate_falls_over_the_worth_of_the_last_steps(step_seconds: float) -> None:
    config = TrainingConfig(seconds=600.0, reserved_seconds=18.0, warmdown_steps=300)
    assert training_seconds(config) == 582.0
    last = int(582.0 / step_seconds)
    scales = [lr_scale(step, step * step_seconds, config) for step in range(last + 2)]
    falls = next(step for step, scale in enumerate(scales) if scale < 1.0)
    assert falls == pytest.approx(last - 300, abs=2)
    assert np.diff(scales[falls : last + 1]) == pytest.approx([-1 / 300] * (last - falls), rel=1e-3)
    assert scales[last + 1] == 0.0


@given(st.integers(0, 20_000), st.floats(0, 1000))
def test_the_rate_stays_between_zero_and_one(step: int, elapsed: float) -> None:
    assert 0.0 <= lr_scale(step, elapsed, TrainingConfig()) <= 1.0


def test_momentum_warms_up_in_a_line_and_stays() -> None:
    config = TrainingConfig()
    assert muon_momentum(0, config) == 0.92
    assert muon_momentum(750, config) == pytest.approx(0.955)
    assert muon_momentum(1500, config) == muon_momentum(9000, config) == 0.99
    assert muon_momentum(0, replace(config, muon_momentum_warmup_steps=0)) == 0.92


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 24), st.integers(2, 24), st.integers(0, 5))
def test_orthogonalised_matrices_keep_their_singular_vectors(
    rows: int, columns: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rank = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, rank, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(columns, rank, generator=generator)).Q
    singular = torch.linspace(0.3, 1.0, rank)
    result = orthogonalize(((left * singular) @ right.T)[None], 5)[0].float()
    core = left.T @ result @ right
    assert (core.diagonal() - 0.95).abs().max().item() < 0.35
    assert (core - core.diagonal().diag()).abs().max().item() < 0.1


def test_muon_follows_its_law_in_plain_numpy() -> None:
    """Full-rank gradients, so that bfloat16 leaves the directions alone."""
    generator = np.random.default_rng(3)
    basis = np.linalg.qr(generator.standard_normal((12, 6)))[0]
    start = generator.standard_normal((12, 6))
    matrix = nn.Parameter(torch.tensor(start))
    muon = Muon([matrix], lr=0.1, momentum=0.9, weight_decay=0.5, newton_schulz_steps=5)
    expected, buffer = start.copy(), np.zeros((12, 6))
    for scale in (1.0, 2.0, -0.5):
        gradient = scale * basis + 0.1 * basis @ np.diag(np.arange(6))
        matrix.grad = torch.tensor(gradient)
        muon.step()
        buffer = 0.9 * buffer + gradient
        x = gradient + 0.9 * buffer
        x = x / np.linalg.norm(x)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        expected = (1 - 0.1 * 0.5) * expected - 0.1 * np.sqrt(2) * x
    error = np.linalg.norm(matrix.detach().numpy() - expected)
    assert error < 0.03 * np.linalg.norm(expected - start)


def test_muon_takes_matrices_of_one_shape_together_or_alone_alike() -> None:
    gradients = [torch.randn(8, 4), torch.randn(4, 8), torch.randn(8, 4), torch.randn(8, 4)]

    def moved(together: bool) -> list[torch.Tensor]:
        matrices = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
        groups = [matrices] if together else [[matrix] for matrix in matrices]
        for matrix, gradient in zip(matrices, gradients, strict=True):
            matrix.grad = gradient
        for group in groups:
            Muon(group, lr=1.0, momentum=0.9, weight_decay=0, newton_schulz_steps=5).step()
        return [matrix.detach() for matrix in matrices]

    for one, other in zip(moved(True), moved(False), strict=True):
        assert torch.allclose(one, other, atol=0.02)


def test_every_parameter_is_trained_by_exactly_one_rule() -> None:
    model = GPT(replace(tiny_model_config(), tie_embeddings=False, depth_gate=True))
    groups = group_parameters(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    grouped = [id(p) for p in (*groups.matrices, *groups.embeddings, *groups.scalars)]
    assert sorted(grouped) == sorted(names)
    matrices = {names[id(parameter)] for parameter in groups.matrices}
    assert {"bigram.proj.weight", "ve_shared.proj.weight"} < matrices
    assert len(matrices) == 2 + 4 * 6
    embeddings = {names[id(parameter)] for parameter in groups.embeddings}
    assert embeddings == {
        "tok_emb.weight", "bigram.embed.weight", "ve_shared.embed.weight", "lm_head.weight"
    }  # fmt: skip


def test_a_rate_of_zero_moves_nothing() -> None:
    model = tiny_model()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizers = Optimizers(model, TrainingConfig())
    torch.autograd.backward(model(*lcg_rows(1, 16)))
    optimizers.step(0, 0.0)
    assert all(map(torch.equal, before, model.parameters()))
    optimizers.step(0, 1.0)
    assert not any(map(torch.equal, before, model.parameters()))


def test_average_follows_its_closed_form() -> None:
    model = nn.Linear(3, 2)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average = ExponentialAverage(model, decay=0.9)
    for _ in range(7):
        model.load_state_dict({name: tensor + 1 for name, tensor in start.items()})
        average.update(model)
    for name, tensor in average.state.items():
        assert torch.allclose(tensor, start[name] + 1 - 0.9**7, atol=1e-6)


def test_crown_q_takes_the_step_as_a_constant() -> None:
    model = tiny_model()
    weight = model.blocks[0].mlp.fc.weight  # type: ignore[union-attr]
    assert isinstance(weight, nn.Parameter)
    (gradient,) = torch.autograd.grad(crown_q_penalty(model, 15), [weight])
    delta = weight.detach().abs().amax(dim=1, keepdim=True) / 15
    assert torch.allclose(gradient, 2 * weight * delta**2 / weight.numel() / 12, rtol=1e-4)


def test_late_quantisation_uses_the_grid_of_the_export() -> None:
    config = RecordConfig()
    assert fake_quantization_of(config) == FakeQuantization(
        "straight-through", config.export.clip_range, 0.9995, 5.0, config.export.scale_floor
    )
    off = replace(config, training=replace(config.training, qat_rounding="off"))
    assert fake_quantization_of(off) is None
