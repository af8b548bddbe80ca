"""Watches every place where floats become a loss or a sum, in torch, NumPy and `math`.

What a script prints as its score is a mean over per-token losses, and whatever way it takes, the
losses pass one of these: a reduction (`sum`, `mean`, `cross_entropy`), a logarithm, or the way out
of a tensor (`item`, `tolist`, `numpy`). Which one is found afterwards, from the printed number.

Functions are replaced at their classes and modules, which holds in every thread and inside
custom operators, where a `TorchFunctionMode` is switched off.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from auditor.dynamic.capture.record import Floats, Recorder, Site, place

_MOST = 1 << 18  # values of one reduction; larger ones are no losses of a shrunk run
_MOST_BY_ROW = 1 << 16  # of a reduction along one axis: norms do these all the time
Seen = Callable[[Site, int], None]  # site and ordinal of what was just noted


class Reductions:
    """Notes reductions in `recorder` and tells `seen` of each."""

    def __init__(self, recorder: Recorder, seen: Seen) -> None:
        self.recorder = recorder
        self.seen = seen
        self.inside = False  # one reduction may be made of others

    def install(self) -> None:
        """Replaces the functions, for this whole process."""
        for owner in (torch.Tensor, torch):
            for name in ("sum", "mean", "nansum", "nanmean"):
                self._wrap(owner, name, _reduced)
        for name in ("cross_entropy", "nll_loss"):
            self._wrap(F, name, _losses(getattr(F, name)))
        for name in ("item", "__float__", "tolist", "numpy"):
            self._wrap(torch.Tensor, name, _left)
        for name in ("sum", "mean", "nansum", "nanmean"):
            self._wrap(np, name, _reduced_array)
        for owner, names in ((np, ("log", "log2")), (math, ("log", "log2", "log1p", "fsum"))):
            for name in names:
                self._wrap(owner, name, _logarithm)

    def _wrap(self, owner: Any, name: str, values: Callable[..., Floats | None]) -> None:
        original = getattr(owner, name)
        kind = name.strip("_")

        @functools.wraps(original)
        def watched(*arguments: Any, **named: Any) -> Any:
            if self.inside:
                return original(*arguments, **named)
            self.inside = True
            try:
                result = original(*arguments, **named)
                self._note(kind, values, result, arguments, named)
            finally:
                self.inside = False
            return result

        setattr(owner, name, _Ufunc(original, watched) if owner is np else watched)

    def _note(
        self,
        kind: str,
        values: Callable[..., Floats | None],
        result: Any,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
    ) -> None:
        try:
            taken = values(result, *arguments, **named)
            path, line, at = place(3)
            if taken is not None and taken.size and path:
                site = Site(path, line, kind, at)
                self.seen(site, self.recorder.reduced(site, taken))
        except Exception as error:  # the script must run as if nobody watched
            self.recorder.notes.append(f"{kind} was not noted: {error!r}"[:300])


class _Ufunc:
    """Stands for a NumPy function: a watched call, everything else as it was."""

    def __init__(self, original: Any, call: Callable[..., Any]) -> None:
        self._original = original
        self._call = call

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._call(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _floats(value: torch.Tensor) -> Floats:
    with torch.no_grad(), torch._C.DisableTorchFunction():
        flat: Floats = value.detach().reshape(-1).double().cpu().numpy().copy()
    return flat


def _reduced(result: Any, *arguments: Any, **named: Any) -> Floats | None:
    """What a tensor's sum was taken of: all of it, or the rows of a small one."""
    source = arguments[0] if arguments else named.get("input")
    if not isinstance(source, torch.Tensor) or not source.is_floating_point():
        return None
    whole = isinstance(result, torch.Tensor) and result.numel() == 1
    if source.numel() > (_MOST if whole else _MOST_BY_ROW) or not (whole or source.ndim <= 2):
        return None
    return _floats(source)


def _losses(original: Callable[..., Any]) -> Callable[..., Floats | None]:
    def values(result: torch.Tensor, *arguments: Any, **named: Any) -> Floats | None:
        if result.numel() > 1 or named.get("reduction") == "none":
            return _floats(result) if result.numel() <= _MOST else None
        logits = arguments[0] if arguments else named["input"]
        if logits.shape[0] > _MOST:
            return None
        with torch.no_grad():
            return _floats(original(*arguments, **{**named, "reduction": "none"}))

    return values


def _left(_: Any, *arguments: Any, **__: Any) -> Floats | None:
    """A tensor that became numbers of Python or NumPy."""
    source = arguments[0]
    if source.is_floating_point() and source.numel() <= _MOST_BY_ROW and source.ndim <= 2:
        return _floats(source)
    return None


def _reduced_array(_: Any, *arguments: Any, **__: Any) -> Floats | None:
    source = arguments[0] if arguments else None
    if isinstance(source, np.ndarray) and source.dtype.kind == "f" and source.size <= _MOST:
        return np.array(source, dtype=np.float64).reshape(-1)
    return None


def _logarithm(result: Any, *_: Any, **__: Any) -> Floats | None:
    if isinstance(result, float | np.floating) or (
        isinstance(result, np.ndarray) and result.dtype.kind == "f" and result.size <= _MOST
    ):
        return np.array(result, dtype=np.float64).reshape(-1)
    return None
