"""Causal self-attention with grouped heads, partial RoPE, query gain, and exclusive output."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hedge_record.config import ModelConfig
from hedge_record.model.linear import CastedLinear
from hedge_record.model.rotary import Rotation, rotate

try:  # FlashAttention 3 exists on Hopper GPUs only.
    from flash_attn_interface import flash_attn_func
except ImportError:
    flash_attn_func = None


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention to this and earlier positions.

    query [B, T, H, D], key and value [B, T, G, D] with H a multiple of G -> [B, T, H, D].
    """
    if flash_attn_func is not None and query.is_cuda and query.dtype != torch.float32:
        attended = flash_attn_func(query, key, value, causal=True)
        # Early releases return the log-sum-exp beside the output.
        return cast(Tensor, attended[0] if isinstance(attended, tuple) else attended)
    return F.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        is_causal=True,
        enable_gqa=query.shape[2] != key.shape[2],
    ).transpose(1, 2)


def exclude_own_value(attended: Tensor, value: Tensor) -> Tensor:
    """Exclusive self-attention (XSA): drops from each head the direction of its own value.

    attended [B, T, H, D], value [B, T, G, D] -> [B, T, H, D], orthogonal to the value of the
    same position and group: what a token already knows of itself comes by the residual path.
    """
    batch, length, heads, dims = attended.shape
    grouped = attended.reshape(batch, length, value.shape[2], -1, dims)
    direction = F.normalize(value, dim=-1).unsqueeze(-2)
    own = (grouped * direction).sum(dim=-1, keepdim=True) * direction
    return (grouped - own).reshape(batch, length, heads, dims)


class CausalSelfAttention(nn.Module):
    """Attention of one block; `exclusive` turns XSA on."""

    def __init__(self, config: ModelConfig, *, exclusive: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.kv_heads = config.kv_heads
        self.head_dims = config.width // config.heads
        self.exclusive = exclusive
        kv_width = self.kv_heads * self.head_dims
        self.c_q = CastedLinear(config.width, config.width, bias=False)
        self.c_k = CastedLinear(config.width, kv_width, bias=False)
        self.c_v = CastedLinear(config.width, kv_width, bias=False)
        self.proj = CastedLinear(config.width, config.width, bias=False)
        self.q_gain = nn.Parameter(torch.full((config.heads,), config.qk_gain))

    def forward(self, x: Tensor, rotation: Rotation, value_embedding: Tensor | None) -> Tensor:
        """x [B, T, width], value_embedding [B, T, kv_heads * D] or None -> [B, T, width]."""
        batch, length, width = x.shape
        query = self.c_q(x).view(batch, length, self.heads, self.head_dims)
        key = self.c_k(x).view(batch, length, self.kv_heads, self.head_dims)
        value = self.c_v(x)
        if value_embedding is not None:
            value = value + value_embedding
        value = value.view(batch, length, self.kv_heads, self.head_dims)
        query = rotate(F.rms_norm(query, (self.head_dims,)), rotation)
        key = rotate(F.rms_norm(key, (self.head_dims,)), rotation)
        query = query * self.q_gain.to(query.dtype)[:, None]
        attended = causal_attention(query, key, value)
        if self.exclusive:
            attended = exclude_own_value(attended, value)
        return cast(Tensor, self.proj(attended.reshape(batch, length, width)))
