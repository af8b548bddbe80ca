"""Runs a plan in the sandbox and says what came of it.

A rehearsal counts only if the line of the submitted metric was printed. Everything that it reports
comes out of a process that hostile code shared: what a probe can work out again outside, it does.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import auditor
from auditor.dynamic import sandbox
from auditor.dynamic.limits import MIB, Limits
from auditor.dynamic.plan import RunPlan, plan_run
from auditor.dynamic.shrink import ladder
from auditor.evidence.figures import Metric
from auditor.evidence.logs import read_log
from auditor.program.index import Program
from auditor.submission.model import SourceFile, Submission

PACKAGE = "/opt/audit"  # where the child's package is mounted
_HOPELESS = re.compile(r"^stopped at|not installed|No module named|SyntaxError")
LIMITS = Limits(
    seconds=300,
    cpu_seconds=600,
    memory=8192 * MIB,
    scratch=1024 * MIB,
    file=512 * MIB,
    output=8 * MIB,
    result=256 * MIB,
    processes=48,
)


@dataclass(frozen=True)
class Variant:
    """One process of the run: the first, or a fork of it. `results` are what its hooks sent."""

    output: str
    results: Mapping[str, bytes] = field(default_factory=dict)
    metric: Metric | None = None

    def json(self, name: str) -> Any:
        """A result that is JSON; None where it was not sent or is none."""
        try:
            return json.loads(self.results[f"{name}.json"])
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True)
class Rehearsal:
    """A run's end. `problem` says why it does not count, or is None."""

    plan: RunPlan
    variants: Mapping[str, Variant]
    seconds: float
    problem: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def first(self) -> Variant:
        """The run itself, as opposed to what was forked from it."""
        return self.variants[""]

    @property
    def cpu(self) -> float:
        """CPU seconds of all its processes, as they tell."""
        state = self.first.json("exit")
        alone = state.get("cpu") if isinstance(state, dict) else None
        return float(self.first.json("spent") or alone or 0.0)

    @property
    def metric(self) -> Metric | None:
        """The submitted metric as this run printed it."""
        return self.first.metric


def rehearse(
    plan: RunPlan,
    *,
    capture: Mapping[str, Mapping[str, Any]] | None = None,
    limits: Limits = LIMITS,
) -> Rehearsal:
    """Runs the plan once, with capture hooks by module name.

    Raises `SandboxUnavailable` where nothing can be isolated; whatever the script does becomes a
    `problem`.
    """
    job = plan.job(capture or {}) | {"seconds": limits.seconds}
    box = sandbox.Box(
        inputs={**plan.files, "job.json": json.dumps(job).encode()},
        mounts={f"{PACKAGE}/auditor": Path(auditor.__file__).parent},
        environment={
            **plan.environment,
            "PYTHONPATH": PACKAGE,
            "TRITON_INTERPRET": "1",
            "HOME": "/tmp",
            "PYTHONUNBUFFERED": "1",
        },
    )
    done = sandbox.run([*sandbox.python(), "-m", "auditor.dynamic.device.main"], box, limits)
    text = done.stdout.decode("utf-8", "replace")
    results = read_frames(done.result)
    variants = {
        name: _variant(plan, found, text if not name else "") for name, found in results.items()
    }
    variants.setdefault("", _variant(plan, {}, text))
    first = variants[""]
    printed = {shape(metric.tag) for metric in metrics(first.output)}
    missing = tuple(tag for tag in plan.wanted if shape(tag) not in printed)
    return Rehearsal(plan, variants, done.seconds, _problem(done, first), missing)


def climb(
    submission: Submission,
    program: Program,
    *,
    capture: Mapping[str, Mapping[str, Any]] | None = None,
    limits: Limits = LIMITS,
) -> Rehearsal:
    """Rehearses at rising sizes until a run counts; the last attempt where none does.

    Time that ran out and packages that are missing are no question of size.
    """
    for sizes in ladder(program.source):
        done = rehearse(plan_run(submission, program, sizes=sizes), capture=capture, limits=limits)
        if done.problem is None or _HOPELESS.search(done.problem):
            break
    return done


def read_frames(data: bytes) -> dict[str, dict[str, bytes]]:
    """Results by variant and name. What is no whole frame ends the reading: nothing after it can
    be trusted to begin where it says."""
    found: dict[str, dict[str, bytes]] = {}
    at = 0
    while True:
        end = data.find(b"\n", at, at + 64)
        match = re.fullmatch(rb"(\d{1,9}) (\d{1,12})", data[at:end]) if end >= 0 else None
        if match is None:
            return found
        name_end = end + 1 + int(match[1])
        at = name_end + int(match[2])
        if at > len(data):
            return found
        variant, _, name = data[end + 1 : name_end].decode("utf-8", "replace").rpartition("/")
        found.setdefault(variant, {})[name] = data[name_end:at]


def metrics(output: str) -> tuple[Metric, ...]:
    """Every metric line of a run's output, in order."""
    claims = read_log(SourceFile.of("output", output.replace("\0", " ").encode()))
    return claims.metrics if hasattr(claims, "metrics") else ()


def find_metric(found: Iterable[Metric], tag: str) -> Metric | None:
    """The last line of the submitted metric; without a tag, the last line with a score.

    Numbers in a tag (`T=0.98`, `chunk 3/12`) are results or sizes, which differ in a small run.
    """
    scored = [metric for metric in found if metric.val_bpb is not None]
    own = [metric for metric in scored if shape(metric.tag) == shape(tag)] if tag else scored
    return own[-1] if own else None


def shape(tag: str) -> str:
    """A tag without its numbers."""
    return re.sub(r"(?<![A-Za-z])\d+(?:\.\d+)?", "#", tag)


def _variant(plan: RunPlan, results: Mapping[str, bytes], text: str) -> Variant:
    output = text or results.get("output", b"").decode("utf-8", "replace")
    return Variant(output, results, find_metric(metrics(output), plan.tag))


def _problem(done: sandbox.Completed, first: Variant) -> str | None:
    state = first.json("exit")
    if not isinstance(state, dict):  # else it ended by itself, and some variant was stopped
        return done.complaint()
    if state.get("code"):
        place = f"line {state['line']}: " if state.get("line") else ""
        return f"{place}{state.get('error')}"
    if first.metric is None:
        return "the run printed no line of the submitted metric"
    return None
