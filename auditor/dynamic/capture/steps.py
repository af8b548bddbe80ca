"""Notes every change of weights: a digest of them after it, so that two runs can be compared.

- Optimizers: a hook of torch after each `step`, for every class derived from `Optimizer`.
- Changes by hand (`p.add_(...)`, `p.data -= ...`): modules' parameters carry a version that counts
  in-place changes; it is looked at whenever something is reduced outside of an optimizer's step.

A step was fed by a token exactly if the digest differs between two runs that differ in that token
alone: nothing has to be known of names, or of the way that data take.
"""

import weakref
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from auditor.dynamic.capture.record import BY_HAND, Recorder, place


class Steps:
    """Follows the parameters of optimizers and modules; tells `stepped` the number of each change
    that an optimizer made, from 1 among all changes."""

    def __init__(self, recorder: Recorder, stepped: Callable[[int], None]) -> None:
        self.recorder = recorder
        self.stepped = stepped
        self.count = 0
        self.parameters: dict[int, weakref.ref[torch.Tensor]] = {}
        self.versions = 0
        self.stepping = False  # the hook before a step always has one after it

    def install(self) -> None:
        """Hooks optimizers, and the registration of parameters."""
        register_optimizer_step_pre_hook(self._starts)
        register_optimizer_step_post_hook(self._stepped)
        original = torch.nn.Module.register_parameter
        follow = self._follow

        def register_parameter(module: Any, name: str, parameter: Any) -> None:
            original(module, name, parameter)
            if isinstance(parameter, torch.Tensor):
                follow(parameter)

        setattr(torch.nn.Module, "register_parameter", register_parameter)  # noqa: B010

    def look(self) -> None:
        """Notes a change that no optimizer made, if there was one since the last look."""
        versions = self.versions if self.stepping else self._versions()
        if versions != self.versions:
            self.versions = versions
            self._note(BY_HAND, self._alive())

    def _follow(self, parameter: torch.Tensor) -> None:
        key = id(parameter)
        self.parameters[key] = weakref.ref(parameter, lambda _: self.parameters.pop(key, None))

    def _versions(self) -> int:
        return sum(p._version for p in self._alive() if not p.is_inference())

    def _alive(self) -> list[torch.Tensor]:
        found = [ref() for ref in list(self.parameters.values())]
        return [parameter for parameter in found if parameter is not None]

    def _starts(self, *_: Any) -> None:
        self.stepping = True

    def _stepped(self, optimizer: Any, *_: Any) -> None:
        self.stepping = False
        self._note("", (p for group in optimizer.param_groups for p in group["params"]))
        self.versions = self._versions()
        self.stepped(self.count)

    def _note(self, how: str, parameters: Iterable[torch.Tensor]) -> None:
        self.count += 1
        path, line, _ = place(3)
        self.recorder.step(digest(parameters), f"{path}:{line}" + (f" {how}" if how else ""))


def digest(tensors: Iterable[torch.Tensor]) -> str:
    """16 hex digits over the bytes of all tensors, in order: two checksums, as weights are looked
    at hundreds of times a run and nobody is to be kept from forging one."""
    first, second = 0, 1
    with torch.no_grad(), torch._C.DisableTorchFunction():
        for tensor in tensors:
            flat = tensor.detach().contiguous().reshape(-1)
            if flat.numel():
                data = flat.view(torch.uint8).numpy().data
                first, second = zlib.crc32(data, first), zlib.adler32(data, second)
    return f"{first:08x}{second:08x}"
