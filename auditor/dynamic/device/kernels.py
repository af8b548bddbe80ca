"""Small stand-ins for packages of GPU kernels, from their public definitions.

Where a package is installed it is used as it is; where it has no stand-in, or the stand-in lacks a
part, the script sees an ordinary ImportError and a rehearsal says so. Recurrences run step by step.
"""

from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from auditor.dynamic.device import recurrent
from auditor.dynamic.device.patching import module

Tensor = torch.Tensor


def install() -> None:
    """Puts the stand-ins in the place of packages that are not installed."""
    for package, contents in _CONTENTS.items():
        if find_spec(package) is None:
            for name, parts in contents.items():
                module(name, **parts)
    if find_spec("cutlass_evt_fusion") is None:
        module("cutlass_evt_fusion")
        _define_epilogues()


def _define_epilogues() -> None:
    """CUTLASS epilogue fusion as scripts know it: a matrix product times an element-wise factor."""
    create: Any = torch.library.Library
    library = create("cutlass_evt", "FRAGMENT")
    library.define("gemm_mul(Tensor a, Tensor b, Tensor c) -> Tensor")
    library.impl("gemm_mul", lambda a, b, c: (a @ b) * c, "CompositeExplicitAutograd")
    _KEPT.append(library)


_KEPT: list[Any] = []  # a library's operators live as long as it does


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, **_: Any
) -> Tensor:
    """Depthwise causal convolution of x [batch, channels, length] with weight [channels, width]."""
    out = F.conv1d(
        F.pad(x, (weight.shape[-1] - 1, 0)), weight[:, None], bias, groups=x.shape[1]
    ).to(x.dtype)
    return F.silu(out) if activation in ("silu", "swish") else out


class LigerCrossEntropyLoss(nn.Module):
    """Cross entropy with the options of Liger's: soft capping and the square of the log-sum-exp."""

    def __init__(
        self,
        ignore_index: int = -100,
        lse_square_scale: float = 0.0,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        softcap: float | None = None,
        **_: Any,
    ) -> None:
        super().__init__()
        self._ignore, self._square, self._smoothing = (
            ignore_index,
            lse_square_scale,
            label_smoothing,
        )
        self._reduction, self._softcap = reduction, softcap

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = logits.float()
        if self._softcap is not None:
            logits = self._softcap * torch.tanh(logits / self._softcap)
        loss = F.cross_entropy(
            logits,
            target,
            ignore_index=self._ignore,
            label_smoothing=self._smoothing,
            reduction=self._reduction,
        )
        if not self._square:
            return loss
        squares = self._square * torch.logsumexp(logits, -1).square()
        squares = squares * (target != self._ignore)
        return loss + (squares.mean() if self._reduction == "mean" else squares.sum())


class LigerFusedLinearCrossEntropyLoss(LigerCrossEntropyLoss):
    """The same of `x @ weight.T + bias`."""

    def forward(  # type: ignore[override]
        self, weight: Tensor, x: Tensor, target: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        return super().forward(F.linear(x, weight.to(x.dtype), bias), target)


def liger_cross_entropy(logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    """The functional form."""
    loss: Tensor = LigerCrossEntropyLoss(**options)(logits, target)
    return loss


class RMSNorm(nn.Module):
    """x / rms(x) * weight, and silu(gate) times that where a gate is given."""

    def __init__(self, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, x: Tensor, gate: Tensor | None = None, **_: Any) -> Tensor:
        normed = F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps).to(x.dtype)
        return normed if gate is None else normed * F.silu(gate)


_LIGER = {
    "LigerCrossEntropyLoss": LigerCrossEntropyLoss,
    "LigerFusedLinearCrossEntropyLoss": LigerFusedLinearCrossEntropyLoss,
    "LigerRMSNorm": RMSNorm,
}
_GATED_DELTA = {
    "chunk_gated_delta_rule": recurrent.gated_delta_rule,
    "fused_recurrent_gated_delta_rule": recurrent.gated_delta_rule,
    "naive_recurrent_gated_delta_rule": recurrent.gated_delta_rule,
}
_DELTA = {
    "chunk_delta_rule": recurrent.delta_rule,
    "fused_recurrent_delta_rule": recurrent.delta_rule,
}
_LAYER = {
    "GatedDeltaNet": recurrent.GatedDeltaNet,
    "GatedDeltaProduct": recurrent.GatedDeltaProduct,
}
_FLA_MODULES = {
    "RMSNorm": RMSNorm,
    "FusedRMSNormGated": RMSNorm,
    "FusedRMSNormSwishGate": RMSNorm,
    "ShortConvolution": recurrent.ShortConvolution,
}
_SCAN = {
    "selective_scan_fn": recurrent.selective_scan,
    "selective_scan_ref": recurrent.selective_scan,
}
_MAMBA = {"Mamba": recurrent.Mamba}
# Parents come first, so that each finds its place in them.
_CONTENTS: dict[str, dict[str, dict[str, Any]]] = {
    "causal_conv1d": {"causal_conv1d": {"causal_conv1d_fn": causal_conv1d}},
    "liger_kernel": {
        "liger_kernel": {},
        "liger_kernel.transformers": {
            **_LIGER,
            "liger_cross_entropy": liger_cross_entropy,
        },
        "liger_kernel.transformers.cross_entropy": _LIGER,
        "liger_kernel.transformers.fused_linear_cross_entropy": _LIGER,
        "liger_kernel.transformers.functional": {"liger_cross_entropy": liger_cross_entropy},
    },
    "fla": {
        "fla": {},
        "fla.ops": {**_GATED_DELTA, **_DELTA},
        "fla.ops.gated_delta_rule": _GATED_DELTA,
        "fla.ops.gated_delta_rule.chunk": _GATED_DELTA,
        "fla.ops.gated_delta_rule.naive": _GATED_DELTA,
        "fla.ops.delta_rule": _DELTA,
        "fla.modules": _FLA_MODULES,
        "fla.layers": _LAYER,
        "fla.layers.gated_deltanet": _LAYER,
        "fla.layers.gated_deltaproduct": _LAYER,
    },
    "mamba_ssm": {
        "mamba_ssm": {**_MAMBA, **_SCAN},
        "mamba_ssm.modules": {},
        "mamba_ssm.modules.mamba_simple": _MAMBA,
        "mamba_ssm.ops": {},
        "mamba_ssm.ops.selective_scan_interface": _SCAN,
    },
}
