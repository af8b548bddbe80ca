"""Laws of pruning and quantisation."""

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hedge_record.config import ExportConfig, tiny
from hedge_record.errors import RecordError
from hedge_record.export.gptq import gptq_quantize, hessian_error, round_to_nearest
from hedge_record.export.hessian import collect_hessians
from hedge_record.export.quantize import StoredMatrix, dequantize_model, prune, quantize_model
from hedge_record.model.gpt import GPT

CONFIG = ExportConfig(gptq_block=16, scale_floor=0.0)


def random_problem(seed: int, rows: int = 24, columns: int = 48) -> tuple[Tensor, Tensor]:
    """A weight, and the Hessian of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    mixing = torch.randn(columns, columns, generator=generator) / columns**0.5
    inputs = torch.randn(4 * columns, columns, generator=generator) @ mixing
    return weight, inputs.T @ inputs / len(inputs)


@pytest.mark.parametrize("seed", range(5))
def test_cholesky_gptq_beats_rounding_and_the_submitted_one(seed: int) -> None:
    weight, hessian = random_problem(seed)
    right = hessian_error(weight, gptq_quantize(weight, hessian, CONFIG), hessian)
    rounded = hessian_error(weight, round_to_nearest(weight, CONFIG), hessian)
    submitted_config = replace(CONFIG, gptq="as-submitted")
    submitted = hessian_error(weight, gptq_quantize(weight, hessian, submitted_config), hessian)
    assert right < 0.7 * rounded
    assert right < 0.7 * submitted


def test_gptq_does_not_depend_on_the_block() -> None:
    weight, hessian = random_problem(7)
    whole = gptq_quantize(weight, hessian, replace(CONFIG, gptq_block=48))
    assert torch.equal(whole.codes, gptq_quantize(weight, hessian, CONFIG).codes)


def test_gptq_of_uncorrelated_inputs_is_rounding() -> None:
    weight, _ = random_problem(8)
    quantized = gptq_quantize(weight, torch.diag(torch.linspace(1, 2, 48)), CONFIG)
    assert torch.equal(quantized.codes, round_to_nearest(weight, CONFIG).codes)


def test_dead_columns_get_code_zero_and_change_nothing_else() -> None:
    weight, hessian = random_problem(9)
    dead = torch.tensor([3, 40])
    hessian[dead] = 0
    hessian[:, dead] = 0
    codes = gptq_quantize(weight, hessian, CONFIG).codes
    assert not codes[:, dead].any()
    other = weight.clone()
    other[:, dead] *= 0.5
    assert torch.equal(gptq_quantize(other, hessian, CONFIG).codes, codes)


def test_gptq_survives_singular_hessians() -> None:
    weight, _ = random_problem(10)
    one_direction = torch.ones(48, 48)
    quantized = gptq_quantize(weight, one_direction, CONFIG)
    assert hessian_error(weight, quantized, one_direction) < hessian_error(
        weight, round_to_nearest(weight, CONFIG), one_direction
    )
    blind = gptq_quantize(weight, torch.zeros(48, 48), CONFIG)
    assert not blind.codes.any()


def test_gptq_refuses_a_hessian_that_is_not_finite_or_does_not_fit() -> None:
    weight, hessian = random_problem(11)
    with pytest.raises(RecordError, match="finite square Hessian"):
        gptq_quantize(weight, hessian[:-1, :-1], CONFIG)
    hessian[0, 0] = torch.inf
    with pytest.raises(RecordError, match="infinities"):
        gptq_quantize(weight, hessian, CONFIG)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([7, 15, 127]), st.floats(1e-3, 1e3))
def test_rounding_error_is_at_most_half_a_step_within_the_clip(
    seed: int, clip_range: int, size: float
) -> None:
    weight = size * torch.randn(6, 40, generator=torch.Generator().manual_seed(seed))
    config = replace(CONFIG, clip_range=clip_range, clip_percentiles=(1.0,))
    quantized = round_to_nearest(weight, config)
    assert quantized.codes.abs().max() <= clip_range
    steps = quantized.scales.float()[:, None]
    # Scales are float16, so the largest weight may lie a little outside the grid.
    slack = clip_range * 2.0**-11
    assert ((weight - quantized.dequantize()).abs() <= (0.5 + slack) * steps).all()


def test_clip_search_is_never_worse_than_the_maximum() -> None:
    weight = torch.randn(32, 400, generator=torch.Generator().manual_seed(1))
    weight[:, 0] = 30.0
    clipped = round_to_nearest(weight, replace(CONFIG, clip_percentiles=(0.99, 1.0)))
    full = round_to_nearest(weight, replace(CONFIG, clip_percentiles=(1.0,)))
    # float16 rounding of scales comes after the search.
    clipped_error = (weight - clipped.dequantize()).square().sum(1)
    full_error = (weight - full.dequantize()).square().sum(1)
    assert (clipped_error <= full_error * 1.01).all()


@settings(deadline=None)
@given(st.integers(1, 400), st.floats(0.0, 0.9))
@example(1, 0.0)
def test_pruning_zeroes_the_smallest_fraction(count: int, fraction: float) -> None:
    weight = torch.randn(1, count, generator=torch.Generator().manual_seed(count))
    pruned = prune(weight, fraction)
    zeros = pruned == 0
    assert zeros.sum() == int(fraction * count)
    assert torch.equal(pruned[~zeros], weight[~zeros])
    if zeros.any():
        assert weight[zeros].abs().max() <= weight[~zeros].abs().min()


def test_pruning_ties_never_empties_a_matrix() -> None:
    constant = torch.full((4, 8), 0.25)
    assert torch.equal(prune(constant, 0.5), constant)


def test_hessians_are_the_second_moments_of_each_layers_inputs() -> None:
    torch.manual_seed(0)
    model = GPT(tiny().model)
    batches = [torch.randint(256, (2, 16)), torch.randint(256, (3, 16))]
    seen: list[Tensor] = []
    layer = model.get_submodule("blocks.1.mlp.fc")
    hook = layer.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].flatten(0, 1)))
    hessians = collect_hessians(model.train(), batches)
    hook.remove()
    inputs = torch.cat(seen)
    assert len(inputs) == 5 * 16
    expected = (inputs.T @ inputs / len(inputs)).detach()
    assert torch.allclose(hessians["blocks.1.mlp.fc.weight"], expected, atol=1e-6)
    assert model.training
    seen.clear()
    model(batches[0], batches[0])
    assert not seen


def test_hessians_need_a_calibration_sequence() -> None:
    with pytest.raises(RecordError, match="calibration"):
        collect_hessians(GPT(tiny().model), [])


def test_each_tensor_is_stored_as_its_kind_demands() -> None:
    torch.manual_seed(0)
    config = tiny()
    model = GPT(config.model)
    state = model.state_dict()
    hessians = collect_hessians(model, [torch.randint(256, (2, 32))])
    stored = quantize_model(state, hessians, config.export)
    assert stored.keys() == state.keys()
    embedding = stored["tok_emb.weight"]
    assert isinstance(embedding, StoredMatrix)
    assert embedding.bits == 8
    matrix = stored["blocks.0.mlp.fc.weight"]
    assert isinstance(matrix, StoredMatrix)
    assert matrix.bits == 5
    assert matrix.quantized.codes.abs().max() <= 15
    for name, dtype in (("skip_weights", torch.float32), ("bigram.proj.weight", torch.float16)):
        value = stored[name]
        assert isinstance(value, Tensor)
        assert value.dtype == dtype
    restored = dequantize_model(stored)
    assert {name: value.shape for name, value in restored.items()} == {
        name: value.shape for name, value in state.items()
    }


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    with pytest.raises(RecordError, match=r"blocks\.0.*diverged"):
        quantize_model({"blocks.0.weight": torch.tensor([torch.nan])}, {}, CONFIG)
