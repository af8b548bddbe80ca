"""Recurrent layers, step by step, from the papers that define them.

- The delta rule with a gate (Yang, Kautz, Hatamizadeh 2024): `S <- a S (I - b k k') + b v k'`,
  `o = S q`; and with several such steps a token (Siems et al. 2025), of which the first decays.
- The selective state space (Gu, Dao 2023): `h <- exp(d A) h + d B x`, `y = C h + D x`.

Layers have the parameters, names and initial values that scripts rely on.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Tensor = torch.Tensor


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    beta: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **_: Any,
) -> tuple[Tensor, Tensor | None]:
    """q, k [batch, time, heads, key], v [batch, time, heads, value], g (log decay) and beta
    [batch, time, heads]; returns o like v, and the last state where asked for."""
    kind = v.dtype
    if use_qk_l2norm_in_kernel:
        q, k = F.normalize(q.float(), dim=-1), F.normalize(k.float(), dim=-1)
    groups = v.shape[2] // q.shape[2]
    q, k = (part.float().repeat_interleave(groups, 2) for part in (q, k))
    v = v.float()
    decay = torch.ones(v.shape[:3]) if g is None else g.float().exp()
    rate = torch.ones(v.shape[:3]) if beta is None else beta.float()
    state = v.new_zeros(v.shape[0], v.shape[2], k.shape[3], v.shape[3])
    if initial_state is not None:
        state = state + initial_state.float()
    outputs = []
    for t in range(v.shape[1]):
        state = state * decay[:, t, :, None, None]
        known = torch.einsum("bhkv,bhk->bhv", state, k[:, t])
        new = (v[:, t] - known) * rate[:, t, :, None]
        state = state + k[:, t, :, :, None] * new[:, :, None, :]
        outputs.append(torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    out = (torch.stack(outputs, 1) * factor).to(kind)
    return out, state if output_final_state else None


def delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, **named: Any
) -> tuple[Tensor, Tensor | None]:
    """The same without a gate."""
    return gated_delta_rule(q, k, v, None, beta, **named)


class ShortConvolution(nn.Conv1d):
    """Depthwise causal convolution over time of x [batch, time, channels]."""

    def __init__(
        self,
        hidden_size: int,
        kernel_size: int,
        bias: bool = False,
        activation: Any = "silu",
        **_: Any,
    ) -> None:
        super().__init__(
            hidden_size,
            hidden_size,
            kernel_size,
            groups=hidden_size,
            bias=bias,
            padding=kernel_size - 1,
        )
        self._activation = activation

    def forward(self, x: Tensor, **_: Any) -> tuple[Tensor, None]:  # type: ignore[override]
        out = super().forward(x.mT)[..., : x.shape[1]].mT
        return (F.silu(out) if self._activation else out), None


class GatedDeltaNet(nn.Module):
    """The layer around the gated delta rule; x [batch, time, hidden_size]."""

    steps = 1  # of the delta rule for each token

    def __init__(
        self,
        hidden_size: int = 2048,
        expand_v: float = 2,
        head_dim: int = 256,
        num_heads: int = 6,
        num_v_heads: int | None = None,
        use_gate: bool = True,
        use_short_conv: bool = True,
        allow_neg_eigval: bool = False,
        conv_size: int = 4,
        conv_bias: bool = False,
        layer_idx: int | None = None,
        norm_eps: float = 1e-5,
        **_: Any,
    ) -> None:
        super().__init__()
        self.layer_idx, self.use_gate, self.use_short_conv = layer_idx, use_gate, use_short_conv
        self.allow_neg_eigval = allow_neg_eigval
        self.num_heads, self.num_v_heads = num_heads, num_v_heads or num_heads
        self.head_k_dim, self.head_v_dim = head_dim, int(head_dim * expand_v)
        keys, values = num_heads * head_dim, self.num_v_heads * self.head_v_dim
        many = self.steps
        self.q_proj = nn.Linear(hidden_size, keys, bias=False)
        self.k_proj = nn.Linear(hidden_size, keys * many, bias=False)
        self.v_proj = nn.Linear(hidden_size, values * many, bias=False)
        self.a_proj = nn.Linear(hidden_size, self.num_v_heads, bias=False)
        self.b_proj = nn.Linear(hidden_size, self.num_v_heads * many, bias=False)
        self.A_log = nn.Parameter(torch.log(torch.empty(self.num_v_heads).uniform_(0, 16)))
        step = torch.exp(
            torch.rand(self.num_v_heads) * (math.log(0.1) - math.log(0.001)) + math.log(0.001)
        ).clamp(min=1e-4)
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        if use_short_conv:
            self.q_conv1d = ShortConvolution(keys, conv_size, conv_bias)
            self.k_conv1d = ShortConvolution(keys * many, conv_size, conv_bias)
            self.v_conv1d = ShortConvolution(values * many, conv_size, conv_bias)
        if use_gate:
            self.g_proj = nn.Linear(hidden_size, values, bias=False)
        self.o_norm = nn.RMSNorm(self.head_v_dim, eps=norm_eps)
        self.o_proj = nn.Linear(values, hidden_size, bias=False)

    def forward(self, x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None, None]:
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        if self.use_short_conv:
            q, k, v = self.q_conv1d(q)[0], self.k_conv1d(k)[0], self.v_conv1d(v)[0]
        else:
            q, k, v = F.silu(q), F.silu(k), F.silu(v)
        batch, time = x.shape[:2]
        long = time * self.steps
        q = q.reshape(batch, time, self.num_heads, self.head_k_dim)
        k = k.reshape(batch, long, self.num_heads, self.head_k_dim)
        v = v.reshape(batch, long, self.num_v_heads, self.head_v_dim)
        rate = self.b_proj(x).sigmoid() * (2 if self.allow_neg_eigval else 1)
        decay = -self.A_log.float().exp() * F.softplus(self.a_proj(x).float() + self.dt_bias)
        decays = decay.new_zeros(batch, time, self.steps, self.num_v_heads)
        decays[:, :, 0] = decay
        out, _state = gated_delta_rule(
            q.repeat_interleave(self.steps, 1),
            k,
            v,
            decays.reshape(batch, long, -1),
            rate.reshape(batch, long, -1),
            use_qk_l2norm_in_kernel=True,
        )
        out = self.o_norm(out[:, self.steps - 1 :: self.steps])
        if self.use_gate:
            out = out * F.silu(self.g_proj(x).view_as(out))
        return self.o_proj(out.reshape(batch, time, -1).to(x.dtype)), None, None


class GatedDeltaProduct(GatedDeltaNet):
    """The same with `num_householder` steps for each token."""

    def __init__(
        self,
        hidden_size: int = 2048,
        num_householder: int = 2,
        use_output_gate: bool = True,
        allow_neg_eigval: bool = True,
        **named: Any,
    ) -> None:
        self.steps = num_householder
        super().__init__(
            hidden_size, use_gate=use_output_gate, allow_neg_eigval=allow_neg_eigval, **named
        )


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Any:
    """u, delta, z [batch, channels, time]; A [channels, state]; B, C [batch, state, time]."""
    kind, step = u.dtype, delta.float()
    if delta_bias is not None:
        step = step + delta_bias.float()[:, None]
    if delta_softplus:
        step = F.softplus(step)
    state = u.new_zeros(u.shape[0], u.shape[1], A.shape[1], dtype=torch.float32)
    outputs = []
    for t in range(u.shape[2]):
        now = step[:, :, t, None]
        state = torch.exp(now * A.float()) * state
        state = state + now * B[:, None, :, t].float() * u[:, :, t, None].float()
        outputs.append((state * C[:, None, :, t].float()).sum(-1))
    out = torch.stack(outputs, -1)
    if D is not None:
        out = out + u.float() * D.float()[:, None]
    if z is not None:
        out = out * F.silu(z.float())
    return (out.to(kind), state) if return_last_state else out.to(kind)


class Mamba(nn.Module):
    """The layer around the selective scan; x [batch, time, d_model]."""

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        bias: bool = False,
        conv_bias: bool = True,
        **_: Any,
    ) -> None:
        super().__init__()
        inner = expand * d_model
        self.rank = math.ceil(d_model / 16) if isinstance(dt_rank, str) else dt_rank
        self.d_state = d_state
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=bias)
        self.conv1d = nn.Conv1d(
            inner, inner, d_conv, groups=inner, padding=d_conv - 1, bias=conv_bias
        )
        self.x_proj = nn.Linear(inner, self.rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=bias)

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        inner, gate = self.in_proj(x).mT.chunk(2, 1)
        inner = F.silu(self.conv1d(inner)[..., : x.shape[1]])
        parts = self.x_proj(inner.mT).split([self.rank, self.d_state, self.d_state], -1)
        step, B, C = parts
        delta = (step @ self.dt_proj.weight.T.to(step.dtype)).mT
        rates = -torch.exp(self.A_log.float())
        out = selective_scan(
            inner, delta, rates, B.mT, C.mT, self.D, gate, self.dt_proj.bias.float(), True
        )
        result: Tensor = self.out_proj(out.mT)
        return result
