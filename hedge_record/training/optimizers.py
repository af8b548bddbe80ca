"""Which optimizer moves which parameter, and how fast."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hedge_record.config import TrainingConfig
from hedge_record.model.gpt import GPT
from hedge_record.model.precision import is_control_tensor
from hedge_record.training.muon import Muon
from hedge_record.training.schedule import muon_momentum

EMBEDDING_NAMES = ("tok_emb.weight", ".embed.weight", "lm_head.weight")


@dataclass(frozen=True)
class ParameterGroups:
    """The parameters of a model by the way they are trained."""

    matrices: list[Tensor]  # Muon
    embeddings: list[Tensor]  # AdamW, and an untied output head with them
    scalars: list[Tensor]  # AdamW: vectors, gates and scales


def group_parameters(model: GPT) -> ParameterGroups:
    """Splits the parameters of `model`; each is in exactly one group."""
    groups = ParameterGroups([], [], [])
    for name, parameter in model.named_parameters():
        if name.endswith(EMBEDDING_NAMES):
            groups.embeddings.append(parameter)
        elif parameter.ndim == 2 and not is_control_tensor(name):
            groups.matrices.append(parameter)
        else:
            groups.scalars.append(parameter)
    return groups


class Optimizers:
    """Muon and AdamW, stepped together."""

    def __init__(self, model: GPT, config: TrainingConfig) -> None:
        groups = group_parameters(model)
        self._config = config
        self.muon = Muon(
            groups.matrices,
            lr=config.matrix_lr,
            momentum=config.muon_momentum,
            weight_decay=config.weight_decay,
            newton_schulz_steps=config.newton_schulz_steps,
        )
        self.adam = torch.optim.AdamW(
            [
                {"params": groups.embeddings, "lr": config.embedding_lr},
                {"params": groups.scalars, "lr": config.scalar_lr},
            ],
            betas=config.adam_betas,
            eps=config.adam_epsilon,
            weight_decay=config.adam_weight_decay,
            fused=True,
        )

    def step(self, step: int, scale: float) -> None:
        """One update with the momentum of `step` and learning rates times `scale`."""
        self.muon.param_groups[0]["momentum"] = muon_momentum(step, self._config)
        self.muon.param_groups[0]["lr"] = self._config.matrix_lr * scale
        self.adam.param_groups[0]["lr"] = self._config.embedding_lr * scale
        self.adam.param_groups[1]["lr"] = self._config.scalar_lr * scale
        self.muon.step()
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Both states, for checkpoints."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
