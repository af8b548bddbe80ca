"""How many scripts of the corpus run end to end on the virtual device, and what the probes say.

    python benchmarks/dynamic_coverage.py --repo CLONE --out coverage.jsonl --sample 100 --seed 1
    python benchmarks/dynamic_coverage.py --repo CLONE --out probes.jsonl --budget 300 --jobs 2
    python benchmarks/dynamic_coverage.py --repo CLONE --out named.jsonl --prs 700 770 1413

Draws pull requests whose script evaluates (it prints bits per byte), runs each in the sandbox and
appends a JSON line each; a line that is there already is not run again. A run counts if the line of
the submitted metric was printed. With `--budget`, all probes run, within that many seconds a
script, and a run counts if the losses behind the metric were bound, too. With `--jobs`, each job
has a core of its own: a script alone on two cores takes about half of its wall time. Ends with a
table of the failures by class.
"""

import argparse
import json
import os
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import partial
from multiprocessing import Queue
from pathlib import Path
from typing import Any
from unittest import mock

from auditor.dynamic.probes import suite
from auditor.dynamic.rehearsal import LIMITS, Rehearsal, climb, rehearse
from auditor.errors import AuditError
from auditor.program.index import Program, build
from auditor.submission.git import Clone
from auditor.submission.load import load_from_clone
from auditor.submission.model import Submission
from auditor.submission.unpack import unpack

CLASSES = (
    ("time", r"^stopped at"),
    ("not CUDA (mlx)", r"\bmlx\b"),
    ("package not installed", r"not installed|No module named"),
    ("grammar", r"SyntaxError|cannot be read"),
    ("shape", r"shape|size|dimension|divisible|must be|expand|out of range|out of bounds"),
    ("device", r"CUDA|cuda|NCCL|triton|Interpreter|dispatch"),
    ("data", r"FileNotFound|shard|tokenizer|Tokenizer"),
    ("metric not printed", r"no line of the submitted metric|printed no score"),
    ("losses not bound", r"^no values in the run"),
)


def main() -> None:
    """Runs the sample and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prs", type=int, nargs="*")
    parser.add_argument("--seconds", type=float, default=LIMITS.seconds)
    parser.add_argument("--budget", type=float, help="run all probes, with so many seconds")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after this long")
    options = parser.parse_args()
    wanted = options.prs or draw(Clone(options.repo), options.sample, options.seed)
    rows = [json.loads(line) for line in _lines(options.out)]
    done = {row["pr"] for row in rows}
    todo = [pr for pr in wanted if pr not in done]
    for row in _measured(todo, options):
        rows.append(row)
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        said = row["problem"] or row["tag"]
        times = f"{row['seconds']:.0f} s, {row['cpu'] or 0:.0f} s of CPU"
        print(f"#{row['pr']} {times}: {said}", flush=True)
    print(table([row for row in rows if row["pr"] in set(wanted)]))


def _measured(todo: list[int], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows as they come; nothing is begun after the last minute."""
    end = time.monotonic() + 60 * options.minutes
    if options.budget is None:
        one = partial(measure, options.repo, seconds=options.seconds)
    else:
        one = partial(probed, options.repo, seconds=options.budget)
    if options.jobs < 2:
        for pr in todo:
            if time.monotonic() < end:
                yield one(pr)
        return
    cores: Queue[int] = Queue()
    for number in range(options.jobs):
        cores.put(sorted(os.sched_getaffinity(0))[number])
    with ProcessPoolExecutor(options.jobs, initializer=_take, initargs=(cores,)) as pool:
        waiting: set[Future[dict[str, Any]]] = set()
        while waiting or (todo and time.monotonic() < end):
            while todo and len(waiting) < options.jobs and time.monotonic() < end:
                waiting.add(pool.submit(one, todo.pop(0)))
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ended)


def _take(cores: "Queue[int]") -> None:
    """Gives a job a core of its own: the probes do two runs side by side where there are two."""
    os.sched_setaffinity(0, {cores.get()})


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def draw(clone: Clone, count: int, seed: int) -> list[int]:
    """`count` pull requests with an evaluating script, in the order drawn."""
    numbers = clone.pull_requests()
    random.Random(seed).shuffle(numbers)
    found: list[int] = []
    for pr in numbers:
        if len(found) < count and _evaluates(clone, pr):
            found.append(pr)
    return found


