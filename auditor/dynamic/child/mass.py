"""Measures a scorer: the NLL of every possible target at chosen positions, all else unchanged.

The numbers leave this process as they are. What they sum to, and what that means, is worked out
outside it.
"""

import json
import os
import platform
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auditor.dynamic.child.calling import Batch, Data, Recipe, Scorer, Unbound
from auditor.dynamic.child.device import CpuInstead, stand_in
from auditor.dynamic.child.loading import Absent, Loaded, load
from auditor.dynamic.child.settings import Unresolved, evaluate
from auditor.dynamic.child.state import copied, digest


def measure(loaded: Loaded, task: Mapping[str, Any]) -> dict[str, Any]:
    """Warms the scorer and measures it. Tries [B, T, V] first, then [n, V]."""
    failures = []
    for flat in (False, True):
        try:
            return _measure(loaded, task, flat)
        except Exception as error:  # whatever foreign code raises
            failures.append(f"{type(error).__name__}: {str(error)[:300]}")
    raise Unbound("; or, without a batch dimension, ".join(dict.fromkeys(failures)))


def _measure(loaded: Loaded, task: Mapping[str, Any], flat: bool) -> dict[str, Any]:
    recipe = Recipe(**task["recipe"])
    _reseed(recipe.seed)
    data = Data(recipe)
    scorer = Scorer(loaded.module, task["binding"], data, flat)
    batch = data.batch(recipe.warm)
    cold = _every_target(scorer, batch, *task["positions"][0])
    _warm(scorer, data)
    before = digest(scorer.object)
    first, second = _fresh_score(scorer, batch), _fresh_score(scorer, batch)
    positions = []
    for row, column in task["positions"]:
        target = int(batch.targets[row, column])
        log_probs = torch.log_softmax(batch.logits[row, column].double(), 0)
        positions.append(
            {
                "row": row,
                "column": column,
                "target": target,
                "neural_nll": -float(log_probs[target]),
                "nll": _every_target(scorer, batch, row, column),
            }
        )
    return {
        "flat": flat,
        "cold": cold,
        "state": before,
        "state_after": digest(scorer.object),
        "repeats": bool(torch.equal(first, second)),
        "positions": positions,
    }


def switched_off(loaded: Loaded, guards: list[dict[str, Any]]) -> str | None:
    """The first condition around the scorer's construction that keeps it from being made, as far
    as the script's own settings decide it."""
    for guard in guards:
        try:
            if bool(evaluate(loaded.module, guard["text"])) != guard["holds"]:
                return f"line {guard['line']}: {guard['text']} is {not guard['holds']}"
        except Unresolved:
            continue
    return None


def _warm(scorer: Scorer, data: Data) -> None:
    """Runs as an evaluation does: scores a chunk batch by batch, learns, then counts the chunk."""
    recipe = data.recipe
    step = recipe.rows * recipe.length
    for start in range(0, recipe.warm, recipe.chunk):
        end = min(start + recipe.chunk, recipe.warm)
        for first in range(start, end - step + 1, step):
            _, result = scorer.score(data.batch(first))
            scorer.learn(result)
        scorer.count(data.stream, start, end)


def _every_target(scorer: Scorer, batch: Batch, row: int, column: int) -> list[float]:
    losses = []
    for token in range(scorer.recipe.vocabulary):
        targets = batch.targets.clone()
        targets[row, column] = token
        changed = Batch(batch.first, batch.inputs, targets, batch.logits)
        losses.append(float(_fresh_score(scorer, changed)[row, column]))
    return losses


def _fresh_score(scorer: Scorer, batch: Batch) -> torch.Tensor:
    """Scores from the present state and puts that state back."""
    _reseed(scorer.recipe.seed)
    held, scorer.object = scorer.object, copied(scorer.object)
    try:
        return scorer.score(batch)[0]
    finally:
        scorer.object = held


def _reseed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # without the GPUs', which takes milliseconds


def main() -> None:
    """Reads `task.json` from the working folder; writes one JSON object to the result pipe."""
    task = json.loads(Path("task.json").read_bytes())
    stand_in()
    answer: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version()}
    with os.fdopen(int(os.environ.pop("AUDITOR_RESULT_FD")), "w") as pipe:
        sys.path.insert(0, str(Path.cwd()))
        with CpuInstead():
            try:
                loaded = load(Path(task["script"]).resolve(), task["literals"])
                Absent.defining = False
                answer |= {"skipped": loaded.skipped, "absent": loaded.absent}
                answer["off"] = switched_off(loaded, task["binding"]["guards"])
                answer |= measure(loaded, task)
            except Unbound as error:
                answer["unbound"] = str(error)
            except SyntaxError as error:
                answer["unbound"] = f"Python {answer['python']} cannot read it: {error.msg}"
        json.dump(answer, pipe)


if __name__ == "__main__":
    main()
