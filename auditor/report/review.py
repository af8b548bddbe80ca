"""What every report says beside the findings themselves: their order, four answers, one advice."""

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Any

from auditor.dossier import Dossier
from auditor.finding import Audit, Axis, Finding, Readiness, Status, Validity
from auditor.policy import Weight
from auditor.program.events import Kind
from auditor.report.view import QUIET, SHOWN_ORDER

OUTCOMES = {
    Validity.INVALID: "the score does not stand under these rules",
    Validity.PENDING: "the score waits for a ruling",
    Validity.UNKNOWN: "it could not be decided whether the score stands",
    Validity.VALID: "nothing was found against the score",
}
READINESS = {
    Readiness.READY: "what a record needs is there",
    Readiness.NOT_READY: "something that a record needs is missing",
    Readiness.UNKNOWN: "not everything that a record needs could be checked",
}


@dataclass(frozen=True)
class Question:
    """A question that reviewers of this challenge ask first. `answers` words the rule's status."""

    text: str
    rules: tuple[str, ...]
    consequence: str
    answers: dict[Status, str]


@dataclass(frozen=True)
class Answer:
    """The answer to a question, with the findings that it rests on."""

    question: Question
    result: str
    findings: tuple[Finding, ...]


SCORE_FIRST = Question(
    "Does the test-time training that runs score each token first?",
    ("C3",),
    "legal where it does",
    {Status.FAIL: "no", Status.PASS: "yes", Status.NOT_APPLICABLE: "none runs"},
)
QUESTIONS = (
    Question(
        "Does a table read for scoring have the target in its key (n-gram family fault)?",
        ("C2b",),
        "close trigger",
        {Status.FAIL: "yes", Status.PASS: "no", Status.NOT_APPLICABLE: "no such table"},
    ),
    Question(
        "Are weights trained on validation tokens before these are scored?",
        ("C3",),
        "close trigger",
        {Status.FAIL: "yes", Status.PASS: "no", Status.NOT_APPLICABLE: "no such training"},
    ),
    SCORE_FIRST,
    Question(
        "Is a per-window delta or bias (SLOT) fitted on the positions that it scores?",
        ("C7",),
        "pending issue 1336",
        {Status.FAIL: "yes", Status.PASS: "no", Status.NOT_APPLICABLE: "no SLOT"},
    ),
)
COMMON_ANSWERS = {
    Status.PENDING: "pending a ruling",
    Status.UNKNOWN: "unknown",
    Status.NOTE: "see the note",
}
NO_RULE = "not examined: this version has no rule for it"


def answers(dossier: Dossier) -> list[Answer]:
    """The four questions, answered from the findings; whether anything is trained on validation
    tokens at all, from the timeline."""
    audit = dossier.audit
    found = []
    for question in QUESTIONS:
        findings = [f for f in audit.findings if f.rule in question.rules]
        if not findings:
            found.append(Answer(question, NO_RULE, ()))
            continue
        order = (*SHOWN_ORDER, *QUIET)
        gravest = min((f.status for f in findings), key=order.index)
        wording = {**COMMON_ANSWERS, **question.answers}
        if question is SCORE_FIRST and _trains_on_no_validation_token(dossier):
            wording[Status.PASS] = question.answers[Status.NOT_APPLICABLE]
        found.append(
            Answer(
                question,
                wording[gravest],
                tuple(finding for finding in findings if finding.status == gravest),
            )
        )
    return found


def _trains_on_no_validation_token(dossier: Dossier) -> bool:
    """True if the timeline is known and no training in it touches the validation split."""
    trained = {
        span.split
        for event in dossier.run.timeline
        if event.kind is Kind.TRAIN
        for span in event.spans
    }
    return bool(dossier.run.timeline) and "validation" not in trained


