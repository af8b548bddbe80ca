"""What the probes of whole runs add to the rules: proofs, and refutations of what was only read.

A proof is a failure of the rule that it breaks, with its witness. A refutation lowers a failure
that was read from the code to a note, and says so; only where the lines in question ran and the
probe that would have shown the fault was clean. Sums over a vocabulary refute nothing: a hashed
table may be honest in a small run and not at its real load.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from auditor.dynamic.probes.result import ProbeResult, ScriptResult
from auditor.finding import Basis, Confidence, Evidence, Finding, Status
from auditor.rules.base import Context

# The probe that a failure of a rule could not get past, and those that must not have found either.
_REFUTED_BY = {
    "C3": ("flip", "order"),
    "C4": ("flip", "once"),
    "C7": ("flip", "order"),
    "D1": ("artifact", "flip"),
}
_BREAKS = {
    "flip": "C1",
    "incompressible": "C1",
    "mass": "C2",
    "order": "C3",
    "once": "C4",
    "crossing": "A2",
    "artifact": "D1",
    "ranks": "C4",
}
_TITLES = {
    "flip": "a loss moves with a token that comes after it",
    "incompressible": "random tokens are scored below their entropy",
    "mass": "the scored probabilities sum to more than one",
    "order": "validation tokens train the weights before they are scored",
    "once": "tokens or bytes are not counted once",
    "crossing": "something else than the artifact reaches the score",
    "artifact": "validation data reach the artifact",
    "ranks": "the score hangs on the number of processes",
}
# What a small run may show for reasons of its own: never enough for a verdict alone.
_DOUBTFUL = frozenset({"once", "crossing", "ranks"})
_HOOKS = "the numbers come from hooks inside the audited process"
_OUTSIDE = "worked out outside of the audited process from what it prints"


def as_run(context: Context, finding: Finding) -> Finding:
    """A finding of a rule as the probes leave it."""
    result = context.dynamic.get("script")
    return _refuted(finding, result) if isinstance(result, ScriptResult) else finding


def proofs(context: Context, findings: Sequence[Finding]) -> Iterator[tuple[Finding, str]]:
    """What each probe found, with the title of that fault, given the findings of the rules."""
    result = context.dynamic.get("script")
    if not isinstance(result, ScriptResult):
        return
    if result.problem is not None:
        reason = f"the script was not run to its score: {result.problem}"
        yield _finding("C1", Status.UNKNOWN, reason), _TITLES["flip"]
        return
    suspected = {f.rule for f in findings if f.status is not Status.PASS}
    for probe in result.probes:
        yield _of(probe, suspected), _TITLES[probe.probe]


def _of(probe: ProbeResult, suspected: set[str]) -> Finding:
    rule = _BREAKS[probe.probe]
    if probe.probe == "order" and "C7" in suspected:
        rule = "C7"  # what is fitted to each window is no weight of the model
    if probe.probe == "once" and "bytes" in probe.reason:
        rule = "B1"
    said = f"{probe.probe}: {probe.reason} ({_OUTSIDE if probe.outside else _HOOKS})"
    if probe.found:
        doubt = Confidence.LOW if probe.probe in _DOUBTFUL else Confidence.HIGH
        return replace(_finding(rule, Status.FAIL, said, doubt), witness=probe.witness)
    if probe.clean:
        return _finding(rule, Status.PASS, said)
    return _finding(rule, Status.UNKNOWN, f"{probe.probe}: not audited: {probe.reason}")


def _finding(
    rule: str, status: Status, reason: str, confidence: Confidence = Confidence.HIGH
) -> Finding:
    return Finding(rule, status, Basis.DYNAMIC, confidence, reason)


def _refuted(finding: Finding, result: ScriptResult) -> Finding:
    needed = [result.of(name) for name in _REFUTED_BY.get(finding.rule, ())]
    if finding.status is not Status.FAIL or finding.basis is not Basis.STATIC or not needed:
        return finding
    clean = [probe for probe in needed if probe is not None and probe.clean]
    ran = finding.evidence and all(_ran(evidence, result) for evidence in finding.evidence)
    if len(clean) < len(needed) or not ran:
        return finding
    return replace(finding, status=Status.NOTE, reason=f"{finding.reason}; {_words(clean[0])}")


def _words(probe: ProbeResult) -> str:
    return f"but these lines ran in the sandbox, and there {probe.reason}"


def _ran(evidence: Evidence, result: ScriptResult) -> bool:
    if "!unpacked" in evidence.path:
        return any(name.startswith("<") and line == evidence.line for name, line in result.lines)
    return (evidence.path.rpartition("/")[2], evidence.line) in result.lines
