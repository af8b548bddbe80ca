"""Laws of the GPT and its parts, at sizes that take milliseconds."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_recipes import lcg_rows, tiny_model, tiny_model_config
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hedge_record.errors import RecordError
from hedge_record.model.attention import causal_attention, exclude_own_value
from hedge_record.model.block import Block
from hedge_record.model.embedding import bigram_buckets
from hedge_record.model.gpt import GPT
from hedge_record.model.linear import (
    CastedLinear,
    FakeQuantization,
    fake_quantize,
    row_quantile,
    set_fake_quantization,
    soft_round,
)
from hedge_record.model.precision import set_precision
from hedge_record.model.rotary import rotate, rotation_for


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 31), st.integers(1, 63))
def test_a_later_token_moves_no_earlier_logit(position: int, shift: int) -> None:
    model = tiny_model().eval()
    inputs, _ = lcg_rows(1, 32)
    changed = inputs.clone()
    changed[0, position] = (changed[0, position] + shift) % 64
    with torch.no_grad():
        before, after = model.forward_logits(inputs), model.forward_logits(changed)
    assert torch.equal(before[:, :position], after[:, :position])
    assert not torch.allclose(before[:, position], after[:, position], atol=1e-6)


def test_loss_is_the_mean_nll_of_the_logits() -> None:
    model = tiny_model().eval()
    inputs, targets = lcg_rows(2, 16)
    chosen = model.forward_logits(inputs).log_softmax(-1).gather(-1, targets[..., None])
    assert model(inputs, targets).item() == pytest.approx(-chosen.mean().item(), rel=1e-6)


def test_logits_stay_within_the_softcap() -> None:
    model = GPT(replace(tiny_model_config(), logit_softcap=0.01))
    nn.init.normal_(model.tok_emb.weight)
    logits = model.forward_logits(lcg_rows(1, 16)[0])
    assert 0.009 < logits.abs().max().item() <= 0.01


def test_a_fresh_model_is_undecided_and_its_tables_learn() -> None:
    """Blocks write nothing at first; bigram and token tables get a gradient all the same."""
    model = GPT(tiny_model_config())
    loss = model(*lcg_rows(2, 32))
    assert loss.item() == pytest.approx(math.log(64), abs=0.05)
    loss.backward()
    for table in (model.tok_emb.weight, model.bigram.embed.weight):
        assert table.grad is not None
        assert table.grad.abs().sum().item() > 0


def test_initialisation_follows_the_record() -> None:
    config = replace(tiny_model_config(), tie_embeddings=False, depth_gate=True)
    state = GPT(config).state_dict()
    fc = state["blocks.1.mlp.fc.weight"]
    assert torch.allclose(fc.T @ fc, torch.eye(64), atol=1e-5)
    bigram = state["bigram.proj.weight"]
    assert torch.allclose(bigram.T @ bigram, torch.eye(16) / (2 * config.layers), atol=1e-6)
    zeros = ("blocks.0.attn.proj", "blocks.3.mlp.proj", "lm_head", "bigram.embed")
    assert all(not state[f"{name}.weight"].any() for name in zeros)
    assert state["blocks.2.dtg_gate.bias"].tolist() == [2.0]


def test_an_untied_head_is_a_parameter_of_its_own() -> None:
    model = GPT(replace(tiny_model_config(), tie_embeddings=False))
    assert model.state_dict()["lm_head.weight"].shape == (64, 64)
    assert not model.forward_logits(lcg_rows(1, 8)[0]).any()


def test_bigram_width_equal_to_the_model_needs_no_projection() -> None:
    model = GPT(replace(tiny_model_config(), bigram_width=64, value_embedding=False))
    names = set(model.state_dict())
    assert "bigram.proj.weight" not in names
    assert not any(name.startswith("ve_") for name in names)
    assert math.isfinite(model(*lcg_rows(1, 8)).item())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"heads": 5}, "width must be a multiple of heads"),
        ({"kv_heads": 3}, "heads must be a multiple of kv_heads"),
        ({"rope_dims": 7}, "rope_dims must be even"),
        ({"rope_dims": 18}, r"rope_dims must lie in 4\.\.16"),
        ({"logit_softcap": 0.0}, "logit_softcap must be positive"),
        ({"bigram_buckets": 1}, "bigram_buckets must be at least 2"),
        ({"value_embedding_layers": (4,)}, r"must lie in 0\.\.3"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecordError, match=complaint):
        GPT(replace(tiny_model_config(), **changes))


def test_the_depth_gate_mixes_a_block_with_its_input() -> None:
    config = replace(tiny_model_config(), depth_gate=True)
    block = Block(config, 0)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.1)
    assert block.dtg_gate is not None
    nn.init.zeros_(block.dtg_gate.weight)
    x, x0 = torch.randn(2, 1, 8, 64)
    rotation = rotation_for(8, dims=8, base=1e4, training_length=8, device=x.device, dtype=x.dtype)

    def outcome(bias: float) -> Tensor:
        assert block.dtg_gate is not None
        nn.init.constant_(block.dtg_gate.bias, bias)
        out: Tensor = block(x, x0, rotation, None)
        return out

    closed, half, opened = outcome(-100.0), outcome(0.0), outcome(100.0)
    assert torch.allclose(closed, block.resid_mix[0] * x + block.resid_mix[1] * x0, atol=1e-6)
    assert torch.allclose(half, (closed + opened) / 2, atol=1e-5)
    assert not torch.allclose(closed, opened, atol=1e-2)


def test_exclusive_attention_is_orthogonal_to_its_own_value() -> None:
    attended, value = torch.randn(2, 5, 4, 16), torch.randn(2, 5, 2, 16)
    out = exclude_own_value(attended, value)
    own = value.repeat_interleave(2, dim=2)
    assert (out * own).sum(-1).abs().max().item() < 1e-4
    parallel = attended - out
    assert torch.allclose(F.cosine_similarity(parallel, own, dim=-1).abs(), torch.ones(2, 5, 4))


def test_grouped_attention_equals_repeated_keys_and_values() -> None:
    query = torch.randn(2, 7, 4, 8)
    key, value = torch.randn(2, 2, 7, 2, 8)
    grouped = causal_attention(query, key, value)
    repeated = causal_attention(
        query, key.repeat_interleave(2, dim=2), value.repeat_interleave(2, dim=2)
    )
    assert torch.allclose(grouped, repeated, atol=1e-6)


def test_rotation_keeps_lengths_and_depends_on_distance_alone() -> None:
    rotation = rotation_for(
        12, dims=8, base=100.0, training_length=4, device=torch.device("cpu"), dtype=torch.float32
    )
    query, key = torch.randn(2, 1, 1, 1, 16).expand(2, 1, 12, 1, 16)
    turned_query, turned_key = rotate(query, rotation), rotate(key, rotation)
    assert torch.equal(turned_query[..., 8:], query[..., 8:])
    assert torch.allclose(turned_query.norm(dim=-1), query.norm(dim=-1), atol=1e-5)
    products = turned_query[0, :, 0] @ turned_key[0, :, 0].T
    for distance in range(-11, 12):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4)


def test_the_first_bigram_bucket_is_reserved() -> None:
    buckets = bigram_buckets(torch.randint(0, 1024, (4, 50)), 97)
    assert buckets[:, 0].tolist() == [96] * 4
    assert buckets[:, 1:].min().item() >= 0
    assert buckets[:, 1:].max().item() < 96


@pytest.mark.parametrize("columns", [2, 3, 560, 1792, 6001])
@pytest.mark.parametrize("fraction", [0.5, 0.9995, 1.0])
def test_row_quantile_is_the_quantile(columns: int, fraction: float) -> None:
    values = torch.rand(3, columns)
    expected = torch.quantile(values, fraction, dim=1)
    assert torch.allclose(row_quantile(values, fraction), expected, atol=1e-6)


def test_soft_rounding_runs_from_the_identity_to_rounding() -> None:
    values = torch.linspace(-2.95, 2.95, 60)
    assert torch.allclose(soft_round(values, 1e-3), values, atol=1e-4)
    away_from_halves = values[((values - values.floor()) - 0.5).abs() > 0.02]
    assert torch.allclose(soft_round(away_from_halves, 1e3), away_from_halves.round())


@pytest.mark.parametrize("floor", [0.0, 1 / 15])
def test_fake_quantised_weights_lie_on_the_int5_grid(floor: float) -> None:
    weight = torch.randn(6, 200)
    weight[0] = 0.0
    setting = FakeQuantization(scale_floor=floor)
    rounded = fake_quantize(weight, setting)
    step = (row_quantile(weight.abs(), 0.9995) / 15).clamp_min(max(floor, 1e-12))[:, None]
    codes = rounded / step
    assert torch.allclose(codes, codes.round(), atol=1e-3)
    assert codes.round().min().item() >= -16
    assert codes.round().max().item() <= 15
    assert not rounded[0].any()
    inside = weight.abs() < 15 * step
    assert ((rounded - weight).abs() <= 0.5001 * step)[inside].all()


def test_straight_through_rounding_passes_the_gradient_unchanged() -> None:
    layer = CastedLinear(40, 8, bias=False)
    inputs = torch.randn(5, 40)

    def weight_gradient() -> Tensor:
        (gradient,) = torch.autograd.grad(layer(inputs).sum(), [layer.weight])
        return gradient

    plain = weight_gradient()
    set_fake_quantization(layer, FakeQuantization())
    assert torch.equal(weight_gradient(), plain)


def test_soft_rounding_lets_the_slope_of_its_curve_through() -> None:
    weight = torch.tensor([[0.0, 0.25, 0.5, 15.0]], requires_grad=True)
    setting = FakeQuantization("soft", clip_percentile=1.0, soft_alpha=5.0)
    (gradient,) = torch.autograd.grad(fake_quantize(weight, setting).sum(), [weight])

    def slope(centred: float) -> float:
        return 0.5 * 5 / math.cosh(5 * centred) ** 2 / math.tanh(2.5)

    assert gradient[0, :3].tolist() == pytest.approx([slope(-0.5), slope(-0.25), slope(0.0)])


def test_rounding_is_for_training_alone_and_can_be_switched_off() -> None:
    model = tiny_model()
    inputs, targets = lcg_rows(1, 16)
    plain = model(inputs, targets).item()
    set_fake_quantization(model, FakeQuantization())
    assert model(inputs, targets).item() != plain
    assert model.eval()(inputs, targets).item() == plain
    set_fake_quantization(model, None)
    assert model.train()(inputs, targets).item() == plain


def test_a_compiled_model_finds_its_graphs_again_when_rounding_switches() -> None:
    """Else late quantisation would compile in the middle of a timed run."""
    graphs = 0

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1
        return graph.forward

    model = GPT(replace(tiny_model_config(), layers=1, value_embedding_layers=(0,)))
    compiled = torch.compile(model, dynamic=False, fullgraph=True, backend=count)
    inputs, targets = lcg_rows(1, 16)
    seen = []
    for setting in (None, FakeQuantization(), None, FakeQuantization()):
        set_fake_quantization(model, setting)
        assert compiled(inputs, targets).item() == model(inputs, targets).item()
        seen.append(graphs)
    assert seen == [1, 2, 2, 2]


def test_bfloat16_touches_the_tables_alone() -> None:
    exact = tiny_model().eval()
    model = set_precision(tiny_model(), "bfloat16").eval()
    low = {name for name, tensor in model.state_dict().items() if tensor.dtype == torch.bfloat16}
    assert low == {"tok_emb.weight", "bigram.embed.weight", "ve_shared.embed.weight"}
    inputs, targets = lcg_rows(2, 32)
    loss = model(inputs, targets)
    assert loss.dtype == torch.float32
    assert model.forward_logits(inputs).dtype == torch.bfloat16
    assert loss.item() == pytest.approx(exact(inputs, targets).item(), rel=0.01)
    back = {tensor.dtype for tensor in set_precision(model, "float32").state_dict().values()}
    assert back == {torch.float32}


def test_every_gradient_is_finite_in_bfloat16_under_soft_rounding() -> None:
    config = replace(tiny_model_config(), tie_embeddings=False, depth_gate=True)
    model = set_precision(GPT(config), "bfloat16")
    set_fake_quantization(model, FakeQuantization("soft"))
    torch.autograd.backward(model(*lcg_rows(2, 32)))
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