def recommendation(dossier: Dossier) -> str:
    """Merge, hold or close, and on what condition."""
    audit = dossier.audit
    axes = {rule.id: rule.axis for rule in dossier.rules}

    def rules_with(status: Status, axis: Axis, *weights: Weight) -> set[str]:
        return {
            f.rule
            for f in audit.findings
            if f.status == status
            and axes.get(f.rule) == axis
            and dossier.weight(f) in (weights or (Weight.BREAKS, Weight.WAITS))
        }

    def named(rules: set[str]) -> str:
        return ", ".join(sorted(rules))

    if audit.validity == Validity.INVALID:
        failed = rules_with(Status.FAIL, Axis.VALIDITY)
        return f"close, unless the score is measured again without the fault ({named(failed)})"
    if audit.validity == Validity.PENDING:
        waiting = rules_with(Status.PENDING, Axis.VALIDITY)
        waiting |= rules_with(Status.FAIL, Axis.VALIDITY, Weight.WAITS)
        return f"hold, until there is a ruling ({named(waiting)})"
    if audit.validity == Validity.UNKNOWN:
        return "hold, until what was not examined has been read by somebody"
    if audit.readiness == Readiness.NOT_READY:
        missing = rules_with(Status.FAIL, Axis.READINESS)
        return f"hold, until what is missing is there ({named(missing)})"
    if audit.readiness == Readiness.UNKNOWN:
        return "hold, until the readiness that could not be checked is confirmed"
    return "merge, as far as these rules reach"


def basis(dossier: Dossier, finding: Finding) -> list[str]:
    """From where a finding is known, how surely, and whether it decides anything."""
    facts = [f"basis {finding.basis.value}", f"confidence {finding.confidence.value}"]
    if finding.status is Status.NOTE and dossier.weight(finding) is Weight.NOTED:
        facts.append("noted, and decides nothing under this policy")
    return facts


def outcome(audit: Audit) -> str:
    """The verdict in one neutral line."""
    words = f"{OUTCOMES[audit.validity]}; {READINESS[audit.readiness]}."
    return words[0].upper() + words[1:]


def counts(audit: Audit) -> str:
    """How many findings there are of each status, in words."""
    tally = Counter(finding.status for finding in audit.findings)
    parts = [f"{tally[s]} {s.value}" for s in (*SHOWN_ORDER, *QUIET) if tally[s]]
    return ", ".join(parts) or "no findings"


def by_axis(dossier: Dossier) -> list[tuple[Axis, list[Finding]]]:
    """Every finding under the question that it answers, by rule; axes without one are left out."""
    axes = {rule.id: rule.axis for rule in dossier.rules}
    found = [
        (axis, [f for f in dossier.audit.findings if axes.get(f.rule, Axis.VALIDITY) is axis])
        for axis in Axis
    ]
    return [(axis, sorted(own, key=lambda f: f.rule)) for axis, own in found if own]


def figure(name: str, value: Any) -> str:
    """One of an audit's numbers in words; sizes are grouped by thousands."""
    if isinstance(value, list | tuple):
        return ", ".join(figure(name, item) for item in value)
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.8g}"
    return f"{value:,}" if "bytes" in name else str(value)


def rerun(dossier: Dossier) -> str:
    """The command that makes this report again."""
    audit = dossier.audit
    flags = " --dynamic" if dossier.dynamic else ""
    for name, value in audit.overrides.items():
        flags += f" --set {shlex.quote(f'{name}={value}')}"
    if audit.pr is not None and audit.head is not None:
        target = f"--repo CLONE --pr {audit.pr} --at {audit.head}"
    else:
        target = shlex.quote(audit.path)
    return f"auditor audit {target}{flags} --policy {audit.policy}"


def witness_name(audit: Audit, finding: Finding) -> str:
    """The file name under which a finding's witness is kept."""
    with_witness = [f for f in audit.findings if f.rule == finding.rule and f.witness is not None]
    index = next(number for number, own in enumerate(with_witness, 1) if own is finding)
    return f"witness-{finding.rule}-{audit.blob[:12]}{f'-{index}' if index > 1 else ''}.json"
