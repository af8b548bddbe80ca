"""The findings as SARIF 2.1.0, for code-scanning services and editors.

A finding's evidence is a code flow: the places in the order in which the reason names them. What a
rule passes is no result; what waits for a ruling is one to review. Lines of a packed script belong
to an artifact inside of the shipped file, so a result stands at the shipped file too.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import auditor
from auditor.dossier import Dossier, RuleFact
from auditor.finding import Axis, Evidence, Finding, Status
from auditor.policy import Weight
from auditor.report import review
from auditor.report.text import visible
from auditor.report.view import DEFAULT, View

SCHEMA_URI = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
UNPACKED = "!unpacked"
MAX_TEXT = 2000
# Status to SARIF's kind and level: a level other than none goes with kind `fail` alone.
KINDS = {
    Status.FAIL: ("fail", "error"),
    Status.NOTE: ("fail", "note"),
    Status.PENDING: ("review", "none"),
    Status.UNKNOWN: ("open", "none"),
    Status.PASS: ("pass", "none"),
    Status.NOT_APPLICABLE: ("notApplicable", "none"),
}


def render(dossiers: Sequence[Dossier], view: View = DEFAULT) -> str:
    """One SARIF log with a run for each script. The same input gives the same bytes."""
    log = {
        "$schema": SCHEMA_URI,
        "version": "2.1.0",
        "runs": [_Run(dossier, view).to_json() for dossier in dossiers],
    }
    return json.dumps(log, indent=1, ensure_ascii=False) + "\n"


class _Run:
    """One script's run; artifacts are numbered as results name them."""

    def __init__(self, dossier: Dossier, view: View) -> None:
        self.dossier = dossier
        self.audit = dossier.audit
        self.results = view.findings(dossier.audit)
        known = {rule.id: rule for rule in dossier.rules}
        self.rules = [known[name] for name in sorted(known)]
        self.hashes = {file.path: file.blob for file in dossier.files if file.blob}
        self.hashes.setdefault(self.audit.path, self.audit.blob)
        self.artifacts: dict[str, int] = {}

    def to_json(self) -> dict[str, Any]:
        """The run's object."""
        results = [self._result(finding) for finding in self.results]
        run: dict[str, Any] = {
            "tool": {
                "driver": {
                    "name": "auditor",
                    "version": auditor.__version__,
                    "semanticVersion": auditor.__version__,
                    "rules": [_rule(rule) for rule in self.rules],
                    "properties": {"policy": self.audit.policy},
                }
            },
            "automationDetails": {"id": f"parameter-golf/{_uri(self.audit.path)}/"},
            "columnKind": "unicodeCodePoints",
            "invocations": [
                {
                    "executionSuccessful": True,
                    "toolExecutionNotifications": [
                        {"level": "note", "message": _message(text)}
                        for text in self.audit.not_examined
                    ],
                }
            ],
            "results": results,
            "properties": {
                "validity": self.audit.validity.value,
                "readiness": self.audit.readiness.value,
                "outcome": review.outcome(self.audit),
                "rerun": review.rerun(self.dossier),
            },
        }
        run["artifacts"] = [self._artifact(path) for path in self.artifacts]
        return run

    def _result(self, finding: Finding) -> dict[str, Any]:
        kind, level = KINDS[finding.status]
        result: dict[str, Any] = {
            "ruleId": finding.rule,
            "kind": kind,
            "level": level,
            "message": _message(finding.reason),
            "locations": [self._shown(finding)],
            "partialFingerprints": {"findingHash/v1": fingerprint(self.dossier, finding)},
            "properties": {
                "basis": finding.basis.value,
                "confidence": finding.confidence.value,
                "status": finding.status.value,
                "precedent": list(finding.precedent),
            },
        }
        index = next((i for i, rule in enumerate(self.rules) if rule.id == finding.rule), None)
        if index is not None:
            result["ruleIndex"] = index
        flow = [{"location": self._location(e)} for e in finding.evidence]
        if flow:
            result["codeFlows"] = [{"threadFlows": [{"locations": flow}]}]
        if finding.witness is not None:
            name = review.witness_name(self.audit, finding)
            result["properties"]["replay"] = f"auditor replay {name}"
        return result

    def _shown(self, finding: Finding) -> dict[str, Any]:
        """Where a result stands: its first place in a shipped file, else the script."""
        shipped = (e for e in finding.evidence if not e.path.endswith(UNPACKED))
        return self._location(next(shipped, Evidence(self.audit.path, 0, "")))

    def _location(self, evidence: Evidence) -> dict[str, Any]:
        index = self._index(evidence.path)
        place: dict[str, Any] = {"artifactLocation": {"uri": _uri(evidence.path), "index": index}}
        if evidence.line:
            place["region"] = {"startLine": evidence.line}
            if evidence.text:
                place["region"]["snippet"] = {"text": visible(evidence.text)}
        location: dict[str, Any] = {"physicalLocation": place}
        if evidence.text:
            location["message"] = _message(evidence.text)
        return location

    def _index(self, path: str) -> int:
        if path.endswith(UNPACKED):
            self._index(path.removesuffix(UNPACKED))  # a parent comes before what it holds
        return self.artifacts.setdefault(path, len(self.artifacts))

    def _artifact(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {"location": {"uri": _uri(path), "index": self.artifacts[path]}}
        if path.endswith(UNPACKED):
            found["parentIndex"] = self.artifacts[path.removesuffix(UNPACKED)]
            found["contents"] = {"text": self.dossier.sources.get(path, "")}
        elif path in self.hashes:
            found["hashes"] = {"git-blob-sha-1": self.hashes[path]}
        return found


def fingerprint(dossier: Dossier, finding: Finding) -> str:
    """What stays the same of a finding when lines move: its rule and the text that it rests on."""
    parts: Iterable[str] = (
        finding.rule,
        finding.basis.value,
        dossier.short(dossier.audit.path),
        *(f"{dossier.short(e.path)}\0{' '.join(e.text.split())}" for e in finding.evidence),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _rule(rule: RuleFact) -> dict[str, Any]:
    level = "error" if rule.weight is Weight.BREAKS else "note"
    described: dict[str, Any] = {
        "id": rule.id,
        "name": rule.title,
        "shortDescription": _message(rule.title),
        "fullDescription": _message(rule.source),
        "defaultConfiguration": {"level": level},
        "properties": {
            "version": rule.version,
            "weight": rule.weight.value,
            "tags": [rule.axis.value, "parameter-golf"],
            "problem.severity": "error" if rule.axis is Axis.VALIDITY else "warning",
        },
    }
    if rule.legal:
        described["help"] = _message(f"Legal: {rule.legal}")
    return described


def _message(text: str) -> dict[str, str]:
    """A message: its braces would be placeholders unless doubled, its `[a](b)` a link."""
    shown = visible(text, MAX_TEXT) or "(nothing)"
    return {"text": shown.replace("{", "{{").replace("}", "}}").replace("](", "] (")}


def _uri(path: str) -> str:
    return quote(path, safe="/!")
