"""Calls a scorer of unknown make by the roles of its parameters."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auditor.dynamic.child.settings import Unresolved, evaluate
from auditor.dynamic.child.stream import Tokens, make_logits, make_stream
from auditor.dynamic.load_factor import loaded_buckets


class Unbound(Exception):  # noqa: N818
    """The scorer cannot be called as its roles say; the text says why."""


@dataclass(frozen=True)
class Recipe:
    """The data of a probe. `warm` tokens are scored and counted before anything is measured, in
    chunks; a batch is `rows` windows of `length` tokens."""

    seed: int
    vocabulary: int
    rows: int
    length: int
    chunk: int
    warm: int


@dataclass(frozen=True)
class Batch:
    """Consecutive windows without overlap, from stream position `first`: `inputs`, `targets` int64
    [B, T], `logits` float32 [B, T, V]."""

    first: int
    inputs: Tensor
    targets: Tensor
    logits: Tensor


class Data:
    """The stream of a recipe and the batches cut from it."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        size = recipe.warm + recipe.rows * recipe.length + 1
        self.stream: Tokens = make_stream(recipe.seed, size, recipe.vocabulary)

    def batch(self, first: int) -> Batch:
        """The batch whose first input is at stream position `first`."""
        r = self.recipe
        shape = (r.rows, r.length)
        inputs = self.stream[first : first + r.rows * r.length]
        targets = self.stream[first + 1 : first + 1 + r.rows * r.length]
        logits = make_logits(r.seed, targets, first + 1, r.vocabulary)
        return Batch(
            first,
            torch.from_numpy(inputs.copy()).reshape(shape),
            torch.from_numpy(targets.copy()).reshape(shape),
            torch.from_numpy(logits).reshape(*shape, r.vocabulary),
        )


class Scorer:
    """A scorer of the script, constructed. `flat`: it takes [n, V] in place of [B, T, V]."""

    def __init__(
        self,
        module: types.ModuleType,
        binding: Mapping[str, Any],
        data: Data,
        flat: bool,
    ) -> None:
        self.module = module
        self.binding = binding
        self.data = data
        self.recipe = recipe = data.recipe
        self.flat = flat
        made = getattr(module, binding["name"], None)
        if made is None:
            raise Unbound(f"{binding['name']} was not defined when the script was loaded")
        given = _construction(module, binding["construct"]["parameters"], recipe)
        self.object: Any = made(**given)

    def score(self, batch: Batch) -> tuple[Tensor, Any]:
        """Per-position NLL float64 [B, T], and whatever the scoring call returned."""
        positions = torch.arange(batch.inputs.numel()).view(batch.inputs.shape) + batch.first
        values = {
            "logits": self._shaped(batch.logits, 2),
            "inputs": self._shaped(batch.inputs, 1),
            "targets": self._shaped(batch.targets, 1),
            "lengths": [self.recipe.length] * self.recipe.rows,
            "mask": self._shaped(torch.ones_like(batch.targets, dtype=torch.bool), 1),
            "positions": self._shaped(positions, 1),
        }
        result = self._call(self.binding["score"], values)
        for found in _tensors(result):
            if found.numel() == batch.targets.numel():
                return found.detach().double().reshape(batch.targets.shape).clone(), result
        raise Unbound("the scoring call returned no loss per position")

    def learn(self, result: Any) -> None:
        """Hands the result of scoring to the method that updates weights, if there is one, and if
        scoring returned anything for it yet."""
        method = self.binding["learn"]
        if method is None:
            return
        items = [p["item"] for p in method["parameters"] if p["role"] == "result"]
        if any(_item(result, item) is None for item in items):
            return
        lengths = [self.recipe.length] * self.recipe.rows
        self._call(method, {"lengths": lengths, "result": result})

    def count(self, stream: Tokens, first: int, end: int) -> None:
        """Lets it count the tokens [first, end) of the stream, in the first form that it takes."""
        method = self.binding["count"]
        if method is None:
            return
        bounded = any(p["role"] in ("start", "end") for p in method["parameters"])
        tokens = stream if bounded else stream[first:end]
        forms = [torch.from_numpy(tokens.copy()), tokens, tokens.tolist()]
        failure: Exception | None = None
        for form in forms:
            try:
                self._call(method, {"tokens": form, "start": first, "end": end})
            except (TypeError, AttributeError, ValueError, IndexError) as error:
                failure = failure or error
            else:
                return
        if bounded:
            raise Unbound(f"{method['name']} takes no tokens: {failure}")
        for token in tokens.tolist():
            self._call(method, {"tokens": token})

    def _call(self, method: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        function = getattr(self.object, method["name"])
        arguments = {
            p["name"]: self._argument(p, values)
            for p in method["parameters"]
            if p["role"] != "default"
        }
        with torch.no_grad():
            return function(**arguments)

    def _argument(self, parameter: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        role = parameter["role"]
        if role == "result":
            return _item(values["result"], parameter["item"])
        if role == "context":
            maker, stream, positions = parameter["maker"]
            tokens = torch.from_numpy(self.data.stream.copy())
            made = {stream: tokens, positions: values["positions"]}
            return getattr(self.module, maker)(**made)
        return values[role]

    def _shaped(self, tensor: Tensor, dimensions: int) -> Tensor:
        tensor = tensor.clone()
        return tensor.flatten(0, 1) if self.flat and dimensions else tensor


def _item(result: Any, item: int | None) -> Any:
    return result if item is None else result[item]


def _construction(
    module: types.ModuleType, parameters: list[dict[str, Any]], recipe: Recipe
) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for parameter in parameters:
        name, role, text = parameter["name"], parameter["role"], parameter["text"]
        if role == "vocabulary":
            arguments[name] = recipe.vocabulary
        elif role == "device":
            arguments[name] = torch.device("cpu")
        elif role in ("buckets", "setting") and text is not None:
            try:
                value = evaluate(module, text)
            except Unresolved:
                if not parameter["optional"]:
                    raise Unbound(f"the constructor's {name} is known to a run only") from None
                continue
            arguments[name] = loaded_buckets(value, recipe.warm) if role == "buckets" else value
    return arguments


def _tensors(result: Any) -> Iterator[Tensor]:
    """Floating-point tensors in a result, in order, whatever holds them."""
    if isinstance(result, np.ndarray):
        result = torch.from_numpy(np.ascontiguousarray(result))
    if isinstance(result, Tensor):
        if result.is_floating_point():
            yield result
    elif isinstance(result, dict):
        for value in result.values():
            yield from _tensors(value)
    elif isinstance(result, list | tuple):
        for value in result:
            yield from _tensors(value)
    elif hasattr(result, "__dict__"):
        yield from _tensors(vars(result))
