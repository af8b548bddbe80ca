"""What the shortcuts of our own evaluation are worth, each against doing without it.

    python benchmarks/record_evaluation.py [--targets 4096] [--length 1024] [--stride 64] [--runs 3]

Every pair scores the same targets of a random stream with the same untrained model, alternately,
on one thread and in CPU seconds, so that a busy machine disturbs both alike. Printed are medians,
their ratio, and the largest difference between what the two sides return.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from hedge_record.config import EvaluationConfig, embedded
from hedge_record.evaluation.ngram import NGramTable
from hedge_record.evaluation.sliding import target_nll
from hedge_record.evaluation.windows import plan_windows, window_batches
from hedge_record.model.gpt import GPT

Side = Callable[[], Tensor]
CPU = torch.device("cpu")


def main() -> None:
    """Measures and prints one line per pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=4096)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--stride", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    print("shortcut, seconds without it, seconds with it, ratio, largest difference")
    with torch.inference_mode():
        for name, (without, own) in pairs(options).items():
            before, after, difference = measure(without, own, options.runs)
            ratio = before / after
            print(f"{name}, {before:.2f}, {after:.2f}, {ratio:.2f}, {difference:.1e}", flush=True)


def measure(without: Side, own: Side, runs: int) -> tuple[float, float, float]:
    """Median CPU seconds of both sides, and the largest difference between what they return."""
    taken: tuple[list[float], list[float]] = ([], [])
    difference = 0.0
    for _ in range(runs):
        results = []
        for side, seconds in zip((without, own), taken, strict=True):
            started = time.process_time()
            results.append(side().double())
            seconds.append(time.process_time() - started)
        difference = max(difference, (results[0] - results[1]).abs().max().item())
    return statistics.median(taken[0]), statistics.median(taken[1]), difference


def pairs(options: argparse.Namespace) -> dict[str, tuple[Side, Side]]:
    """For each shortcut the evaluation without it and with it."""
    config = embedded()
    targets: int = options.targets
    evaluation = replace(
        config.evaluation, sequence_length=options.length, stride=options.stride, batch_windows=8
    )
    model = GPT(config.model).eval()
    tokens = torch.randint(config.model.vocab_size, (targets + 1,))

    def slide(config: EvaluationConfig, *, project_all: bool = False) -> Tensor:
        nll = []
        for batch in window_batches(model, tokens, plan_windows(targets, config), config):
            scored = batch.scored(batch.all_logits()) if project_all else batch.scored_logits()
            nll.append(target_nll(scored, batch.scored(batch.targets)))
        return torch.cat(nll)

    def count(*, dense: bool) -> Tensor:
        table = NGramTable(4096, config.model.vocab_size, 0.65, CPU)
        for first in range(0, targets - 64, 64):
            rows, following = tokens[first : first + 64], tokens[first + 1 : first + 65]
            table.count(rows, following)
            if dense:  # row totals as sums over the whole table, for every block
                table.totals = table.counts.sum(1).int()
                table.distinct = (table.counts > 0).sum(1).int()
        return table.totals

    return {
        "logits of scored positions alone": (
            lambda: slide(evaluation, project_all=True),
            lambda: slide(evaluation),
        ),
        "windows in batches": (
            lambda: slide(replace(evaluation, batch_windows=1)),
            lambda: slide(evaluation),
        ),
        "row totals kept beside counts": (lambda: count(dense=True), lambda: count(dense=False)),
    }


if __name__ == "__main__":
    main()
