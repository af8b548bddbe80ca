"""All probes of one script: two runs in the sandbox with their variants, then what they prove.

The first run tells which values the submitted metric is the mean of, and tries every change that
has to be there from the start. The second repeats it, which is a control of its own, replaces
single tokens while it goes on, and swaps the artifact.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from auditor.dynamic import sandbox
from auditor.dynamic.data import make_shard, make_text
from auditor.dynamic.plan import DATA, RunPlan, plan_run
from auditor.dynamic.probes import artifact, crossing, flip, incompressible, kraft, once, order
from auditor.dynamic.probes.binding import Bound, Target, bind, submitted
from auditor.dynamic.probes.result import ProbeResult, ScriptResult, not_audited
from auditor.dynamic.probes.stream import Stream, Tokens
from auditor.dynamic.probes.trace import Trace, read_trace
from auditor.dynamic.rehearsal import LIMITS, Rehearsal, rehearse
from auditor.dynamic.shrink import LADDER, Sizes
from auditor.errors import AuditError
from auditor.evidence.figures import Metric
from auditor.program.index import Program
from auditor.submission.model import Submission

HOOK = "auditor.dynamic.capture.session"
NAMES = ("flip", "mass", "incompressible", "order", "once", "crossing", "artifact")
SECONDS = 300.0  # for all probes of a script
_SEED = 700
_POSITIONS = 8
_SHARDS = f"/scratch/{DATA}/shards"
_VALIDATION = f"{_SHARDS}/fineweb_val_000000.bin"
_TRAINING = tuple(f"{_SHARDS}/fineweb_train_00000{number}.bin" for number in range(2))
# A small vocabulary, so that every token can be tried; enough steps for a model that has opinions.
_SIZES = (Sizes(vocabulary=64, iterations=12, tokens=512), *LADDER)
Say = Callable[[str], None]


@dataclass(frozen=True)
class _First:
    """The first run, and what was made of it."""

    run: Rehearsal
    base: Trace
    metric: Metric
    bound: Bound | None
    stream: Stream
    changes: list[flip.Change]
    drawn: Tokens


def probe(
    submission: Submission,
    program: Program,
    *,
    overrides: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    say: Say = lambda _: None,
) -> ScriptResult:
    """Runs the script and every probe, within about `seconds`. `say` hears what is being done.

    Raises `SandboxUnavailable`; whatever the script does becomes a `problem` or `not audited`.
    """
    sandbox.require()
    started = time.monotonic()
    problems = []
    for sizes in _SIZES:
        if time.monotonic() - started > seconds / 2:
            break  # what is larger would be slower
        try:
            plan = plan_run(submission, program, sizes=sizes, overrides=overrides)
            say("running the script, with changed and unchanged streams")
            first = _first_run(plan, seconds - (time.monotonic() - started))
        except AuditError as error:
            problems.append(str(error))
            continue
        results = list(_judge(plan, first, seconds - (time.monotonic() - started), say))
        return ScriptResult(
            tuple(results),
            metric=first.metric.evidence.text,
            environment=plan.environment,
            shrunk=tuple(f"{c.name} {c.before} as {c.after}" for c in plan.changes),
            seconds=time.monotonic() - started,
        )
    return ScriptResult(problem=problems[0], seconds=time.monotonic() - started)


def _first_run(plan: RunPlan, seconds: float) -> _First:
    """Raises `AuditError` where the run does not count."""
    stream = Stream.of(plan.data)
    changes = flip.plan(stream, np.random.default_rng(_SEED))
    drawn = stream.with_random(0, np.random.Generator(np.random.PCG64()))  # the system's entropy
    variants: list[dict[str, Any]] = [{"name": flip.REPEAT, "at": "validation"}]
    files = {incompressible.NAME: make_shard(drawn.tolist())}
    files |= {change.name: change.shard for change in changes}
    variants += [
        {"name": name, "at": "validation", "files": {_VALIDATION: _placed(name)}} for name in files
    ]
    run = _run(plan, {"variants": variants}, files, seconds)
    base = read_trace(run)
    metric = submitted(base, plan.tag or None)
    if metric is None:
        raise AuditError("the run printed no score")
    target = Target(stream.targets, int(stream.byte_counts().sum()))
    return _First(run, base, metric, bind(base, metric, target), stream, changes, drawn)


def _run(
    plan: RunPlan, settings: Mapping[str, Any], files: Mapping[str, bytes], seconds: float
) -> Rehearsal:
    """One run with the hook, and further files; raises `AuditError` where it does not count."""
    given = {_placed(name).removeprefix("/scratch/"): data for name, data in files.items()}
    hook = {
        "validation": ["fineweb_val_[0-9]*.bin"],
        "training": ["fineweb_train_*.bin"],
        **settings,
    }
    limits = replace(LIMITS, seconds=seconds, cpu_seconds=int(seconds) + 60)
    run = rehearse(
        replace(plan, files={**plan.files, **given}), capture={HOOK: hook}, limits=limits
    )
    if run.problem is not None:
        raise AuditError(run.problem)
    return run


def _placed(name: str) -> str:
    return f"/scratch/variants/{name}"


def _judge(plan: RunPlan, first: _First, seconds: float, say: Say) -> Iterator[ProbeResult]:
    run, base, bound, stream = first.run, first.base, first.bound, first.stream
    yield incompressible.judge(run, bound, stream, first.drawn)
    yield once.judge(first.metric, bound, stream)
    script = plan.files[f"{plan.folder}/{plan.script}"]
    yield artifact.judge(base, run, first.changes, len(script))
    if bound is None:
        reason = f"no values in the run have the mean that it prints: {first.metric.evidence.text}"
        yield from (not_audited(name, reason) for name in ("flip", "order", "mass", "crossing"))
        return
    flipped = flip.judge(bound, run, first.changes)
    yield flipped
    yield order.judge(bound, base, run, first.changes, flipped)
    say("running it again: tokens replaced in place, the artifact swapped")
    yield from _second_run(plan, first, bound, seconds)


def _second_run(
    plan: RunPlan, first: _First, bound: Bound, seconds: float
) -> Iterator[ProbeResult]:
    stream, control = first.stream, first.changes[0]
    variants: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    written = first.base.artifact
    if written is not None:
        other = make_text(_SEED + 2, 4 * len(stream.tokens), plan.data.pieces, 96)
        files = {"artifact": first.run.first.results["artifact"], "training": make_shard(other)}
        gone: dict[str, str | None] = dict.fromkeys(_TRAINING)
        variants.append(
            {
                "name": crossing.NAME,
                "at": "training",
                "files": {path: _placed("training") for path in _TRAINING},
                "later": {written.path: {written.path: _placed("artifact"), **gone}},
            }
        )
    problem, sampled = "", []
    try:
        sampled = kraft.choose(bound, stream, _POSITIONS, control.index)
    except AuditError as error:
        problem = str(error)
    pokes = kraft.pokes(bound, stream, _VALIDATION, sampled)
    try:
        run = _run(plan, {"variants": variants, "pokes": pokes}, files, seconds)
        base = read_trace(run)
        again = bound.same_place(base)
        if again is None or not np.array_equal(again, bound.losses):
            raise AuditError("a second run of the same script gives other losses")
    except AuditError as error:
        yield from (not_audited(name, str(error)) for name in (kraft.NAME, crossing.NAME))
        return
    if problem:
        yield not_audited(kraft.NAME, problem)
    else:
        yield kraft.judge(bound, run, first.run, stream, sampled, control)
    yield crossing.judge(bound, base, run)
