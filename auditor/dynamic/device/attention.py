"""FlashAttention 2 and 3 (dense, packed, variable length) on torch's scaled dot product attention.

Layouts and meanings are those of the packages' documentation: [batch, length, heads, head_dim];
fewer key than query heads share them in groups; masks are aligned to the bottom right corner; a
window of (left, right) lets query i see keys i - left ... i + right. `cu_seqlens` holds the
cumulative lengths, [sequences + 1].
"""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from auditor.dynamic.device.patching import always, module, used

Tensor = torch.Tensor
Window = tuple[int, int]
_NO_WINDOW: Window = (-1, -1)
_IGNORED = frozenset(
    "alibi_slopes deterministic num_splits pack_gqa sm_margin max_seqlen_q max_seqlen_k dropout_p "
    "seqused_q seqused_k block_table scheduler_metadata attention_chunk zero_tensors qv "
    "q_descale k_descale v_descale return_softmax cp_world_size cp_rank cp_tot_seqused_k".split()
)
_UNSUPPORTED = ("alibi_slopes", "qv", "block_table", "seqused_k")


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float | None,
    causal: bool,
    window: Window,
    softcap: float,
) -> tuple[Tensor, Tensor | None]:
    """Attention of [batch, length, heads, head_dim], and its log-sum-exp [batch, heads, length]
    where it was worked out."""
    q, k, v = (part.transpose(1, 2) for part in (query, key.to(query.dtype), value.to(query.dtype)))
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    square = q.shape[2] == k.shape[2]
    if softcap:
        return _by_hand(q, k, v, scale, _mask(q, k, causal, window), softcap)
    if causal and square and window[0] < 0:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    else:
        mask = _mask(q, k, causal, window)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return out.transpose(1, 2).contiguous(), None


def _mask(q: Tensor, k: Tensor, causal: bool, window: Window) -> Tensor | None:
    """bool [query length, key length], True where seen; None for everything."""
    left, right = window
    right = 0 if causal else right
    if left < 0 and right < 0:
        return None
    row = torch.arange(q.shape[2])[:, None] + (k.shape[2] - q.shape[2])
    column = torch.arange(k.shape[2])[None, :]
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    if left >= 0:
        seen &= column >= row - left
    if right >= 0:
        seen &= column <= row + right
    return seen


def _by_hand(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None, mask: Tensor | None, softcap: float
) -> tuple[Tensor, Tensor]:
    scores = q.float() @ k.float().mT * (scale if scale is not None else q.shape[-1] ** -0.5)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = torch.nan_to_num(torch.softmax(scores, -1))
    out = (weights.to(v.dtype) @ v).transpose(1, 2).contiguous()
    return out, torch.logsumexp(scores, -1)


def _window(value: Any) -> Window:
    if value is None:
        return _NO_WINDOW
    left, right = (value, value) if isinstance(value, int) else value
    return (-1 if left is None else int(left), -1 if right is None else int(right))


def _dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Any = _NO_WINDOW,
    softcap: float = 0.0,
    return_attn_probs: bool = False,
    return_softmax_lse: bool = False,
    return_lse: bool = False,
    **rest: Any,
) -> Any:
    used["flash attention"] += 1
    _check(rest)
    window = _window(window_size)
    wanted = return_attn_probs or return_softmax_lse or return_lse
    if not wanted:
        return attend(q, k, v, softmax_scale, causal, window, softcap or 0.0)[0]
    groups = q.shape[2] // k.shape[2]
    heads = [part.transpose(1, 2) for part in (q, k, v)]
    heads[1:] = [part.repeat_interleave(groups, 1) for part in heads[1:]]
    mask = _mask(heads[0], heads[1], causal, window)
    out, lse = _by_hand(heads[0], heads[1], heads[2], softmax_scale, mask, softcap or 0.0)
    return (out, lse, None) if return_attn_probs else (out, lse)


