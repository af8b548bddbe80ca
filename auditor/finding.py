"""The words of an audit: findings, the verdict on two axes, and the record that holds them.

The JSON made here is the public contract (`schema` 1): names never change within a schema version.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = 1


class Status(StrEnum):
    """What a rule says of a submission."""

    FAIL = "fail"
    NOTE = "note"
    PASS = "pass"
    PENDING = "pending"  # waits for a ruling; never turned into `fail`
    UNKNOWN = "unknown"  # could not be analysed
    NOT_APPLICABLE = "n/a"


class Basis(StrEnum):
    """From where a finding is known."""

    STATIC = "static"
    LOG = "log"
    CLAIM = "claim"
    DYNAMIC = "dynamic"


class Confidence(StrEnum):
    """How sure the finding is. A `low` one alone never makes a submission invalid."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Axis(StrEnum):
    """Which of the two questions a rule answers; they are never mixed."""

    VALIDITY = "validity"
    READINESS = "readiness"


class Validity(StrEnum):
    """Does the score stand?"""

    VALID = "valid"
    INVALID = "invalid"
    PENDING = "pending"
    UNKNOWN = "unknown"


class Readiness(StrEnum):
    """Is everything there that a record needs?"""

    READY = "ready"
    NOT_READY = "not-ready"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Evidence:
    """A place that anybody can look at. `line` counts from 1; 0 means the file as a whole.

    For a packed script, `path` is the shipped file followed by `!unpacked`, and `line` counts in
    the unpacked source.
    """

    path: str
    line: int
    text: str

    def to_json(self) -> dict[str, Any]:
        """The contract's object."""
        return {"path": self.path, "line": self.line, "text": self.text}


@dataclass(frozen=True)
class Finding:
    """One thing that one rule says, with what it rests on."""

    rule: str
    status: Status
    basis: Basis
    confidence: Confidence
    reason: str
    evidence: tuple[Evidence, ...] = ()
    precedent: tuple[str, ...] = ()
    witness: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The contract's object."""
        return {
            "rule": self.rule,
            "status": self.status.value,
            "basis": self.basis.value,
            "confidence": self.confidence.value,
            "reason": self.reason,
            "evidence": [e.to_json() for e in self.evidence],
            "precedent": list(self.precedent),
            "witness": dict(self.witness) if self.witness is not None else None,
        }


@dataclass(frozen=True)
class Audit:
    """Everything said about one script. `seconds` is wall time; `blob` is git's hash of `path`.

    `overrides` are environment variables that the audit set against what the files tell: with any,
    it speaks of another run than the submitted one.
    """

    pr: int | None
    head: str | None
    path: str
    blob: str
    validity: Validity
    readiness: Readiness
    policy: str
    seconds: float
    findings: tuple[Finding, ...]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    not_examined: tuple[str, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The contract's object: `audit --format json`, and one line of `results.jsonl`."""
        return {
            "schema": SCHEMA,
            "pr": self.pr,
            "head": self.head,
            "path": self.path,
            "blob": self.blob,
            "validity": self.validity.value,
            "readiness": self.readiness.value,
            "policy": self.policy,
            "seconds": round(self.seconds, 4),
            "findings": [f.to_json() for f in self.findings],
            "numbers": dict(self.numbers),
            "not_examined": list(self.not_examined),
            "overrides": dict(self.overrides),
        }
