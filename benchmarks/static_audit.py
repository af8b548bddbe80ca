"""How fast the static audit is, as ratios that one run measures side by side.

    python benchmarks/static_audit.py --repo CLONE [--runs 5] [--format json]
    python benchmarks/static_audit.py             # without a clone: this repository's own cases

Scripts are every `train_gpt*.py` in `records/` at the main branch of a clone of the challenge, each
audited with the files of its folder. README.md beside this file says what each ratio means.
"""

import argparse
import ast
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from auditor.audit import DEFAULT_POLICY, audit_submission
from auditor.errors import AuditError
from auditor.policy import policy
from auditor.program.fstrings import respell
from auditor.program.index import build
from auditor.submission.folder import MAX_FILE_BYTES
from auditor.submission.git import GITLINK_MODE, SYMLINK_MODE, Clone
from auditor.submission.load import load_target
from auditor.submission.model import Submission
from auditor.submission.unpack import unpack
from auditor.syntax import tree_of

CASES = Path(__file__).parents[1] / "tests" / "cases"
SCRIPTS = "train_gpt*.py"
AUDIT = "import sys\nfrom auditor.cli import main\nsys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Job:
    """A script, what names it on the command line, and the texts that an auditor has to parse."""

    target: Path
    submission: Submission
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """Medians over the paired runs. Times in seconds; `peers` are the wall and the CPU time of each
    tool that is installed over those of `auditor audit`.
    """

    scripts: int
    characters: int
    runs: int
    parse_cpu: float
    audit_cpu: float
    cpu_ratio: float
    command_wall: float
    peers: dict[str, tuple[float, float]]
    start_wall: float
    start_cpu: float
    python: str


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repo", default=os.environ.get("PARAMETER_GOLF_REPO"), metavar="CLONE")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="paired runs (default: 5)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each Nth script alone")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            if options.repo:
                export(Clone(Path(options.repo)), Path(scratch))
                scripts = sorted(Path(scratch).rglob(SCRIPTS))[:: options.every]
                work = list(jobs(scripts, with_folders=True))
            else:
                scripts = sorted(CASES.rglob("*.py"))[:: options.every]
                work = list(jobs(scripts, with_folders=False))
            result = measure(work, options.runs, Path(scratch) / "plain")
    except AuditError as error:
        print(f"static_audit: {error}", file=sys.stderr)
        return 2
    print(json.dumps(vars(result), indent=2) if options.format == "json" else table(result))
    return 0


def export(clone: Clone, folder: Path) -> None:
    """Writes the record folders of the clone's main branch below `folder`."""
    entries = {
        os.fsdecode(entry.path): entry.oid
        for entry in clone.tree(clone.main)
        if entry.path.startswith(b"records/") and entry.mode not in (SYMLINK_MODE, GITLINK_MODE)
    }
    sizes = {oid: size for oid, kind, size in clone.check(entries.values()) if kind == "blob"}
    wanted = {p: oid for p, oid in entries.items() if 0 <= sizes.get(oid, -1) <= MAX_FILE_BYTES}
    blobs = clone.read(wanted.values())
    for path, oid in wanted.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(blobs[oid])


def jobs(scripts: Sequence[Path], with_folders: bool) -> Iterator[Job]:
    """The scripts that are Python once unpacked, each alone or with the files of its folder."""
    for script in scripts:
        target = script.parent if with_folders else script
        (submission,) = load_target(target)
        submission = replace(submission, main=submission.files[script.name])
        unpacked = unpack(submission.main, submission.files)
        program = build(submission, unpacked)
        if program.tree is not None:
            yield Job(
                target, submission, tuple(_plain(module.source) for module in program.modules)
            )


def _plain(source: str) -> str:
    """A text as this interpreter's `ast` reads it: f-strings of a newer grammar are respelled."""
    try:
        ast.parse(source)
    except SyntaxError:
        return respell(source.removeprefix("\ufeff")) or ""
    return source


