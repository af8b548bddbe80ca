"""From findings to the verdict, on two axes that are never mixed."""

from collections.abc import Iterable, Sequence

from auditor.finding import Axis, Basis, Confidence, Finding, Readiness, Status, Validity
from auditor.policy import Policy, Weight
from auditor.rules import axis_of


def judge(findings: Sequence[Finding], policy: Policy) -> tuple[Validity, Readiness]:
    """The verdict on validity and on readiness.

    A failure counts as its rule weighs under `policy`. `pending` never becomes `invalid`, neither
    does a finding of low confidence alone; a validity rule that could not look makes `unknown`.
    """
    return _validity(_on(Axis.VALIDITY, findings), policy), _readiness(
        _on(Axis.READINESS, findings), policy
    )


def _on(axis: Axis, findings: Iterable[Finding]) -> list[Finding]:
    return [f for f in findings if axis_of(f.rule) is axis]


def _breaks(finding: Finding, policy: Policy) -> bool:
    return finding.status is Status.FAIL and policy.weight(finding.rule) is Weight.BREAKS


def _waits(finding: Finding, policy: Policy) -> bool:
    weight = policy.weight(finding.rule)
    if finding.status is Status.PENDING:
        return weight is not Weight.NOTED
    return finding.status is Status.FAIL and weight is Weight.WAITS


def _validity(findings: list[Finding], policy: Policy) -> Validity:
    breaking = [f for f in findings if _breaks(f, policy)]
    if any(f.confidence is not Confidence.LOW for f in breaking):
        return Validity.INVALID
    if any(_waits(f, policy) for f in findings):
        return Validity.PENDING
    read = [f for f in findings if f.basis is Basis.STATIC]
    if breaking or not read or any(f.status is Status.UNKNOWN for f in read):
        return Validity.UNKNOWN
    return Validity.VALID


def _readiness(findings: list[Finding], policy: Policy) -> Readiness:
    if any(_breaks(f, policy) for f in findings):
        return Readiness.NOT_READY
    looked = [f for f in findings if f.status is not Status.NOT_APPLICABLE]
    if not looked or any(f.status is Status.UNKNOWN for f in looked):
        return Readiness.UNKNOWN
    return Readiness.READY
