"""One transformer block: residual mixing, attention, leaky-ReLU-squared MLP, depth gate."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hedge_record.config import ModelConfig
from hedge_record.model.attention import CausalSelfAttention
from hedge_record.model.linear import CastedLinear
from hedge_record.model.rotary import Rotation


class MLP(nn.Module):
    """Two linear layers around the square of a leaky ReLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc = CastedLinear(width, hidden, bias=False)
        self.proj = CastedLinear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] -> [B, T, width]."""
        return cast(Tensor, self.proj(F.leaky_relu(self.fc(x), 0.5).square()))


class Block(nn.Module):
    """Block `index` of the GPT; `x0` is the input of the first block, mixed in again here."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        width = config.width
        exclusive = index >= config.layers - config.xsa_layers
        self.attn = CausalSelfAttention(config, exclusive=exclusive)
        self.mlp = MLP(width, int(config.mlp_multiple * width))
        self.attn_scale = nn.Parameter(torch.ones(width))
        self.mlp_scale = nn.Parameter(torch.ones(width))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(width), torch.zeros(width))))
        self.input_scale = 1 / math.sqrt(index + 1) if config.depth_scale else 1.0
        self.dtg_gate = nn.Linear(width, 1) if config.depth_gate else None

    def forward(
        self, x: Tensor, x0: Tensor, rotation: Rotation, value_embedding: Tensor | None
    ) -> Tensor:
        """x and x0 [B, T, width], value_embedding [B, T, kv width] or None -> [B, T, width]."""
        dtype = x.dtype
        mix = self.resid_mix.to(dtype)
        x_in = mix[0] * x + mix[1] * x0
        attended: Tensor = self.attn(self._normed(x_in), rotation, value_embedding)
        out: Tensor = x_in + self.attn_scale.to(dtype) * attended
        out = out + self.mlp_scale.to(dtype) * self.mlp(self._normed(out))
        if self.dtg_gate is None:
            return out
        # The gate judges its input without steering it, hence the detach.
        weight, bias = self.dtg_gate.weight.to(dtype), self.dtg_gate.bias.to(dtype)
        gate = torch.sigmoid(F.linear(x_in.detach(), weight, bias))
        return torch.lerp(x_in, out, gate)

    def _normed(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],)) * self.input_scale