def _evaluates(clone: Clone, pr: int) -> bool:
    submission = _load(clone, pr)
    if submission is None:
        return False
    source = unpack(submission.main, submission.files).source
    return (
        "val_bpb" in source
        and re.search(r"^\s*(?:import|from) torch", source, re.MULTILINE) is not None
    )


def _load(clone: Clone, pr: int) -> Submission | None:
    try:
        return next(iter(load_from_clone(clone, pr)), None)
    except AuditError:
        return None


def _program(repo: Path, pr: int) -> tuple[Submission, Program]:
    submission = _load(Clone(repo), pr)
    assert submission is not None
    unpacked = unpack(submission.main, submission.files)
    files = {**submission.files, **unpacked.files}
    return submission, build(replace(submission, files=files), unpacked)


def _row(pr: int, submission: Submission) -> dict[str, Any]:
    path = submission.main.path
    return {"pr": pr, "path": path, "problem": None, "tag": None, "missing": [], "cpu": None}


def measure(repo: Path, pr: int, *, seconds: float) -> dict[str, Any]:
    """One pull request's row: whether its script runs."""
    started = time.monotonic()
    submission, program = _program(repo, pr)
    row = _row(pr, submission)
    try:
        done = climb(submission, program, limits=replace(LIMITS, seconds=seconds))
        metric = done.metric
        row |= {
            "problem": done.problem,
            "tag": metric.tag if metric else None,
            "val_loss": metric.val_loss if metric else None,
            "missing": list(done.missing),
            "rung": done.plan.sizes.width,
            "cpu": done.cpu,
            "used": done.first.json("used"),
        }
    except AuditError as error:
        row["problem"] = str(error)
    return row | {"seconds": time.monotonic() - started}


def probed(repo: Path, pr: int, *, seconds: float) -> dict[str, Any]:
    """One pull request's row: what all probes say. `cpu` adds up what the runs tell."""
    started = time.monotonic()
    submission, program = _program(repo, pr)
    spent: list[float] = []

    def counted(*arguments: Any, **named: Any) -> Rehearsal:
        done = rehearse(*arguments, **named)
        spent.append(done.cpu)
        return done

    with mock.patch.object(suite, "rehearse", counted):
        result = suite.probe(submission, program, seconds=seconds)
    told = {probe.probe: [probe.outcome.value, probe.reason] for probe in result.probes}
    problem = result.problem
    if problem is None and any(reason.startswith(suite.UNBOUND) for _, reason in told.values()):
        problem = f"{suite.UNBOUND}: {result.metric}"
    row = _row(pr, submission) | {"problem": problem, "tag": result.metric, "probes": told}
    return row | {"cpu": sum(spent), "seconds": time.monotonic() - started}


def classify(problem: str) -> str:
    """The class of a failure, by its text."""
    return next((name for name, pattern in CLASSES if re.search(pattern, problem)), "other")


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Rates, times and failure classes as Markdown."""
    rows = list(rows)
    if not rows:
        return "nothing was run"
    good = [row for row in rows if row["problem"] is None]
    whole = [row for row in good if not row["missing"]]
    seconds = [row["seconds"] for row in rows]
    lines = [
        f"{len(good)} of {len(rows)} ({100 * len(good) / len(rows):.0f}%) ran end to end with the",
        f"submitted metric's line; {len(whole)} of them printed every final line of their logs.",
        f"Median {statistics.median(seconds):.0f} s of wall time, {max(seconds):.0f} s at most;",
        f"{statistics.median(row.get('cpu') or 0 for row in rows):.0f} s of CPU time.",
        "",
        "| class | scripts | pull requests |",
        "|---|---|---|",
    ]
    failed = [(classify(row["problem"]), row["pr"]) for row in rows if row["problem"]]
    for name, count in Counter(name for name, _ in failed).most_common():
        numbers = ", ".join(f"#{pr}" for kind, pr in failed if kind == name)
        lines.append(f"| {name} | {count} | {numbers} |")
    return "\n".join([*lines, *_outcomes(rows)])


def _outcomes(rows: list[dict[str, Any]]) -> Iterator[str]:
    """How often each probe said what, where probes ran."""
    told = [row["probes"] for row in rows if row.get("probes")]
    if not told:
        return
    yield from ("", "| probe | found | clean | not audited |", "|---|---|---|---|")
    for name in suite.NAMES:
        counts = Counter(probes[name][0] for probes in told if name in probes)
        yield f"| {name} | {counts['found']} | {counts['clean']} | {counts['not audited']} |"


if __name__ == "__main__":
    main()