def _check(rest: dict[str, Any]) -> None:
    for name in _UNSUPPORTED:
        if rest.get(name) is not None:
            raise NotImplementedError(f"flash attention on the virtual device has no {name}")
    unknown = rest.keys() - _IGNORED
    if unknown:
        raise TypeError(f"flash attention got an unexpected argument {min(unknown)!r}")


def _varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_q: int | None = None,  # noqa: ARG001 - the signature is the package's
    max_seqlen_k: int | None = None,  # noqa: ARG001
    **named: Any,
) -> Any:
    """[total length, heads, head_dim]; every sequence attends to itself alone."""
    used["flash attention, variable length"] += 1
    queries = cu_seqlens_q.tolist()
    keys = queries if cu_seqlens_k is None else cu_seqlens_k.tolist()
    parts = [
        _dense(q[None, first:last], k[None, low:high], v[None, low:high], **named)
        for first, last, low, high in zip(queries, queries[1:], keys, keys[1:], strict=False)
        if last > first
    ]
    if parts and isinstance(parts[0], tuple):
        raise NotImplementedError("the virtual device returns no log-sum-exp of variable lengths")
    covered = sum(part.shape[1] for part in parts)
    rest = q.new_zeros((q.shape[0] - covered, q.shape[1], v.shape[2]))
    return torch.cat([*(part[0] for part in parts), rest])


def _positional(function: Any, *names: str) -> Any:
    """The packages differ in the order of what follows the tensors."""
    order = " ".join(names).split()

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        given = dict(zip(order, arguments, strict=False))
        return function(**given, **named)

    return called


_TENSORS = "q k v"
_LENGTHS = "cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k"
_FLASH_2 = "dropout_p softmax_scale causal window_size softcap alibi_slopes deterministic"
_FLASH_3 = "softmax_scale causal qv q_descale k_descale v_descale window_size"


def _packed(qkv: Tensor, *arguments: Any, **named: Any) -> Any:
    return _dense_2(*qkv.unbind(2), *arguments, **named)


def _packed_kv(q: Tensor, kv: Tensor, *arguments: Any, **named: Any) -> Any:
    return _dense_2(q, *kv.unbind(2), *arguments, **named)


def _packed_varlen(qkv: Tensor, cu: Tensor, longest: int, *arguments: Any, **named: Any) -> Any:
    return _varlen_2(*qkv.unbind(1), cu, cu, longest, longest, *arguments, **named)


_dense_2 = _positional(_dense, _TENSORS, _FLASH_2)
_varlen_2 = _positional(_varlen, _TENSORS, _LENGTHS, _FLASH_2)
_dense_3 = _positional(_dense, _TENSORS, _FLASH_3)
_varlen_3 = _positional(_varlen, _TENSORS, _LENGTHS, "seqused_q seqused_k", _FLASH_3)
_VERSION_2 = {
    "flash_attn_func": _dense_2,
    "flash_attn_varlen_func": _varlen_2,
    "flash_attn_qkvpacked_func": _packed,
    "flash_attn_kvpacked_func": _packed_kv,
    "flash_attn_varlen_qkvpacked_func": _packed_varlen,
    "__version__": "2.8.3",
}
_VERSION_3 = {
    "flash_attn_func": _dense_3,
    "flash_attn_3_func": _dense_3,
    "flash_attn_varlen_func": _varlen_3,
    "flash_attn_qkvpacked_func": _packed,
    "__version__": "3.0.0",
}


def install() -> None:
    """Puts the packages in place under every name they are imported by."""
    for name in ("flash_attn", "flash_attn.flash_attn_interface"):
        module(name, **_VERSION_2)
    for name in (
        "flash_attn_interface", "flash_attn_3", "flash_attn_3.flash_attn_interface",
        "flash_attn.cute", "flash_attn.cute.interface", "flash_attn_4", "hopper",
        "hopper.flash_attn_interface", "flash_attn3", "fa3_fwd_interface",
    ):  # fmt: skip
        interface = module(name, **_VERSION_3)
    # `kernels` fetches compiled kernels from a hub; attention is the one that scripts fetch.
    module("kernels", get_kernel=always(interface), has_kernel=always(True))
