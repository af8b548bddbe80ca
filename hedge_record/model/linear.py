"""A linear layer whose weight stays float32, and the fake quantisation it may train under."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class FakeQuantization:
    """How a weight matrix is rounded while training (quantisation-aware training, late QAT).

    `scale_floor` is the smallest step between two codes. PR 700 never went below 1/clip_range,
    which makes rows with small weights coarser than int5, and the artifact smaller.
    """

    rounding: Literal["straight-through", "soft"] = "straight-through"
    clip_range: int = 15
    clip_percentile: float = 0.9995
    soft_alpha: float = 5.0
    scale_floor: float = 1 / 15


def row_quantile(values: Tensor, fraction: float) -> Tensor:
    """`torch.quantile(values, fraction, dim=1)` for fractions near 1: [R, C] -> [R].

    The two order statistics come from `topk`, which does not sort whole rows.
    """
    columns = values.shape[1]
    position = fraction * (columns - 1)
    below = math.floor(position)
    largest = values.topk(columns - below, dim=1).values
    upper = largest[:, -2] if columns - below > 1 else largest[:, -1]
    return torch.lerp(largest[:, -1], upper, position - below)


def soft_round(values: Tensor, alpha: float) -> Tensor:
    """Differentiable rounding: the identity as alpha -> 0, `round` as alpha -> infinity.

    Agustsson and Theis, "Universally Quantized Neural Compression", NeurIPS 2020.
    """
    floor = values.floor()
    centred = values - floor - 0.5
    return floor + 0.5 * torch.tanh(alpha * centred) / math.tanh(alpha / 2) + 0.5


def fake_quantize(weight: Tensor, setting: FakeQuantization) -> Tensor:
    """`weight` [R, C] rounded to its int grid, in float32; gradients pass as `setting` says.

    Codes run from -clip_range - 1 to clip_range; the step of a row is its clip percentile over
    clip_range and takes no gradient.
    """
    weight = weight.float()
    limit = setting.clip_range
    with torch.no_grad():
        # 1e-12 only keeps rows of zeros from 0/0.
        floor = max(setting.scale_floor, 1e-12)
        scale = (row_quantile(weight.abs(), setting.clip_percentile) / limit).clamp_min(floor)
        scale = scale[:, None]
    if setting.rounding == "soft":
        return soft_round(weight / scale, setting.soft_alpha).clamp(-limit - 1, limit) * scale
    with torch.no_grad():
        error = (weight / scale).round().clamp(-limit - 1, limit) * scale - weight
    return weight + error


class CastedLinear(nn.Linear):
    """A linear layer that casts its float32 weight to the dtype of its input.

    The optimizer thus updates full-precision weights while the products run in bfloat16.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        # Set here, not on the class: a compiled graph is found again when None comes back.
        self.fake_quantization: FakeQuantization | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """[..., in_features] -> [..., out_features], rounded weights only in training mode."""
        weight = self.weight
        if self.training and self.fake_quantization is not None:
            weight = fake_quantize(weight, self.fake_quantization)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, weight.to(input.dtype), bias)


def set_fake_quantization(model: nn.Module, setting: FakeQuantization | None) -> None:
    """Switches the rounding of every `CastedLinear` in `model`; None switches it off."""
    for module in model.modules():
        if isinstance(module, CastedLinear):
            module.fake_quantization = setting
