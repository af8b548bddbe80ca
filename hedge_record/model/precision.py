"""Which tensors stay float32: linear weights, and the small ones that steer the network."""

from typing import Literal

import torch

from hedge_record.model.gpt import GPT

CONTROL_TENSOR_NAMES = (
    "attn_scale",
    "mlp_scale",
    "resid_mix",
    "q_gain",
    "skip_weights",
    "smear",
    "dtg_gate",
    "ve_layer_scales",
    "ve_shared.scale",
)


def is_control_tensor(name: str) -> bool:
    """Whether the tensor of that state-dict name is a gate, scale or mixing weight."""
    return any(control in name for control in CONTROL_TENSOR_NAMES)


def set_precision(model: GPT, precision: Literal["bfloat16", "float32"]) -> GPT:
    """Puts `model` into the training precision, in place.

    In bfloat16 only the embedding tables change, and with them every activation: linear layers
    cast their float32 weight to the dtype of their input, and so do vectors, gates and scales.
    """
    model.float()
    if precision == "bfloat16":
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.bfloat16()
    return model
