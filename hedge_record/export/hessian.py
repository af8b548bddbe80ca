"""What each linear layer sees: the second moments of its inputs, which GPTQ weighs errors by."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from hedge_record.errors import RecordError
from hedge_record.model.gpt import GPT
from hedge_record.model.linear import CastedLinear


def collect_hessians(model: GPT, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """X^T X / n per `CastedLinear`, by the state-dict name of its weight.

    `batches` are training sequences, int64 [B, T] each; X holds the layer's n input vectors over
    all of them. Each Hessian is float32 [in_features, in_features] on the model's device. With the
    weights W, the mean squared change of the layer's output is trace((W - Q) H (W - Q)^T).

    Raises:
        RecordError: there is no batch.
    """
    sums: dict[str, Tensor] = {}
    vectors: dict[str, int] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def add(_layer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            x = inputs[0].detach().float().flatten(0, -2)
            sums[name] = sums.get(name, 0) + x.T @ x
            vectors[name] = vectors.get(name, 0) + x.shape[0]

        return add

    hooks = [
        module.register_forward_hook(watch(f"{name}.weight"))
        for name, module in model.named_modules()
        if isinstance(module, CastedLinear)
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                model.forward_logits(batch)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    if not sums:
        raise RecordError("no calibration sequence: set export.calibration_sequences above 0")
    return {name: total / vectors[name] for name, total in sums.items()}
