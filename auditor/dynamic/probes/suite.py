"""All probes of one script: two rounds of runs in the sandbox with variants, then what they prove.

The first round tells which values the submitted metric is the mean of, and tries every change that
has to be there from the start. The second repeats it, which is a control of its own, replaces
single tokens while it goes on, and swaps the artifact. Where there are two processor cores, each
round is two runs side by side, each with a part of the variants.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from auditor.dynamic import sandbox
from auditor.dynamic.capture.record import FROM_ARTIFACT
from auditor.dynamic.data import make_shard, make_text
from auditor.dynamic.plan import DATA, RunPlan, plan_run
from auditor.dynamic.probes import (
    artifact,
    crossing,
    flip,
    incompressible,
    kraft,
    once,
    order,
    ranks,
)
from auditor.dynamic.probes.binding import Bound, Target, bind, submitted
from auditor.dynamic.probes.proof import HOOK, VARIANTS, prove
from auditor.dynamic.probes.result import ProbeResult, ScriptResult, not_audited
from auditor.dynamic.probes.stream import Stream, Tokens, read_shard
from auditor.dynamic.probes.timeline import traced
from auditor.dynamic.probes.trace import Trace, read_trace
from auditor.dynamic.rehearsal import LIMITS, Rehearsal, rehearse
from auditor.dynamic.shrink import Sizes, ladder, sized
from auditor.errors import AuditError
from auditor.evidence.figures import Metric
from auditor.program.events import Event
from auditor.program.index import Program
from auditor.submission.model import Submission

NAMES = ("flip", "mass", "incompressible", "order", "once", "crossing", "artifact", "ranks")
SECONDS = 300.0  # for all probes of a script
UNBOUND = "no values in the run have the mean that it prints"
_FIRST = 0.5  # of that time, at which the first round begins no further variant
_SEED = 700
_POSITIONS = 8
_RANKS = (2, 4)
_SHARDS = f"/scratch/{DATA}/shards"
_VALIDATION = f"{_SHARDS}/fineweb_val_000000.bin"
_TRAINING = tuple(f"{_SHARDS}/fineweb_train_00000{number}.bin" for number in range(2))
# A small vocabulary, so that every token can be tried; enough steps for a model that has opinions.
_SIZES = Sizes(vocabulary=64, iterations=12, tokens=512, batch=4)
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Done:
    """A run: what it was given, the hook's settings, what came of it."""

    plan: RunPlan
    hook: Mapping[str, Any]
    run: Rehearsal

    def proved(self, result: ProbeResult, bound: Bound | None) -> ProbeResult:
        """The result, with a witness where it found something."""
        return prove(result, self.plan, self.hook, self.run, bound) if result.found else result


@dataclass(frozen=True)
class _First:
    """The first run, and what was made of it."""

    done: _Done
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
    for sizes in (sized(program.source, _SIZES), *ladder(program.source)):
        if time.monotonic() - started > seconds / 2:
            break  # what is larger would be slower
        try:
            plan = plan_run(submission, program, sizes=sizes, overrides=overrides)
            say("running the script, with changed and unchanged streams")
            first = _first_run(plan, started + seconds)
        except AuditError as error:
            problems.append(str(error))
            continue
        results = list(_judge(plan, first, started + seconds, say))
        single = {"ITERATIONS": "1"} if "ITERATIONS" in plan.environment else {}
        given = {**(overrides or {}), **single}  # with another's artifact, training does not matter
        spread = partial(plan_run, submission, program, sizes=sizes, overrides=given)
        results.append(_ranks(spread, program.source, first, started + seconds, say))
        return ScriptResult(
            tuple(results),
            metric=first.metric.evidence.text,
            environment=plan.environment,
            shrunk=tuple(f"{c.name} {c.before} as {c.after}" for c in plan.changes),
            lines=first.base.lines,
            timeline=_timeline(program, first),
            seconds=time.monotonic() - started,
        )
    return ScriptResult(problem=problems[0], seconds=time.monotonic() - started)


def _timeline(program: Program, first: _First) -> tuple[Event, ...]:
    if first.bound is None:
        return ()
    texts = {"<string>": program.source, first.done.plan.script: program.source}
    texts |= {module.path.rpartition("/")[2]: module.source for module in program.modules[1:]}
    return traced(first.bound, first.base, first.done.run, first.changes, program.path, texts)


