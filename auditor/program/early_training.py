"""Training on validation tokens ahead of their score, found in the data flow.

Compares the order of training and scoring, over loops and over the objects' lifetimes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from auditor.program.dataflow.machine import Trace
from auditor.program.dataflow.marks import Loop, Nll, Source, Token, Train, Weights


@dataclass(frozen=True)
class EarlyTraining:
    """A step that changed weights by tokens which they score afterwards, in `nll`.

    `of_window`: what is trained is a lone tensor that each window makes anew.
    """

    train: Train
    nll: Nll
    reason: str
    of_window: bool


def early_training(trace: Trace) -> tuple[EarlyTraining, ...]:
    """One for each step that comes too early, with the first score that it spoils."""
    found: dict[Train, EarlyTraining] = {}
    for nll in trace.reported(Nll):
        if on_validation(nll.deps):
            for train in trace.trains:
                reason = _too_early(train, nll) if on_validation(train.deps) else None
                if reason is not None and train not in found:
                    found[train] = EarlyTraining(train, nll, reason, _is_of_window(train, nll))
    return tuple(found.values())


def one_a_line(found: tuple[EarlyTraining, ...]) -> Iterator[EarlyTraining]:
    """The first of those that a line stands for."""
    said: set[object] = set()
    for early in found:
        if early.train.place not in said:
            said.add(early.train.place)
            yield early


def on_validation(deps: frozenset[object]) -> bool:
    """Whether something was computed from validation data."""
    return any(type(m) is Source and m.split == "val" for m in deps)


def _is_of_window(train: Train, nll: Nll) -> bool:
    lone = train.module.kind.rpartition(".")[2] in ("Tensor", "Parameter")
    return lone and any(loop in train.fresh for loop in _shared_loops(train.loops, nll.loops))


def _too_early(train: Train, nll: Nll) -> str | None:
    """Why `train` comes before the score `nll` of tokens that it saw, if it does."""
    shared = _shared_loops(train.loops, nll.loops)
    if train in nll.deps:
        if not shared:
            return (
                "weights are trained on validation tokens, and a later pass with those weights "
                "scores the same tokens"
            )
        if _tokens(train) & _tokens(nll):
            return "a chunk of validation tokens is trained on ahead of its own score"
    elif train.order > nll.order and any(
        type(m) is Weights and m.module is train.module for m in nll.deps
    ):
        for loop in shared:
            repeated = not loop.once and loop not in nll.deps and loop not in nll.first_only
            if repeated and loop not in train.fresh:
                return (
                    "a loop passes over the same validation tokens again: what is scored in a "
                    "later pass was trained on in an earlier one"
                )
    return None


def _shared_loops(left: tuple[Loop, ...], right: tuple[Loop, ...]) -> list[Loop]:
    return [a for a, b in zip(left, right, strict=False) if a is b]


def _tokens(event: Train | Nll) -> frozenset[Token]:
    return frozenset(m for m in event.deps if type(m) is Token)
