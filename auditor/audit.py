"""One audit from end to end: unpack, index, read the claims, probe, apply every rule, judge."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

from auditor.dossier import Dossier, FileFact, RuleFact, RunFacts
from auditor.dynamic.probes.result import ScriptResult
from auditor.errors import AuditError
from auditor.evidence.books import Books, keep_books
from auditor.evidence.claims import read_claims
from auditor.evidence.numbers import numbers
from auditor.finding import Audit, Basis, Confidence, Finding, Status
from auditor.fix.patch import Patch, suggest
from auditor.policy import FRONTIER_2026_04, POLICIES, Policy, Weight
from auditor.program.index import Program, build
from auditor.program.timeline import timeline
from auditor.program.what_ran import WhatRan
from auditor.rules import Context, Rule, all_rules
from auditor.rules.measured import as_run, proofs
from auditor.submission.model import Submission
from auditor.submission.unpack import Unpacked, unpack
from auditor.syntax import tree_of
from auditor.verdict import judge

T = TypeVar("T")
DEFAULT_POLICY = FRONTIER_2026_04.name
# Every rule of the challenge; a report names those that this version has no check for.
RULEBOOK = (
    *("C1", "C2", "C2b", "C2c", "C3", "C4", "C5", "C6", "C7"),
    *("D1", "D2", "D3", "B1", "A1", "A2", "T1", "T2", "S1", "S2", "S3", "S4"),
    *("F1", "F2", "L1", "N1", "R1"),
)


@dataclass(frozen=True)
class Probing:
    """How far the probes go: `seconds` for runs of the whole script, 0 for its scorer alone. `say`
    hears what is being done."""

    seconds: float = 300.0
    say: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class _Probed:
    """The probes' results by name, and why there is none, if so."""

    results: Mapping[str, Any]
    problem: str | None


@dataclass(frozen=True)
class _Examined:
    """What was looked at, and every finding with its rule's title."""

    submission: Submission
    unpacked: Unpacked
    probed: _Probed
    context: Context
    named: list[tuple[Finding, str]]
    started: float

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding, _ in self.named)


def audit_submission(
    submission: Submission,
    *,
    policy: Policy,
    dynamic: bool | Probing = False,
    overrides: Mapping[str, str] | None = None,
) -> Audit:
    """Audits one script. Never raises for what a submission holds.

    `dynamic` asks for the probes, in full or as far as a `Probing` says. `overrides` are
    environment variables to set against what the submission's files tell.
    """
    probing = _probing(dynamic)
    with _uncollected() if probing is None else nullcontext():
        audit = _judged(_examine(submission, probing, overrides or {}), policy)
        tree_of.cache_clear()  # the next audit is of another text
        return audit


def audit_in_full(
    submission: Submission,
    *,
    policy: Policy,
    dynamic: bool | Probing = False,
    overrides: Mapping[str, str] | None = None,
) -> Dossier:
    """As `audit_submission`, with what a report shows: sources, hashes, timeline, what ran."""
    probing = _probing(dynamic)
    with _uncollected() if probing is None else nullcontext():
        dossier = _in_full(
            _examine(submission, probing, overrides or {}), policy, probing is not None
        )
        tree_of.cache_clear()
        return dossier


def _in_full(seen: _Examined, policy: Policy, dynamic: bool) -> Dossier:
    submission = seen.submission
    return Dossier(
        audit=_judged(seen, policy),
        titles=tuple(title for _, title in seen.named),
        sources=_cited(seen.findings, seen.context.program, submission),
        files=tuple(_files(submission)),
        rules=tuple(_fact(rule, policy) for rule in all_rules()),
        packing=tuple(_packing(seen.unpacked)),
        dynamic=dynamic,
        run=_or(RunFacts(overrides=seen.context.overrides), _run, seen),
        patches=_or((), _patches, seen),
        books=_or(Books(), _books, seen),
        probed=seen.probed.results,
    )


def _fact(rule: Rule, policy: Policy) -> RuleFact:
    return RuleFact(
        rule.id,
        rule.title,
        rule.axis,
        rule.version,
        rule.source,
        legal=" ".join(rule.legal.split()),
        weight=policy.weight(rule.id),
    )


def _probing(dynamic: bool | Probing) -> Probing | None:
    if isinstance(dynamic, Probing):
        return dynamic
    return Probing() if dynamic else None


def _examine(
    submission: Submission, probing: Probing | None, overrides: Mapping[str, str]
) -> _Examined:
    started = time.perf_counter()
    with _uncollected():
        unpacked = _unpacked(submission)
        shipped_and_written = {**submission.files, **unpacked.files}
        program = build(replace(submission, files=shipped_and_written), unpacked)
    probed = _probe(submission, unpacked, program, probing, overrides)
    with _uncollected():
        context = Context(submission, program, read_claims(submission), probed.results, overrides)
        named = [
            (as_run(context, finding), rule.title)
            for rule in all_rules()
            for finding in _apply(rule, context)
        ]
        named += proofs(context, [finding for finding, _ in named])
    return _Examined(submission, unpacked, probed, context, named, started)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles: trees and values live until the end of an audit, and to look
    through them again and again takes an eighth of it. Step budgets bound what can pile up. Most is
    gone by the end of a whole audit, so the one look that follows finds little.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _judged(seen: _Examined, policy: Policy) -> Audit:
    submission, claims = seen.submission, seen.context.claims
    findings = tuple(_as_weighed(finding, policy) for finding in seen.findings)
    validity, readiness = judge(findings, policy)
    return Audit(
        pr=submission.pr,
        head=submission.head,
        path=submission.main.path,
        blob=submission.main.blob,
        validity=validity,
        readiness=readiness,
        policy=policy.name,
        seconds=time.perf_counter() - seen.started,
        findings=findings,
        numbers=numbers(submission, seen.unpacked, claims, seen.probed.results),
        not_examined=tuple(_not_examined(seen)),
        overrides=seen.context.overrides,
    )


