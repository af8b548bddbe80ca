"""One optimizer step, with everything that it changes, and how to put all of that back."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hedge_record.config import RecordConfig
from hedge_record.data.shards import BatchLoader, TokenStream
from hedge_record.errors import RecordError
from hedge_record.model.gpt import GPT
from hedge_record.model.linear import set_fake_quantization
from hedge_record.model.precision import set_precision
from hedge_record.training.distributed import (
    copy_from_first_rank,
    current_ranks,
    sum_gradients,
)
from hedge_record.training.ema import ExponentialAverage
from hedge_record.training.optimizers import Optimizers
from hedge_record.training.quantization import crown_q_penalty, fake_quantization_of


class Trainer:
    """The model, its optimizers, its average and its place in the data."""

    def __init__(
        self, model: GPT, stream: TokenStream, config: RecordConfig, device: torch.device
    ) -> None:
        self.config = config
        self.device = device
        self.model = set_precision(model.to(device), config.training.precision)
        self.model.train()
        copy_from_first_rank(self.model.state_dict().values())
        ranks = current_ranks()
        spans = config.training.micro_batches
        if ranks.world_size > spans:
            raise RecordError(
                f"{spans} micro-batches are too few for {ranks.world_size} ranks; "
                f"start at most {spans} ranks"
            )
        self._own_spans = ranks.share_of(range(spans))
        self._loader = BatchLoader(stream, device)
        self._optimizers = Optimizers(self.model, config.training)
        self._parameters = list(self.model.parameters())
        # Compiling pays on CUDA alone: on a CPU it takes longer than a small run.
        cuda = device.type == "cuda"
        self._network: Any = torch.compile(self.model, dynamic=False) if cuda else self.model
        self.average = ExponentialAverage(self.model, config.training.ema_decay)
        self._rounding = fake_quantization_of(config)
        self.quantizing = False

    def start_quantizing(self) -> bool:
        """Rounds the weights from now on, with CROWN-Q beside the loss; False if nothing changed.

        Nothing changes when the weights are rounded already, or never by the configuration.
        """
        if self.quantizing or self._rounding is None:
            return False
        set_fake_quantization(self.model, self._rounding)
        self.quantizing = True
        return True

    def stop_quantizing(self) -> None:
        """Takes the weights as they are again."""
        set_fake_quantization(self.model, None)
        self.quantizing = False

    def optimize(self, step: int, scale: float) -> float:
        """Step `step` (from 0) at learning rates times `scale`.

        Returns this rank's part of the mean NLL in nats; the parts of all ranks add up to it.
        """
        loss = self._accumulate_gradients()
        training = self.config.training
        sum_gradients(p.grad for p in self._parameters if p.grad is not None)
        if training.gradient_clip > 0:
            torch.nn.utils.clip_grad_norm_(self._parameters, training.gradient_clip)
        self._optimizers.step(step, scale)
        self.model.zero_grad(set_to_none=True)
        self.average.update(self.model)
        return float(loss)

    def _accumulate_gradients(self) -> Tensor:
        training = self.config.training
        inputs, targets = self._loader.next_step(
            training.batch_tokens,
            training.sequence_length,
            training.micro_batches,
            self._own_spans,
        )
        if training.merge_micro_batches:
            inputs, targets = inputs.flatten(0, 1)[None], targets.flatten(0, 1)[None]
        total = torch.zeros((), device=self.device)
        for micro_inputs, micro_targets in zip(inputs, targets, strict=True):
            part = micro_targets.numel() / training.batch_tokens
            loss: Tensor = part * self._network(micro_inputs, micro_targets)
            torch.autograd.backward(loss)
            total += loss.detach()
        if self.quantizing and training.crown_q_lambda > 0:
            # The same for every micro-batch and rank, hence once a step.
            penalty = crown_q_penalty(self.model, self.config.export.clip_range)
            share = training.crown_q_lambda / current_ranks().world_size
            torch.autograd.backward(share * penalty)
        return total

    def warm_up(self) -> Iterator[int]:
        """Steps that heat caches and compilers and leave no trace once the iterator is used up.

        Yields the number of each. The last one rounds the weights, so that late QAT does not
        compile while the clock runs.
        """
        before = copy.deepcopy(self.state_dict())
        for step in range(self.config.training.warmup_steps):
            if step == self.config.training.warmup_steps - 1:
                self.start_quantizing()
            self.optimize(step, 1.0)
            yield step + 1
        self.load_state_dict(before)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step changes; tensors are not copied."""
        return {
            "model": dict(self.model.state_dict()),
            "average": self.average.state,
            "optimizers": self._optimizers.state_dict(),
            "stream": self._loader.stream.state(),
            "quantizing": self.quantizing,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.average.restore(state["average"])
        self._optimizers.load_state_dict(state["optimizers"])
        self._loader.stream.restore(state["stream"])
        self.stop_quantizing()
        if state["quantizing"]:
            self.start_quantizing()
