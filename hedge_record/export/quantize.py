"""From a trained state dict to what the artifact stores.

- gates, scales and mixing weights: float32;
- other tensors of at most `small_tensor_elements` elements: float16;
- matrices of linear layers: pruned, then int5 by GPTQ with a float16 scale per row;
- other matrices (the embedding tables, and a head of their own): pruned, then int8 per row.
"""

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from hedge_record.config import ExportConfig
from hedge_record.errors import RecordError
from hedge_record.export.gptq import RowQuantized, gptq_quantize, round_to_nearest
from hedge_record.model.precision import is_control_tensor


class StoredMatrix(NamedTuple):
    """A quantised matrix, and the bits that its codes need."""

    quantized: RowQuantized
    bits: int


StoredTensor = StoredMatrix | Tensor
EIGHT_BIT_RANGE = 127


def prune(weight: Tensor, fraction: float) -> Tensor:
    """`weight` with its smallest magnitudes set to 0: at most `fraction` of the elements.

    Zeros make the codes more uneven, hence the compressed artifact smaller.
    """
    pruned = int(fraction * weight.numel())
    smallest_kept = weight.abs().flatten().kthvalue(pruned + 1).values
    return weight.masked_fill(weight.abs() < smallest_kept, 0)


def quantize_model(
    state: dict[str, Tensor], hessians: dict[str, Tensor], config: ExportConfig
) -> dict[str, StoredTensor]:
    """Every tensor of `state` as the artifact stores it, on the CPU.

    `hessians` are keyed by weight name (see `collect_hessians`); a matrix without one is no linear
    layer and keeps eight bits.

    Raises:
        RecordError: a weight or a Hessian is not finite.
    """
    return {
        name: _store(name, tensor.detach(), hessians.get(name), config)
        for name, tensor in state.items()
    }


def dequantize_model(stored: dict[str, StoredTensor]) -> dict[str, Tensor]:
    """The float32 state dict that `stored` stands for."""
    return {
        name: value.quantized.dequantize() if isinstance(value, StoredMatrix) else value.float()
        for name, value in stored.items()
    }


def _store(name: str, tensor: Tensor, hessian: Tensor | None, config: ExportConfig) -> StoredTensor:
    if not tensor.isfinite().all():
        raise RecordError(f"{name} holds a number that is not finite: the training diverged")
    if is_control_tensor(name):
        return tensor.float().cpu()
    if tensor.ndim != 2 or tensor.numel() <= config.small_tensor_elements:
        return tensor.half().cpu()
    tensor = prune(tensor, config.prune_fraction)
    if hessian is None or name == "lm_head.weight":
        eight_bit = replace(
            config, clip_range=EIGHT_BIT_RANGE, clip_percentiles=(1.0,), scale_floor=0.0
        )
        quantized, bits = round_to_nearest(tensor, eight_bit), 8
    else:
        quantized = gptq_quantize(tensor, hessian, config)
        bits = (config.clip_range + 1).bit_length()
    return StoredMatrix(RowQuantized(*(part.cpu() for part in quantized)), bits)
