"""What a review says once: answers, what could not be decided, rules with several reasons."""

from dataclasses import replace

import pytest

from auditor.dossier import Dossier, RunFacts
from auditor.finding import (
    Audit,
    Basis,
    Confidence,
    Evidence,
    Finding,
    Readiness,
    Status,
    Validity,
)
from auditor.program.events import Event, Kind, Line, Span
from auditor.report import html, markdown, review, terminal
from auditor.report.view import Audience, View

PATH = "a/train_gpt.py"
SOURCE = "".join(f"line_{number} = {number}\n" for number in range(1, 31))
LEAK = Finding(
    "C2b",
    Status.FAIL,
    Basis.STATIC,
    Confidence.HIGH,
    "the key of the table that line 8 reads holds the token",
    (Evidence(PATH, 8, "line_8 = 8"),),
)
PASSES = Finding("C3", Status.PASS, Basis.STATIC, Confidence.HIGH, "nothing is trained early")
PROBED = Finding("C3", Status.UNKNOWN, Basis.DYNAMIC, Confidence.HIGH, "order: not audited")
UNREAD = replace(PROBED, basis=Basis.STATIC, reason="no loss was found")


def case(*findings: Finding) -> Dossier:
    """A report on a script with some findings."""
    audit = Audit(
        pr=9,
        head="ab" * 20,
        path=PATH,
        blob="cd" * 20,
        validity=Validity.UNKNOWN,
        readiness=Readiness.READY,
        policy="p",
        seconds=0.0,
        findings=findings,
    )
    return Dossier(audit, titles=("a fault",) * len(findings), sources={PATH: SOURCE})


def test_an_answer_points_at_the_score_and_the_training_that_follows_it() -> None:
    score = Line(PATH, 4, "loss = score(x)", "main")
    step = Line(PATH, 7, "optimizer.step()", "main")
    before = (Span("validation", ("chunk",), before=True),)
    events = (
        Event(Kind.SCORE, score, spans=(Span("validation", ("chunk",)),), known=before),
        Event(Kind.TRAIN, step, spans=(Span("validation", ("chunk",)),)),
    )
    run = replace(case(PASSES), run=RunFacts(events))
    answer = review.answers(run)[2]
    assert (answer.result, [place.line for place in answer.places]) == ("yes", [4, 7])
    assert "(legal where it does): `train_gpt.py:4`, `train_gpt.py:7`" in markdown.render([run])


def test_a_probe_that_could_not_look_leaves_what_was_read() -> None:
    results = [answer.result for answer in review.answers(case(PASSES, PROBED))]
    assert results[1] == "no"
    (_, unknown, *_) = review.answers(case(UNREAD, PROBED))
    assert (unknown.result, unknown.why) == ("unknown", "no loss was found")
    (_, probed, *_) = review.answers(case(PROBED))
    assert (probed.result, probed.why) == ("unknown", "order: not audited")


@pytest.mark.parametrize("form", [terminal, markdown, html])
def test_what_could_not_be_decided_is_told_once_for_all_rules(form: object) -> None:
    other = replace(UNREAD, rule="C7")
    view = View(Audience.SUBMITTER)
    text = form.render([case(UNREAD, other)], view)  # type: ignore[attr-defined]
    assert text.count("no loss was found") == 1


@pytest.mark.parametrize("form", [terminal, markdown, html])
def test_findings_that_say_the_same_of_several_places_are_told_once(form: object) -> None:
    there = replace(LEAK, evidence=(Evidence(PATH, 17, "line_17 = 17"),))
    both = case(LEAK, there)
    text = form.render([both], View(Audience.SUBMITTER))  # type: ignore[attr-defined]
    assert text.count("the key of the table that line 8 reads") == 1
    assert "line_8 = 8" in text
    assert "line_17 = 17" in text
    apart = replace(both, titles=("a fault", "another"))
    text = form.render([apart], View(Audience.SUBMITTER))  # type: ignore[attr-defined]
    assert text.count("the key of the table that line 8 reads") == 2


def test_a_rule_has_one_row_a_status_and_none_where_it_only_does_not_apply() -> None:
    absent = replace(PASSES, status=Status.NOT_APPLICABLE, basis=Basis.DYNAMIC)
    again = replace(PASSES, basis=Basis.LOG)
    ((_, rulings),) = review.by_axis(case(PASSES, again, absent))
    assert [(r.rule, r.status, r.basis) for r in rulings] == [("C3", Status.PASS, "static, log")]
    ((_, alone),) = review.by_axis(case(absent))
    assert [r.status for r in alone] == [Status.NOT_APPLICABLE]


def test_a_commit_without_a_pull_request_is_named_too() -> None:
    """As the action audits it: by the commits that its event names."""
    pushed = replace(case(PASSES), audit=replace(case(PASSES).audit, pr=None))
    text = markdown.render([pushed])
    assert f"- head `{'ab' * 20}`" in text
    assert f"auditor audit --repo CLONE --base BASE --at {'ab' * 20} --policy p" in text
    lone = replace(case(PASSES), audit=replace(case(PASSES).audit, pr=None, head=None))
    assert "auditor audit a/train_gpt.py --policy p" in markdown.render([lone])
    assert "- head" not in markdown.render([lone])