def _first_run(plan: RunPlan, deadline: float) -> _First:
    """Raises `AuditError` where the run does not count."""
    stream = Stream.of(plan.data)
    changes = flip.plan(stream, np.random.default_rng(_SEED))
    entropy = np.random.Generator(np.random.PCG64())  # the system's
    drawn = stream.drawn(stream.tokens, entropy)
    files = {change.name: change.shard for change in changes}
    variants = [_reading(name) for name in files]
    files[incompressible.NAME] = make_shard(drawn.tolist())
    training = read_shard(plan.files[_TRAINING[0].removeprefix("/scratch/")])
    files["random"] = make_shard(stream.drawn(training, entropy).tolist())
    everything = {path: _placed("random") for path in _TRAINING}
    everything[_VALIDATION] = _placed(incompressible.NAME)
    variants.insert(2, {"name": incompressible.NAME, "at": "data", "files": everything})
    done = _twice(plan, variants, files, deadline)
    base = read_trace(done.run)
    metric = submitted(base.log.metrics, plan.tag)
    if metric is None:
        raise AuditError("the run printed no score")
    target = Target(stream.targets, int(stream.byte_counts().sum()))
    return _First(done, base, metric, bind(base, metric, target), stream, changes, drawn)


def _reading(name: str) -> dict[str, Any]:
    """A variant that finds another validation shard."""
    return {"name": name, "at": "validation", "files": {_VALIDATION: _placed(name)}}


def _twice(
    plan: RunPlan,
    variants: Sequence[Mapping[str, Any]],
    files: Mapping[str, bytes],
    deadline: float,
) -> _Done:
    """The run with its variants, and an unchanged repeat. On two cores the repeat is a run of its
    own, beside the first, and takes half of the variants. Raises `AuditError` where the run does
    not count."""
    reserved = (1 - _FIRST) * (deadline - time.monotonic())
    repeat: Mapping[str, Any] = {"name": flip.REPEAT, "at": "validation"}
    told = {"variants": [repeat, *variants], "reserved": reserved}
    if _cores() < 2:
        return _run(plan, told, files, deadline)
    lanes = [{**told, "variants": variants[lane::2]} for lane in range(2)]
    done, beside = _side_by_side(plan, lanes, files, deadline)
    if isinstance(done, AuditError):
        raise done
    joined = dict(done.run.variants)
    if not isinstance(beside, AuditError):
        joined |= {name or flip.REPEAT: v for name, v in beside.run.variants.items()}
    return replace(done, hook={**done.hook, **told}, run=replace(done.run, variants=joined))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _side_by_side(
    plan: RunPlan,
    lanes: Sequence[Mapping[str, Any]],
    files: Mapping[str, bytes],
    deadline: float,
) -> list[_Done | AuditError]:
    """Runs at the same time, or one after the other on one core; each gives a run or its error."""

    def one(settings: Mapping[str, Any]) -> _Done | AuditError:
        try:
            return _run(plan, settings, files, deadline)
        except AuditError as error:
            return error

    if min(len(lanes), _cores()) < 2:
        return [one(settings) for settings in lanes]
    with ThreadPoolExecutor(len(lanes)) as pool:
        return list(pool.map(one, lanes))


def _run(
    plan: RunPlan, settings: Mapping[str, Any], files: Mapping[str, bytes], deadline: float
) -> _Done:
    """One run with the hook, and further files; raises `AuditError` where it does not count."""
    seconds = max(deadline - time.monotonic(), 1.0)
    hook = {
        "validation": ["fineweb_val_[0-9]*.bin"],
        "training": ["fineweb_train_*.bin"],
        **settings,
    }
    limits = replace(LIMITS, seconds=seconds, cpu_seconds=int(seconds) + 60)
    placed = {f"{VARIANTS}{name}": data for name, data in files.items()}
    given = replace(plan, files={**plan.files, **placed})
    run = rehearse(given, capture={HOOK: hook}, limits=limits)
    if run.problem is not None:
        raise AuditError(run.problem)
    return _Done(given, hook, run)


def _placed(name: str) -> str:
    return f"/scratch/{VARIANTS}{name}"


def _judge(plan: RunPlan, first: _First, deadline: float, say: Say) -> Iterator[ProbeResult]:
    base, bound, stream = first.base, first.bound, first.stream
    run, changes = first.done.run, first.changes
    yield first.done.proved(incompressible.judge(run, bound, stream, first.drawn, plan.tag), bound)
    yield first.done.proved(once.judge(first.metric, bound, stream), bound)
    script = plan.files[f"{plan.folder}/{plan.script}"]
    yield first.done.proved(artifact.judge(base, run, changes, len(script)), bound)
    if bound is None:
        reason = f"{UNBOUND}: {first.metric.evidence.text}"
        yield from (not_audited(name, reason) for name in ("flip", "order", "mass", "crossing"))
        return
    flipped = flip.judge(bound, run, changes)
    yield first.done.proved(flipped, bound)
    yield first.done.proved(order.judge(bound, base, run, changes, flipped), bound)
    say("running it again: tokens replaced in place, the artifact swapped")
    own = (flipped.numbers.get(flip.OWN) or {}).get(changes[0].index)
    yield from _second_run(plan, first, bound, own, deadline)


