"""What every report says beside the findings themselves: their order, four answers, one advice."""

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from auditor.dossier import Dossier
from auditor.finding import (
    Audit,
    Axis,
    Basis,
    Evidence,
    Finding,
    Readiness,
    Status,
    Validity,
)
from auditor.policy import Weight
from auditor.program.events import Kind
from auditor.program.what_ran import Variable
from auditor.report.view import QUIET, SHOWN_ORDER, View

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
    """The answer to a question, with the findings that it rests on, and places to look at. `why`
    says why it is unknown, or is empty.
    """

    question: Question
    result: str
    findings: tuple[Finding, ...]
    places: tuple[Evidence, ...] = ()
    why: str = ""

    @property
    def precedents(self) -> tuple[str, ...]:
        """What its findings cite, each once."""
        return tuple(dict.fromkeys(p for f in self.findings for p in f.precedent))


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
    tokens at all, and where, from the timeline."""
    return [_answer(dossier, question) for question in QUESTIONS]


def _answer(dossier: Dossier, question: Question) -> Answer:
    findings = [f for f in dossier.audit.findings if f.rule in question.rules]
    # A probe that could not look leaves standing what reading the code has shown.
    findings = [f for f in findings if not _mute(f)] or findings
    if not findings:
        return Answer(question, NO_RULE, ())
    order = (*SHOWN_ORDER, *QUIET)
    gravest = min((f.status for f in findings), key=order.index)
    chosen = tuple(f for f in findings if f.status == gravest)
    wording = {**COMMON_ANSWERS, **question.answers}
    places = dict.fromkeys(e for f in chosen for e in f.evidence[:2])
    if question is SCORE_FIRST and gravest is Status.PASS:
        adapted = _score_and_training(dossier)
        if adapted is None:
            wording[Status.PASS] = question.answers[Status.NOT_APPLICABLE]
        else:
            places = dict.fromkeys((*adapted, *places))
    why = "; ".join(dict.fromkeys(f.reason for f in chosen)) if gravest is Status.UNKNOWN else ""
    return Answer(question, wording[gravest], chosen, tuple(places), why)


def _mute(finding: Finding) -> bool:
    return finding.status is Status.UNKNOWN and finding.basis is Basis.DYNAMIC


def _score_and_training(dossier: Dossier) -> tuple[Evidence, ...] | None:
    """Where validation tokens are scored by weights that were trained on others, and where these
    are trained. None if the timeline is known and trains on no validation token."""
    timeline = dossier.run.timeline
    trained = [
        event
        for event in timeline
        if event.kind is Kind.TRAIN and any(span.split == "validation" for span in event.spans)
    ]
    if timeline and not trained:
        return None
    scored = [event for event in timeline if event.kind is Kind.SCORE and event.known]
    lines = [event.line for events in (scored, trained) for event in events[:1]]
    return tuple(Evidence(line.path, line.line, line.text) for line in lines)


@dataclass(frozen=True)
class Spelled:
    """A finding that a report spells out, with those that say the same of other places."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The one whose words stand for all."""
        return self.findings[0]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The places of all, each once."""
        return tuple(dict.fromkeys(e for finding in self.findings for e in finding.evidence))

    def deciding(self, dossier: Dossier) -> list[Variable]:
        """The variables that decide whether any of the lines runs."""
        found = [v for finding in self.findings for v in dossier.deciding(finding)]
        return list({variable.name: variable for variable in found}.values())


def spelled(dossier: Dossier, view: View) -> list[Spelled]:
    """What a report spells out: every finding that says something of a place or decides it."""
    groups: dict[tuple[Any, ...], list[Finding]] = {}
    for finding in view.findings(dossier.audit):
        if finding.status not in QUIET and not _placeless(finding):
            words = (
                finding.rule,
                finding.status,
                finding.basis,
                finding.reason,
                finding.confidence,
            )
            same = None if finding.witness is None else id(finding)
            groups.setdefault((*words, dossier.title(finding), same), []).append(finding)
    return [Spelled(tuple(own)) for own in groups.values()]


def undecided(dossier: Dossier, view: View) -> list[tuple[str, tuple[str, ...]]]:
    """Why something could not be decided, and the rules that it concerns."""
    groups: dict[str, list[str]] = {}
    for finding in view.findings(dossier.audit):
        if _placeless(finding):
            groups.setdefault(finding.reason, []).append(finding.rule)
    return [(reason, tuple(dict.fromkeys(rules))) for reason, rules in groups.items()]


def _placeless(finding: Finding) -> bool:
    return finding.status is Status.UNKNOWN and not finding.evidence


def not_examined(dossier: Dossier) -> list[str]:
    """What the audit did not look at, with paths as seen from the script's folder."""
    return [text.removeprefix(dossier.folder) for text in dossier.audit.not_examined]


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


def counts(findings: Iterable[Finding]) -> str:
    """How many findings there are of each status, in words."""
    tally = Counter(finding.status for finding in findings)
    parts = [f"{tally[s]} {s.value}" for s in (*SHOWN_ORDER, *QUIET) if tally[s]]
    return ", ".join(parts) or "no findings"


@dataclass(frozen=True)
class Ruling:
    """What one rule says with one status: a row of a report's table of rules."""

    rule: str
    status: Status
    findings: tuple[Finding, ...]

    @property
    def basis(self) -> str:
        """From where it is known."""
        return ", ".join(dict.fromkeys(finding.basis.value for finding in self.findings))

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The first places of its findings, each once."""
        return tuple(dict.fromkeys(e for own in self.findings for e in own.evidence[:2]))[:4]

    @property
    def precedents(self) -> str:
        """What its findings cite, each once."""
        return ", ".join(dict.fromkeys(p for own in self.findings for p in own.precedent))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What its findings say, each once."""
        return tuple(dict.fromkeys(finding.reason for finding in self.findings))


def by_axis(dossier: Dossier) -> list[tuple[Axis, list[Ruling]]]:
    """What every rule says under the question that it answers, if it says anything: where one
    way of looking does not apply and another does, the latter. Axes without a rule are left out."""
    axes = {rule.id: rule.axis for rule in dossier.rules}
    order = (*SHOWN_ORDER, *QUIET)
    found = []
    for axis in Axis:
        groups: dict[tuple[str, Status], list[Finding]] = {}
        for finding in dossier.audit.findings:
            if axes.get(finding.rule, Axis.VALIDITY) is axis:
                groups.setdefault((finding.rule, finding.status), []).append(finding)
        telling = {rule for rule, status in groups if status is not Status.NOT_APPLICABLE}
        rulings = [
            Ruling(rule, status, tuple(own))
            for (rule, status), own in groups.items()
            if status is not Status.NOT_APPLICABLE or rule not in telling
        ]
        rulings.sort(key=lambda ruling: (ruling.rule, order.index(ruling.status)))
        found.append((axis, rulings))
    return [(axis, rulings) for axis, rulings in found if rulings]


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
    elif audit.head is not None:
        target = f"--repo CLONE --base BASE --at {audit.head}"
    else:
        target = shlex.quote(audit.path)
    return f"auditor audit {target}{flags} --policy {audit.policy}"


def witness_name(audit: Audit, finding: Finding) -> str:
    """The file name under which a finding's witness is kept."""
    with_witness = [f for f in audit.findings if f.rule == finding.rule and f.witness is not None]
    index = next(number for number, own in enumerate(with_witness, 1) if own is finding)
    return f"witness-{finding.rule}-{audit.blob[:12]}{f'-{index}' if index > 1 else ''}.json"
