"""The verdict's laws, over every policy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor import demo
from auditor.audit import audit_submission
from auditor.errors import AuditError
from auditor.finding import Axis, Basis, Confidence, Finding, Readiness, Status, Validity
from auditor.policy import FRONTIER_2026_04, POLICIES, README_2026_03, Policy, policy
from auditor.rules import all_rules, axis_of
from auditor.verdict import judge

IDS = sorted({rule.id for rule in all_rules()})
FINDINGS = st.builds(
    Finding,
    rule=st.sampled_from(IDS),
    status=st.sampled_from(Status),
    basis=st.sampled_from(Basis),
    confidence=st.sampled_from(Confidence),
    reason=st.just("because"),
)


def finding(rule: str, status: Status, confidence: Confidence = Confidence.HIGH) -> Finding:
    return Finding(rule, status, Basis.STATIC, confidence, "because")


@given(st.lists(FINDINGS, max_size=8), st.sampled_from(sorted(POLICIES)))
def test_invalid_needs_a_failure_of_some_confidence(findings: list[Finding], name: str) -> None:
    validity, _ = judge(findings, policy(name))
    grounds = [
        f
        for f in findings
        if f.status is Status.FAIL
        and f.confidence is not Confidence.LOW
        and axis_of(f.rule) is Axis.VALIDITY
    ]
    assert grounds or validity is not Validity.INVALID


@given(st.lists(FINDINGS, max_size=8))
def test_the_axes_are_never_mixed(findings: list[Finding]) -> None:
    on = {axis: [f for f in findings if axis_of(f.rule) is axis] for axis in Axis}
    both = judge(findings, FRONTIER_2026_04)
    assert both[0] == judge(on[Axis.VALIDITY], FRONTIER_2026_04)[0]
    assert both[1] == judge(on[Axis.READINESS], FRONTIER_2026_04)[1]


@pytest.mark.parametrize("book", POLICIES.values(), ids=lambda p: p.name)
def test_pending_stays_pending(book: Policy) -> None:
    assert judge([finding("C3", Status.PENDING)], book)[0] is Validity.PENDING


def test_policies_weigh_the_same_finding_differently() -> None:
    failed = [finding("C2b", Status.FAIL)]
    assert judge(failed, FRONTIER_2026_04)[0] is Validity.INVALID
    assert judge(failed, README_2026_03)[0] is Validity.VALID


def test_what_was_not_analysed_is_unknown() -> None:
    assert judge([], FRONTIER_2026_04) == (Validity.UNKNOWN, Readiness.UNKNOWN)
    seen = [finding("C2", Status.PASS), finding("C3", Status.UNKNOWN)]
    assert judge(seen, FRONTIER_2026_04)[0] is Validity.UNKNOWN
    doubted = [finding("C2", Status.FAIL, Confidence.LOW)]
    assert judge(doubted, FRONTIER_2026_04)[0] is Validity.UNKNOWN


def test_every_row_of_a_policy_names_its_source() -> None:
    assert all(row.source for book in POLICIES.values() for row in book.rows.values())


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(AuditError, match="frontier-2026-04"):
        policy("frontier")


def test_what_a_policy_only_notes_is_no_failure() -> None:
    faulty = demo.submission(fixed=False)
    judged = {}
    for dated in (FRONTIER_2026_04, README_2026_03):
        audit = audit_submission(faulty, policy=dated)
        statuses = {f.status for f in audit.findings if f.rule == "C2" and f.evidence}
        judged[dated.name] = (audit.validity, statuses)
    assert judged == {
        "frontier-2026-04": (Validity.INVALID, {Status.FAIL}),
        "readme-2026-03": (Validity.VALID, {Status.NOTE}),
    }