def _second_run(
    plan: RunPlan, first: _First, bound: Bound, own: int | None, deadline: float
) -> Iterator[ProbeResult]:
    control = first.changes[0]
    problem, sampled = "", []
    try:
        if own is None:
            raise AuditError("it is not known which value is the loss of which token")
        left = deadline - time.monotonic()
        sampled = kraft.choose(
            bound, first.base, first.stream, _POSITIONS, control.index, own, left
        )
        read_trace(first.done.run, control.name)
    except AuditError as error:
        problem = str(error)
    variants, files = _swapped(plan, first)
    rest = first.done.run.seconds / 2  # of the run itself, after the last replaced token
    replaced: dict[str, Any] = {"variants": [], "pokes": [], "reserved": rest}
    later: list[kraft.Sampled] = []
    if own is not None and not problem:
        later = [kraft.from_artifact(bound, control.index, own)]
        known = kraft.known(bound, first.done.run, first.stream, control, own)
        for name, places in (("pokes", sampled), ("fallback", later)):
            replaced[name] = kraft.pokes(bound, first.stream, _VALIDATION, places, known)
    swaps, poked = _side_by_side(plan, [{"variants": variants}, replaced], files, deadline)
    if isinstance(swaps, AuditError):
        yield not_audited(crossing.NAME, str(swaps))
    else:
        crossed = crossing.judge(bound, read_trace(swaps.run), swaps.run)
        yield swaps.proved(crossed, bound)
    if problem:
        yield not_audited(kraft.NAME, problem)
        return
    mass, done = _mass(first, bound, sampled, later, poked)
    yield done.proved(mass, bound) if done is not None else mass


def _mass(
    first: _First,
    bound: Bound,
    sampled: list[kraft.Sampled],
    later: list[kraft.Sampled],
    done: _Done | AuditError,
) -> tuple[ProbeResult, _Done | None]:
    """What a run with replaced tokens shows: it must give the losses of the first."""
    if isinstance(done, AuditError):
        return not_audited(kraft.NAME, str(done)), None
    trace = read_trace(done.run)
    sampled = later if FROM_ARTIFACT in trace.notes else sampled
    again = bound.same_place(trace)
    if again is None or not np.array_equal(again, bound.losses):
        return not_audited(kraft.NAME, "a second run of the same script gives other losses"), None
    control = first.changes[0]
    return kraft.judge(bound, done.run, first.done.run, first.stream, sampled, control), done


def _ranks(
    spread: Callable[..., RunPlan], source: str, first: _First, deadline: float, say: Say
) -> ProbeResult:
    """Runs with several ranks, each with the artifact of the first run; `spread` plans them."""
    written = first.base.artifact
    if first.bound is None or written is None:
        missing = "values" if first.bound is None else "artifact"
        return not_audited(ranks.NAME, f"no {missing} to compare")
    if not re.search(r"\b(?:all_reduce|all_gather\w*|reduce)\(", source):
        return not_audited(ranks.NAME, "the script shares no work among ranks")
    say("running it with more ranks")
    later = {written.path: {written.path: _placed("artifact")}}
    files = {"artifact": first.done.run.first.results.get("artifact", b"")}
    runs: dict[int, Sequence[Trace] | AuditError] = {}
    limit = 2 * first.done.run.seconds  # ranks that wait for each other wait for ever
    for size in _RANKS:
        started = time.monotonic()
        end = min(deadline, started + limit)
        try:
            plan = spread(world_size=size)
            runs[size] = ranks.traces(_run(plan, {"later": later}, files, end).run, size)
        except AuditError as error:
            runs[size] = error
        limit = 3 * (time.monotonic() - started)
        if deadline - time.monotonic() < limit:
            break
    return ranks.judge(first.bound, first.base, runs, first.done.plan.tag)


def _swapped(plan: RunPlan, first: _First) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The variant that trains on other data and evaluates this run's artifact, and its files."""
    written = first.base.artifact
    if written is None:
        return [], {}
    other = make_text(_SEED + 2, 4 * len(first.stream.tokens), plan.data.pieces, 96)
    results = first.done.run.first.results
    files = {"artifact": results.get("artifact", b""), "training": make_shard(other)}
    gone: dict[str, str | None] = dict.fromkeys(_TRAINING)
    variant = {
        "name": crossing.NAME,
        "at": "training",
        "files": {path: _placed("training") for path in _TRAINING},
        "later": {written.path: {written.path: _placed("artifact"), **gone}},
    }
    return [variant], files
