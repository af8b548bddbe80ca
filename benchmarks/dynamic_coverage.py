"""How many scripts of the corpus run end to end on the virtual device.

    python benchmarks/dynamic_coverage.py --repo CLONE --out coverage.jsonl --sample 100 --seed 1
    python benchmarks/dynamic_coverage.py --repo CLONE --out named.jsonl --prs 700 770 1413

Draws pull requests whose script evaluates (it prints bits per byte), runs each in the sandbox, one
at a time, and appends a JSON line each; a line that is there already is not run again. A run counts
if the line of the submitted metric was printed. Ends with a table of the failures by class.
"""

import argparse
import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from auditor.dynamic.rehearsal import LIMITS, climb
from auditor.errors import AuditError
from auditor.program.index import build
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
    ("metric not printed", r"no line of the submitted metric"),
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
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after this long")
    options = parser.parse_args()
    clone, deadline = Clone(options.repo), time.monotonic() + 60 * options.minutes
    rows = [json.loads(line) for line in _lines(options.out)]
    done = {row["pr"] for row in rows}
    wanted = options.prs or draw(clone, options.sample, options.seed)
    for pr in wanted:
        if pr not in done and time.monotonic() < deadline:
            row = measure(clone, pr, options.seconds)
            rows.append(row)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"#{pr} {row['seconds']:.0f} s {row['problem'] or row['tag']}", flush=True)
    print(table([row for row in rows if row["pr"] in set(wanted)]))


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


def measure(clone: Clone, pr: int, seconds: float) -> dict[str, Any]:
    """One pull request's row."""
    submission, started = _load(clone, pr), time.monotonic()
    assert submission is not None
    unpacked = unpack(submission.main, submission.files)
    files = {**submission.files, **unpacked.files}
    program = build(replace(submission, files=files), unpacked)
    row: dict[str, Any] = {"pr": pr, "path": submission.main.path, "problem": None, "tag": None}
    try:
        done = climb(submission, program, limits=replace(LIMITS, seconds=seconds))
        state = done.first.json("exit") or {}
        metric = done.metric
        row |= {
            "problem": done.problem,
            "tag": metric.tag if metric else None,
            "val_loss": metric.val_loss if metric else None,
            "missing": list(done.missing),
            "rung": done.plan.sizes.width,
            "cpu": state.get("cpu"),
            "used": done.first.json("used"),
        }
    except AuditError as error:
        row["problem"] = str(error)
    return row | {"seconds": time.monotonic() - started}


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
    lines = [
        f"{len(good)} of {len(rows)} ({100 * len(good) / len(rows):.0f}%) ran end to end with the",
        f"submitted metric's line; {len(whole)} of them printed every final line of their logs.",
        f"Median {statistics.median(row['seconds'] for row in rows):.0f} s of wall time,",
        f"{statistics.median(row.get('cpu') or 0 for row in rows):.0f} s of CPU time.",
        "",
        "| class | scripts | pull requests |",
        "|---|---|---|",
    ]
    failed = [(classify(row["problem"]), row["pr"]) for row in rows if row["problem"]]
    for name, count in Counter(name for name, _ in failed).most_common():
        numbers = ", ".join(f"#{pr}" for kind, pr in failed if kind == name)
        lines.append(f"| {name} | {count} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
