"""The exponential moving average of the whole state: the weights that are exported."""

import torch
from torch import Tensor, nn


class ExponentialAverage:
    """A float32 average over steps of every tensor in a state dict."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self.state = {
            name: tensor.detach().float().clone() for name, tensor in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """average <- decay * average + (1 - decay) * current."""
        for name, tensor in model.state_dict().items():
            self.state[name].lerp_(tensor.float(), 1 - self._decay)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes over the average of a checkpoint."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])
