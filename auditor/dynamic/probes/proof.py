"""The proof of a whole-run probe as plain data, and its repetition.

It holds the run's files (script, data, changed streams), the job, and what came out: of each
variant the losses behind the score to their last bit, what was printed of it, and the digest of
the artifact. Repeating it is one run more in the sandbox.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from auditor.dynamic.data import DataSet
from auditor.dynamic.plan import RunPlan
from auditor.dynamic.probes.binding import Bound
from auditor.dynamic.probes.result import ProbeResult
from auditor.dynamic.probes.trace import read_trace
from auditor.dynamic.rehearsal import LIMITS, Rehearsal, rehearse
from auditor.dynamic.shrink import Sizes
from auditor.dynamic.witness import Witness, pack_files
from auditor.errors import AuditError

HOOK = "auditor.dynamic.capture.session"
VARIANTS = "variants/"  # where the files of variants lie in the work folder
_LEFT_OUT = ("files", "data", "sizes", "changes", "wanted")  # what a repetition does not need


def prove(
    result: ProbeResult,
    plan: RunPlan,
    settings: Mapping[str, Any],
    run: Rehearsal,
    bound: Bound | None,
) -> ProbeResult:
    """The result with a witness of the variants that it rests on.

    `plan` holds the files as they were given, those of the variants included.
    """
    site = list(bound.site) if bound is not None else None
    first, last = (bound.events[0].ordinal, bound.events[-1].ordinal) if bound else (0, 0)
    kept = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in _LEFT_OUT}
    variants = [v for v in settings["variants"] if v["name"] in result.runs]
    pokes = [k for k, _ in enumerate(settings.get("pokes", ())) if f"poke-{k}" in result.runs]
    # A repetition numbers its pokes anew, so none before those that it keeps may be left out.
    chosen = settings.get("pokes", ())[: max(pokes, default=-1) + 1]
    chosen = [
        {**poke, "values": poke["values"] if k in pokes else []} for k, poke in enumerate(chosen)
    ]
    needed = {source for v in variants for source in _sources(v)}
    files = {
        path: data
        for path, data in plan.files.items()
        if not path.startswith(VARIANTS) or f"/scratch/{path}" in needed
    }
    names = {"", *result.runs}
    part = {
        name: variant
        for name, variant in run.variants.items()
        if name in names or (name.startswith("poke-") and name.rpartition("-")[0] in names)
    }
    task = {
        "plan": json.loads(json.dumps(kept)),
        "hook": {**settings, "variants": variants, "pokes": chosen},
        "watched": {"site": site, "first": first, "last": last},
    }
    answer = observe(replace(run, variants=part), site, first, last)
    witness = Witness(plan.script, pack_files(files), task, answer, f"run:{result.probe}")
    return replace(result, witness=witness.to_json())


def _sources(variant: Mapping[str, Any]) -> Iterator[str]:
    for files in (variant.get("files", {}), *variant.get("later", {}).values()):
        yield from (source for source in files.values() if source is not None)


def observe(run: Rehearsal, site: Sequence[Any] | None, first: int, last: int) -> dict[str, Any]:
    """What a run and its variants told: the losses of reductions `first` to `last` of `site`, the
    score's line, the artifact. Raises `AuditError` where the run left nothing."""
    entry = run.first.json("session") or {}
    told: dict[str, Any] = {name: entry.get(name) for name in ("torch", "python")}
    for name, variant in run.variants.items():
        losses = variant.json("losses")
        if losses is not None:
            told[name] = {"losses": losses}
            continue
        trace = read_trace(run, name)
        events = [
            event
            for found, reductions in trace.sites.items()
            if site is not None and list(found) == list(site)
            for event in reductions
            if first <= event.ordinal <= last
        ]
        told[name] = {
            "printed": variant.metric.evidence.text if variant.metric else None,
            "losses": [value for event in events for value in event.values.tolist()],
            "artifact": trace.artifact.read_back if trace.artifact else None,
        }
    return told


def repeat(files: Mapping[str, bytes], task: Mapping[str, Any]) -> dict[str, Any]:
    """Runs a witness's task again and tells what `observe` told. Raises `SandboxUnavailable`, or
    `AuditError` where the run does not end."""
    try:
        plan = RunPlan(**task["plan"], files=dict(files), data=DataSet({}, (), ()), sizes=Sizes())
        watched = task["watched"]
        where = watched["site"], int(watched["first"]), int(watched["last"])
    except (KeyError, TypeError, ValueError) as error:
        raise AuditError(f"the witness holds no run ({error!r})") from None
    run = rehearse(plan, capture={HOOK: task["hook"]}, limits=replace(LIMITS, seconds=600))
    if run.problem is not None:
        raise AuditError(run.problem)
    return observe(run, *where)
