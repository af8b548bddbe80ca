"""Optimizers: the fused and capturable variants exist on a GPU only; the arithmetic is the same."""

import functools
from typing import Any

import torch

from auditor.dynamic.device.patching import replace, used


def _unfused(construct: Any) -> Any:
    @functools.wraps(construct)
    def constructed(self: Any, *arguments: Any, **named: Any) -> None:
        for name in ("fused", "capturable"):
            if named.get(name):
                used[f"{name} optimizer"] += 1
                named[name] = False
        construct(self, *arguments, **named)

    return constructed


def install() -> None:
    """Patches the constructors of torch's optimizers."""
    for name in ("Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD"):
        kind = getattr(torch.optim, name)
        replace(kind, __init__=_unfused(kind.__init__))
