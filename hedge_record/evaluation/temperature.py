"""The adaptive temperature of PR 700: a softmax that is sharper where it is sure."""

import math

import torch
from torch import Tensor


def adaptive_temperature(logits: Tensor, temperature: float) -> Tensor:
    """`logits` [..., V] divided by a temperature that falls with confidence; 1 changes nothing.

    1 - (1 - temperature) * (1 - H / ln V), H the entropy: a sure prediction is sharpened fully, a
    uniform one not at all. It depends on the past alone, and the softmax stays a softmax.
    """
    if temperature == 1:
        return logits
    entropy = softmax_entropy(torch.log_softmax(logits, dim=-1)).unsqueeze(-1)
    sharpness = (1 - temperature) * (1 - entropy / math.log(logits.shape[-1]))
    return logits / (1 - sharpness).clamp(0.9, 1.05)


def softmax_entropy(log_probs: Tensor) -> Tensor:
    """The entropy in nats [...] of distributions given as logarithms [..., V]."""
    entropy: Tensor = -torch.linalg.vecdot(log_probs.exp(), log_probs)
    return entropy