def measure(work: Sequence[Job], runs: int, plain: Path) -> Result:
    """Measures everything; `plain` is a folder to be made for what other tools read."""
    if not work:
        raise AuditError(f"no {SCRIPTS} to measure; --repo wants a clone of the challenge")
    pairs = [paired(work) for _ in range(runs)]
    plain.mkdir(parents=True)
    for number, job in enumerate(work):
        (plain / f"train_gpt_{number}.py").write_text(job.texts[0], encoding="utf-8")
    targets = sorted({str(job.target) for job in work})
    out = str(plain / "audits.jsonl")
    auditing = [sys.executable, "-c", AUDIT, "audit", *targets, "--format", "json", "--output", out]
    costs = in_turn({"auditor": auditing, **peers(plain)}, runs)
    start = [cost([sys.executable, "-c", AUDIT, "--version"]) for _ in range(runs)]
    return Result(
        scripts=len(work),
        characters=sum(len(text) for job in work for text in job.texts),
        runs=runs,
        parse_cpu=statistics.median(parse for parse, _ in pairs),
        audit_cpu=statistics.median(audit for _, audit in pairs),
        cpu_ratio=statistics.median(audit / parse for parse, audit in pairs),
        command_wall=statistics.median(wall for wall, _ in costs["auditor"]),
        peers={name: ratios(costs, name) for name in costs if name != "auditor"},
        start_wall=statistics.median(wall for wall, _ in start),
        start_cpu=statistics.median(cpu for _, cpu in start),
        python=platform.python_version(),
    )


def paired(work: Sequence[Job]) -> tuple[float, float]:
    """CPU seconds of parsing and of auditing every script, one after the other for each."""
    rules = policy(DEFAULT_POLICY)
    parsing = auditing = 0.0
    for job in work:
        parsing += timed(partial(_parse, job.texts))
        tree_of.cache_clear()
        auditing += timed(partial(audit_submission, job.submission, policy=rules))
    return parsing, auditing


def _parse(texts: Sequence[str]) -> None:
    for text in texts:
        ast.parse(text)


def timed(action: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    before = time.process_time()
    action()
    return time.process_time() - before


def peers(plain: Path) -> dict[str, list[str]]:
    """The commands of the tools that are installed."""
    found = {}
    if find_spec("bandit"):
        found["bandit"] = [sys.executable, "-m", "bandit", "-q", "-r", str(plain), "-f", "json"]
    beside = str(Path(sys.executable).parent)
    ruff = shutil.which("ruff", path=beside) or shutil.which("ruff")
    if ruff:
        found["ruff"] = [ruff, "check", "--isolated", "--no-cache", "--quiet", str(plain)]
    return found


def in_turn(commands: dict[str, list[str]], runs: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each command, one after the other in each run."""
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            costs[name].append(cost(command))
    return costs


def ratios(costs: dict[str, list[tuple[float, float]]], tool: str) -> tuple[float, float]:
    """The medians of a tool's wall and CPU time over the auditor's, run by run."""
    pairs = list(zip(costs[tool], costs["auditor"], strict=True))
    wall, cpu = (statistics.median(t[i] / a[i] for t, a in pairs) for i in (0, 1))
    return wall, cpu


def cost(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command, whatever it finds."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    wall, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system
    return wall, used - before.children_user - before.children_system


def table(result: Result) -> str:
    """The figures for a terminal."""
    rows = {
        "scripts, characters": f"{result.scripts}, {result.characters:,}",
        "CPU: static audit / ast.parse": (
            f"{result.cpu_ratio:.2f}  ({result.audit_cpu:.2f} s / {result.parse_cpu:.2f} s)"
        ),
        "wall of `auditor audit`": f"{result.command_wall:.2f} s",
        **{
            f"{name} / auditor, wall and CPU": f"{wall:.2f}, {cpu:.2f}"
            for name, (wall, cpu) in result.peers.items()
        },
        "start-up, wall and CPU": f"{result.start_wall:.3f} s, {result.start_cpu:.3f} s",
        "median of runs, Python": f"{result.runs}, {result.python}",
    }
    return "\n".join(f"{name:32}{value}" for name, value in rows.items())


if __name__ == "__main__":
    sys.exit(main())