def _as_weighed(finding: Finding, policy: Policy) -> Finding:
    """A failure of a rule that the policy only notes is a note: `fail` always decides something."""
    if finding.status is Status.FAIL and policy.weight(finding.rule) is Weight.NOTED:
        return replace(finding, status=Status.NOTE)
    return finding


def _or(nothing: T, show: Callable[[_Examined], T], seen: _Examined) -> T:
    """What `show` gives; where a hostile script breaks it, the report goes without."""
    try:
        return show(seen)
    except Exception:  # the findings stand, whatever becomes of their illustration
        return nothing


def _patches(seen: _Examined) -> tuple[Patch, ...]:
    return suggest(seen.context, seen.findings)


def _books(seen: _Examined) -> Books:
    return keep_books(seen.submission, seen.context.claims, POLICIES.values())


def _run(seen: _Examined) -> RunFacts:
    """The run that the findings are about. Where the data flow was not followed, nothing."""
    context, findings = seen.context, seen.findings
    if context.trace.problem is not None:
        return RunFacts(overrides=context.overrides)
    ran = WhatRan(context.program, context.configuration, context.trace.environment)
    return RunFacts(
        timeline=timeline(context.program, context.trace),
        variables=ran.variables,
        deciding=tuple(ran.deciding(finding.evidence) for finding in findings),
        overrides=context.overrides,
        without_effect=ran.without_effect,
    )


def _unpacked(submission: Submission) -> Unpacked:
    name = PurePosixPath(submission.main.path).name
    for path, problem in submission.unread.items():
        if PurePosixPath(path).name == name and submission.main.data == b"":
            return Unpacked("", problem=f"{path}: {problem}")
    return unpack(submission.main, submission.files)


def _probe(
    submission: Submission,
    unpacked: Unpacked,
    program: Program,
    probing: Probing | None,
    overrides: Mapping[str, str],
) -> _Probed:
    if probing is None:
        return _Probed({}, "what only a run shows: the dynamic probes were not asked for")
    # Imported here: the static path must not load what the probes need.
    from auditor.dynamic.mass import probe

    results: dict[str, Any] = {}
    try:
        probing.say("measuring its scorer")
        results["mass"] = probe(submission, unpacked, program)
        if probing.seconds > 0:
            results["script"] = _probe_script(submission, program, probing, overrides)
    except AuditError as error:
        return _Probed(results, f"what only a run shows: {error}")
    return _Probed(results, None)


def _probe_script(
    submission: Submission, program: Program, probing: Probing, overrides: Mapping[str, str]
) -> ScriptResult:
    from auditor.dynamic.probes.suite import probe

    seconds, say = probing.seconds, probing.say
    try:
        return probe(submission, program, overrides=overrides, seconds=seconds, say=say)
    except AuditError:
        raise
    except Exception as error:  # what a hostile run makes up costs its probes, not the audit
        return ScriptResult(problem=f"its results cannot be read: {error!r}"[:300])


def _apply(rule: Rule, context: Context) -> Iterator[Finding]:
    """The findings of one rule; a script that breaks the rule's own code makes it `unknown`."""
    try:
        yield from rule.check(context)
    except Exception as error:  # whatever a hostile script provokes costs one rule, not the audit
        reason = f"the check ended early: {type(error).__name__}: {error}"
        yield Finding(rule.id, Status.UNKNOWN, Basis.STATIC, Confidence.LOW, reason)


def _not_examined(seen: _Examined) -> Iterator[str]:
    submission, unpacked, program = seen.submission, seen.unpacked, seen.context.program
    if program.problem is not None:
        yield f"{program.path}: {program.problem}"
    yield from (f"{submission.main.path}: {note}" for note in unpacked.notes)
    yield from (f"{path}: {problem}" for path, problem in sorted(submission.unread.items()))
    yield from dict.fromkeys(s.note for s in program.native if s.note is not None)
    for problem in seen.context.claims.problems:
        line = f":{problem.line}" if problem.line else ""
        yield f"{problem.path}{line}: {problem.text}"
    if seen.probed.problem is not None:
        yield seen.probed.problem
    missing = [rule for rule in RULEBOOK if rule not in {r.id for r in all_rules()}]
    if missing:
        yield f"rules without a check in this version: {', '.join(missing)}"


def _cited(
    findings: tuple[Finding, ...], program: Program, submission: Submission
) -> dict[str, str]:
    """The text of the program and of every other file that a finding points into."""
    texts = {module.path: module.source for module in program.modules}
    shipped = {file.path: file for file in submission.files.values()}
    sources = {program.path: program.source}
    for evidence in (e for finding in findings for e in finding.evidence):
        path = evidence.path
        if evidence.line and path in texts:
            sources[path] = texts[path]
        elif evidence.line and path in shipped:
            sources[path] = shipped[path].data.decode("utf-8", "replace").replace("\r\n", "\n")
    return sources


def _files(submission: Submission) -> Iterator[FileFact]:
    folder = submission.main.path.rpartition("/")[0]
    for name in sorted({*submission.files, *submission.unread}):
        if name in submission.files:
            file = submission.files[name]
            yield FileFact(file.path, file.blob, len(file.data))
        else:
            path = f"{folder}/{name}" if folder else name
            yield FileFact(path, "", 0, submission.unread[name])


def _packing(unpacked: Unpacked) -> Iterator[str]:
    for layer in unpacked.layers:
        yield (
            f"{layer.kind} at line {layer.line}: {layer.bytes_in:,} bytes "
            f"to {layer.bytes_out:,} bytes"
        )
