"""Partial rotary position embedding, with a base that stretches beyond the training length."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines of one forward pass, each [1, T, 1, rope_dims / 2]."""

    cosine: Tensor
    sine: Tensor


def rotation_for(
    length: int,
    *,
    dims: int,
    base: float,
    training_length: int,
    device: torch.device,
    dtype: torch.dtype,
    angles_in: torch.dtype = torch.float32,
) -> Rotation:
    """The rotation of positions 0..length-1 over `dims` dimensions of a head.

    Longer sequences than `training_length` stretch the base by (length / training_length) to
    the power dims / (dims - 2), so that the slowest frequency covers them (NTK-aware scaling).
    The angles are float32 whatever `dtype` the model runs in; `angles_in` is another type for those
    of sequences that stretch nothing.
    """
    if length > training_length:
        base *= (length / training_length) ** (dims / (dims - 2))
        angles_in = torch.float32
    exponents = torch.arange(0, dims, 2, dtype=torch.float32, device=device) / dims
    positions = torch.arange(length, dtype=angles_in, device=device)
    frequencies = (base**-exponents).to(angles_in)
    angles = torch.outer(positions, frequencies)[None, :, None, :]
    return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Rotates the first dimensions of `heads` [B, T, H, D]; the others pass unchanged."""
    half = rotation.cosine.shape[-1]
    first, second, rest = heads[..., :half], heads[..., half : 2 * half], heads[..., 2 * half :]
    cosine, sine = rotation.cosine, rotation.sine
    turned = (first * cosine + second * sine, second * cosine - first * sine, rest)
    return torch.cat(turned, dim=-1)
