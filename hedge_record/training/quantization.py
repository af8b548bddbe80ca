"""Late quantisation-aware training: the rounding, and the penalty that prepares for it."""

import torch
from torch import Tensor, nn

from hedge_record.config import RecordConfig
from hedge_record.model.linear import CastedLinear, FakeQuantization


def fake_quantization_of(config: RecordConfig) -> FakeQuantization | None:
    """The rounding that late QAT switches on, on the grid of the export; None: never."""
    if config.training.qat_rounding == "off":
        return None
    return FakeQuantization(
        rounding=config.training.qat_rounding,
        clip_range=config.export.clip_range,
        clip_percentile=config.training.qat_clip_percentile,
        soft_alpha=config.training.qat_soft_alpha,
        scale_floor=config.export.scale_floor,
    )


def crown_q_penalty(model: nn.Module, clip_range: int) -> Tensor:
    """CROWN-Q: the sum over linear layers of mean(w^2 * delta^2) / 12, a float32 scalar.

    delta = rowmax|w| / clip_range is the row's quantisation step, taken as a constant, and
    delta^2 / 12 the variance of a rounding error spread evenly over it: large weights cost most
    where the grid is coarse.
    """
    weights = [m.weight.float() for m in model.modules() if isinstance(m, CastedLinear)]
    penalties = []
    for weight in weights:
        delta = weight.detach().abs().amax(dim=1, keepdim=True) / clip_range
        penalties.append((weight * delta).square().mean())
    return torch.stack(penalties).sum() / 12
