"""Triton kernels run in Triton's own interpreter, made faster without changing what it computes.

A kernel of one program a row takes a millisecond a row there. Where its programs do the same steps,
it is run for all of them at once (`language`), else program by program in the same language, and
what that lacks runs in Triton's interpreter, without preparing `triton.language` again at every
call and without checks for integer overflow that a GPU does not make.
"""

import inspect
import math
import types
from typing import Any

import torch

from auditor.dynamic.device.blocks import Block, Diverged
from auditor.dynamic.device.language import Descriptor, Language
from auditor.dynamic.device.patching import nothing, replace, used


class _Kept:
    """The scope of a patch that stays: everything here is interpreted."""

    restore = staticmethod(nothing)


def install() -> None:
    """Patches the interpreter and the autotuner; imports Triton, which takes a second."""
    import triton.language as tl
    import triton.runtime.autotuner as autotuner
    import triton.runtime.interpreter as interpreter

    prepared: set[int] = set()
    prepare = interpreter._patch_lang

    def prepare_once(function: Any) -> _Kept:
        if id(function.__globals__) not in prepared:
            prepared.add(id(function.__globals__))
            prepare(function)
        return _Kept()

    builder: Any = interpreter.interpreter_builder
    replace(builder, options=interpreter.InterpreterOptions(sanitize_overflow=False))
    replace(interpreter, _patch_lang=prepare_once)
    kind, kernel = interpreter.GridExecutor, interpreter.InterpretedFunction
    one_by_one = kind.__call__
    ways = ("whole grid", "program by program")
    first_way: dict[Any, int] = {}

    def run(self: Any, *arguments: Any, **named: Any) -> None:
        source = next((f for f, r in kernel.rewritten_fn.items() if r is self.fn), None)
        if source is not None and not self.pre_run_hooks:
            for way in range(first_way.get(source, 0), len(ways)):
                try:
                    vectorised(source, self.grid, arguments, named, tl, kernel, whole=way == 0)
                except Diverged:
                    first_way[source] = way + 1
                else:
                    used[f"triton kernel, {ways[way]}"] += 1
                    return
        used["triton kernel, Triton's interpreter"] += 1
        one_by_one(self, *arguments, **named)

    replace(kind, __call__=run)
    _take_first(autotuner.Autotuner)


def vectorised(
    function: Any, grid: Any, arguments: Any, named: Any, tl: Any, kernel: type, *, whole: bool
) -> None:
    """Runs a kernel for its whole grid, or for one program after the other.

    Raises `Diverged` where it cannot, with nothing changed.
    """
    parameters = inspect.signature(function).parameters
    named = {name: value for name, value in named.items() if name in parameters}
    given = inspect.getcallargs(function, *arguments, **named)
    sizes = grid(given) if callable(grid) else grid
    shape = tuple(int(size) for size in sizes)
    memories = []
    for only in (None,) if whole else range(math.prod(shape)):
        language = Language(shape, only)
        bound = _bind(function, language, tl, kernel, {})
        try:
            with torch.no_grad():
                bound(**{name: _value(value, language) for name, value in given.items()})
        except Diverged:
            raise
        except Exception as error:  # a form that the vectorised language does not know
            raise Diverged(f"{type(error).__name__}: {error}") from None
        memories.append(language.memory)
    for memory in memories:  # programs of a grid must not rely on each other's writes
        memory.commit()


def _value(argument: Any, language: Language) -> Any:
    """Tensors become pointers to their first element; numbers stay numbers."""
    if hasattr(argument, "block_shape") and isinstance(argument.base, torch.Tensor):
        return Descriptor(argument.base.detach(), tuple(argument.block_shape), language.memory)
    if isinstance(argument, torch.Tensor):
        size = argument.untyped_storage().nbytes() // argument.element_size()
        flat = torch.as_strided(argument.detach(), (size,), (1,), 0)
        return Block(torch.tensor([argument.storage_offset()]), flat)
    if isinstance(argument, bool | int | float | str | torch.dtype) or argument is None:
        return argument
    raise Diverged(f"an argument of type {type(argument).__name__}")


def _bind(function: Any, language: Language, tl: Any, kernel: type, done: dict[Any, Any]) -> Any:
    """`function` with `language` for Triton's, and its helper functions likewise."""
    if function in done:
        return done[function]
    names: dict[str, Any] = dict(function.__globals__)
    bound = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    done[function] = bound
    for name in function.__code__.co_names:
        value = names.get(name)
        if isinstance(value, kernel):
            names[name] = _bind(value.fn, language, tl, kernel, done)  # type: ignore[attr-defined]
        elif isinstance(value, types.ModuleType) and value.__name__.startswith("triton"):
            names[name] = language
        elif isinstance(value, tl.constexpr):
            names[name] = value.value
        elif isinstance(value, tl.dtype):
            names[name] = getattr(language, str(value))
    return bound


def _take_first(autotuner: Any) -> None:
    """Timing decides between configurations on a GPU; here the first one does as well."""
    construct = autotuner.__init__

    def constructed(self: Any, *arguments: Any, **named: Any) -> None:
        construct(self, *arguments, **named)
        del self.configs[1:]

    replace(autotuner, __init__=constructed)
