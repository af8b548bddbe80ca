"""Three readers of one audit: what each is shown. The JSON is the same for all."""

import json
from dataclasses import replace

import pytest

from auditor.dossier import Dossier, RuleFact, RunFacts
from auditor.finding import (
    Audit,
    Axis,
    Basis,
    Confidence,
    Evidence,
    Finding,
    Readiness,
    Status,
    Validity,
)
from auditor.policy import Weight
from auditor.program.events import Event, Kind, Line, Span, Turn
from auditor.program.what_ran import Decider, Variable
from auditor.report import html, markdown, terminal
from auditor.report import json as json_report
from auditor.report.view import Audience, View

PATH = "a/train_gpt.py"
STEP = Evidence(PATH, 3, "optimizer.step()")
FAILS = Finding(
    "C3", Status.FAIL, Basis.STATIC, Confidence.HIGH, "trained too early", (STEP,), ("#568",)
)
SURE = Finding("A1", Status.NOTE, Basis.LOG, Confidence.MEDIUM, "close to the limit")
UNSURE = Finding("B1", Status.NOTE, Basis.STATIC, Confidence.LOW, "unused tokens are not asked for")
PASSES = Finding("C2", Status.PASS, Basis.STATIC, Confidence.HIGH, "each term depends on it")
LOOP = Turn(0, "epoch", Line(PATH, 1, "for epoch in range(4):", "adapt"))
EVENTS = (
    Event(
        Kind.TRAIN,
        Line(PATH, 3, "optimizer.step()", "adapt"),
        (LOOP,),
        (Span("validation"),),
        again=("epoch",),
    ),
    Event(
        Kind.SCORE,
        Line(PATH, 4, "nll = ...", "score"),
        spans=(Span("validation"),),
        known=(Span("validation"),),
    ),
)
VARIABLES = (
    Variable("TTT_ENABLED", "1", Decider.README, Evidence("a/README.md", 7, "TTT_ENABLED=1")),
    Variable("WIDTH", "512", Decider.DEFAULT, Evidence(PATH, 2, "WIDTH")),
)
DOSSIER = Dossier(
    audit=Audit(
        pr=None,
        head=None,
        path=PATH,
        blob="ab" * 20,
        validity=Validity.INVALID,
        readiness=Readiness.READY,
        policy="p",
        seconds=0.1,
        findings=(PASSES, UNSURE, SURE, FAILS),
        numbers={"seeds": [1]},
        not_examined=("x.so: no source",),
    ),
    titles=("an expert", "the bytes", "too large", "training first"),
    rules=(
        RuleFact("C3", "training first", Axis.VALIDITY, 1, "a ruling", "Score a chunk first."),
        RuleFact("A1", "too large", Axis.VALIDITY, 1, "README"),
    ),
    run=RunFacts(EVENTS, VARIABLES, ((), (), (), ("TTT_ENABLED",))),
)
SUBMITTER = """\
train_gpt.py  blob abababababab
  a/

fail[C3]: training first
  trained too early
  --> train_gpt.py:3
     3 | optimizer.step()
  runs with TTT_ENABLED=1 (README.md:7)
  basis static; confidence high; precedent #568
  legal: Score a chunk first.

validity   invalid  the score does not stand under these rules
readiness  ready    what a record needs is there
advice     close    unless the score is measured again without the fault (C3)

1 fail, 2 note, 1 pass
not shown: note A1, B1
not shown: pass C2
auditor 0.1.0, policy p, rules A1.1 C3.1
"""
REVIEWER = """\
train_gpt.py  blob abababababab
  a/

fail[C3]: training first
  trained too early
  --> train_gpt.py:3
     3 | optimizer.step()
  runs with TTT_ENABLED=1 (README.md:7)
  basis static; confidence high; precedent #568

note[A1]: too large
  close to the limit
  basis log; confidence medium

validity   invalid  the score does not stand under these rules
readiness  ready    what a record needs is there
advice     close    unless the score is measured again without the fault (C3)

1 fail, 2 note, 1 pass
not shown: note B1
not shown: pass C2
not examined:
  - x.so: no source
auditor 0.1.0, policy p, rules A1.1 C3.1
"""
AUDITOR = """\
train_gpt.py  blob abababababab
  a/

fail[C3]: training first
  trained too early
  --> train_gpt.py:3
     3 | optimizer.step()
  runs with TTT_ENABLED=1 (README.md:7)
  basis static; confidence high; precedent #568
  legal: Score a chunk first.

note[A1]: too large
  close to the limit
  basis log; confidence medium

note[B1]: the bytes
  unused tokens are not asked for
  basis static; confidence low

pass[C2]: each term depends on it

validity   invalid  the score does not stand under these rules
readiness  ready    what a record needs is there
advice     close    unless the score is measured again without the fault (C3)

timeline
  ↻ 1 adapt: for epoch in range(4)
  │ TRAIN  3 adapt  <- fail[C3]
  │        all of validation; the same again each epoch
  SCORE  4 score
         all of validation; by weights trained on all of validation

what ran
  on  TTT_ENABLED=1 (README.md:7)
  1 other variables at the script's defaults

numbers
  seeds: 1

1 fail, 2 note, 1 pass
not examined:
  - x.so: no source
auditor 0.1.0, policy p, rules A1.1 C3.1
"""


