"""The as-submitted GPTQ against numbers measured from PR 700's own script."""

import pytest
import torch
from golden_recipes import assert_matches_stats, golden_numbers

from hedge_record.config import ExportConfig
from hedge_record.export.gptq import gptq_quantize, hessian_error, round_to_nearest


def test_parity_gptq_as_submitted() -> None:
    golden = golden_numbers()["gptq_96x256_int5"]
    weight = (0.3 * torch.sin(0.013 * torch.arange(96 * 256).float() ** 1.1)).view(96, 256)
    inputs = torch.cos(0.007 * torch.arange(512 * 256).float() ** 1.05).view(512, 256)
    hessian = inputs.T @ inputs / 512
    config = ExportConfig(gptq="as-submitted")
    quantized = gptq_quantize(weight, hessian, config)
    assert_matches_stats(quantized.codes, golden["q"])
    assert_matches_stats(quantized.scales, golden["scale"])
    error = hessian_error(weight, quantized, hessian)
    assert error == pytest.approx(golden["weighted_err"], rel=1e-4)
    naive = hessian_error(weight, round_to_nearest(weight, config), hessian)
    assert naive == pytest.approx(golden["naive_weighted_err"], rel=1e-4)
