"""Test-time training: the part of the model that adapts, its optimizer and its Polyak average."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hedge_record.config import EvaluationConfig
from hedge_record.data.byte_table import ByteTable
from hedge_record.model.gpt import GPT
from hedge_record.training.distributed import current_ranks, sum_over_ranks

ADAPTED_NAMES = ("norm", "scale", "lm_head")


def adapted_parameters(model: GPT, blocks: int) -> list[nn.Parameter]:
    """The last `blocks` blocks and every parameter whose name holds one of `ADAPTED_NAMES`."""
    first = max(len(model.blocks) - blocks, 0)
    last = tuple(f"blocks.{index}." for index in range(first, len(model.blocks)))
    return [
        parameter
        for name, parameter in model.named_parameters()
        if name.startswith(last) or any(part in name for part in ADAPTED_NAMES)
    ]


def chunk_learning_rate(chunk: int, chunk_count: int, config: EvaluationConfig) -> float:
    """A cosine to 0 over the chunks, if wanted, times a ramp from 1 to `ttt_lr_ramp`.

    Early chunks have seen little, so the ramp lets later ones move further.
    """
    cosine = 1.0
    if config.ttt_lr_cosine:
        cosine = 0.5 * (1 + math.cos(math.pi * chunk / max(chunk_count - 1, 1)))
    ramped = min(chunk / max(chunk_count * config.ttt_lr_ramp_fraction, 1), 1.0)
    return config.ttt_lr * cosine * (1 + (config.ttt_lr_ramp - 1) * ramped)


class Adaptation:
    """Trains the adapted parameters of `model` on scored tokens; `finish` puts all of it back."""

    def __init__(self, model: GPT, table: ByteTable, config: EvaluationConfig) -> None:
        self.model = model
        self.table = table
        self.config = config
        self.parameters = adapted_parameters(model, config.ttt_unfrozen_blocks)
        self.original = [parameter.detach().clone() for parameter in self.parameters]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.trainable = [parameter.requires_grad for parameter in model.parameters()]
        model.requires_grad_(False)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.ttt_lr, weight_decay=0.0)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the model holds the Polyak average; outside, the weights being trained."""
        trained = [parameter.detach().clone() for parameter in self.parameters]
        self._load(self.average)
        try:
            yield
        finally:
            self._load(trained)

    def train(self, tokens: Tensor, learning_rate: float) -> None:
        """Some epochs over `tokens` [n + 1], all of which must have been scored.

        Ranks divide each batch; weighing its loss by the bytes of the whole batch makes the sum
        of their gradients the gradient of one process.
        """
        length = self.config.sequence_length
        count = (tokens.numel() - 1) // length
        inputs = tokens[: count * length].view(count, length)
        targets = tokens[1 : count * length + 1].view(count, length)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        for _ in range(self.config.ttt_epochs):
            for first in range(0, count, self.config.ttt_batch_sequences):
                batch = slice(first, first + self.config.ttt_batch_sequences)
                self._step(inputs[batch], targets[batch])

    def finish(self) -> None:
        """Puts the weights and their `requires_grad` back as they were."""
        self._load(self.original)
        for parameter, trainable in zip(self.model.parameters(), self.trainable, strict=True):
            parameter.requires_grad_(trainable)
            parameter.grad = None

    def _step(self, inputs: Tensor, targets: Tensor) -> None:
        weights = torch.ones_like(targets, dtype=torch.float32)
        if self.config.ttt_byte_weighted:
            weights = self.table.target_bytes(inputs, targets).float()
        self.optimizer.zero_grad(set_to_none=True)
        mine = current_ranks().share_of(range(len(inputs)))
        if mine:
            rows = slice(mine[0], mine[-1] + 1)
            logits = self.model.forward_logits(inputs[rows]).float()
            nll = nn.functional.cross_entropy(
                logits.flatten(0, 1), targets[rows].flatten(), reduction="none"
            )
            loss = (nll * weights[rows].flatten()).sum() / weights.sum().clamp_min(1)
            torch.autograd.backward(loss)
        self._sum_gradients()
        nn.utils.clip_grad_norm_(self.parameters, self.config.ttt_gradient_clip)
        self.optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(self.average, self.parameters, strict=True):
                average.lerp_(parameter, 1 - self.config.ttt_polyak_decay)

    def _sum_gradients(self) -> None:
        if current_ranks().world_size == 1:
            return
        for parameter in self.parameters:
            # A rank without a row in this batch still takes part in the sum.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            sum_over_ranks(parameter.grad)

    @torch.no_grad()
    def _load(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