@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        (Audience.SUBMITTER, SUBMITTER),
        (Audience.REVIEWER, REVIEWER),
        (Audience.AUDITOR, AUDITOR),
    ],
)
def test_the_terminal_report_for_each_reader(audience: Audience, expected: str) -> None:
    assert terminal.render([DOSSIER], View(audience)) == expected


def test_a_reviewer_who_asks_for_it_is_drawn_the_timeline() -> None:
    text = terminal.render([DOSSIER], View(timeline=True))
    drawing = AUDITOR[AUDITOR.index("timeline") : AUDITOR.index("what ran")]
    assert drawing in text
    assert "what ran" not in text


@pytest.mark.parametrize("form", [markdown, html])
def test_a_submitter_reads_what_to_mend_and_how_and_no_more(form: object) -> None:
    render = form.render  # type: ignore[attr-defined]
    submitter = render([DOSSIER], View(Audience.SUBMITTER))
    reviewer = render([DOSSIER], View(Audience.REVIEWER))
    auditor = render([DOSSIER], View(Audience.AUDITOR))
    for text in ("Legal: Score a chunk first.", "unused tokens", "The four questions"):
        assert (text in submitter) is (text == "Legal: Score a chunk first.")
    assert "Legal: Score" not in reviewer
    assert "The four questions" in reviewer
    assert "Legal: Score" in auditor
    assert all("trained too early" in text for text in (submitter, reviewer, auditor))


def test_the_json_holds_everything_whoever_reads() -> None:
    texts = {json_report.render([DOSSIER], View(audience)) for audience in Audience}
    assert len(texts) == 1
    found = json.loads(texts.pop())
    assert [f["rule"] for f in found["findings"]] == ["C2", "B1", "A1", "C3"]
    assert found["findings"][3]["decided_by"] == ["TTT_ENABLED"]
    assert [v["decided_by"] for v in found["configuration"]] == ["README", "default"]
    assert found["timeline"][0] == {
        "kind": "train",
        "path": PATH,
        "line": 3,
        "function": "adapt",
        "loops": [{"name": "epoch", "path": PATH, "line": 1, "function": "adapt"}],
        "tokens": [{"split": "validation", "pieces": [], "before": False}],
        "known": [],
        "again": ["epoch"],
        "of": [],
        "without_gradients": False,
    }


def test_a_failure_that_the_policy_only_notes_is_shown_and_decides_nothing() -> None:
    noted = replace(FAILS, rule="C5", status=Status.NOTE, reason="smears over documents")
    rules = (
        *DOSSIER.rules,
        RuleFact("C5", "a smear", Axis.VALIDITY, 1, "PR 1797", weight=Weight.NOTED),
    )
    audit = replace(DOSSIER.audit, findings=(noted, FAILS))
    text = terminal.render([replace(DOSSIER, audit=audit, rules=rules, run=RunFacts())])
    assert "smears over documents" in text
    assert text.count("noted, and decides nothing under this policy") == 1
    assert "unless the score is measured again without the fault (C3)\n" in text
