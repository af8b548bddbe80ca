"""The shape of a rule. Each lives in a file named after what is wrong, as one class.

A rule reads a `Context` and yields findings; it never reads files and never runs code. Its class
attributes are its page: `auditor rules ID` prints them, and the examples are its tests.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from auditor.evidence.claims import Claims
from auditor.finding import Axis, Basis, Confidence, Evidence, Finding, Status
from auditor.program.configuration import Configuration, read_configuration
from auditor.program.dataflow.interpreter import interpret
from auditor.program.dataflow.machine import Trace
from auditor.program.dataflow.marks import Place
from auditor.program.index import Program
from auditor.submission.model import Submission


@dataclass(frozen=True)
class Context:
    """What rules may look at. `dynamic` holds the probes' results by probe name, if any ran.

    `overrides` are environment variables that the audit sets against what the files tell.
    """

    submission: Submission
    program: Program
    claims: Claims
    dynamic: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def configuration(self) -> Configuration:
        """The environment of the submitted run, or of the one that was asked about."""
        return read_configuration(self.submission, self.claims).overridden(self.overrides)

    @cached_property
    def trace(self) -> Trace:
        """The script's data flow under that environment; interpreted once, when first asked for."""
        return interpret(self.program, self.configuration)

    def evidence(self, place: Place) -> Evidence:
        """A line of the program, to be quoted."""
        for module in self.program.modules:
            if module.path == place.path:
                return Evidence(place.path, place.line, module.line(place.line)[:200])
        return Evidence(place.path, place.line, "")


class Rule(ABC):
    """One rule of the rulebook."""

    id: ClassVar[str]  # as in the rulebook: C2, C2b, C3, A1, ...
    title: ClassVar[str]  # what is wrong, in one line
    axis: ClassVar[Axis]
    what: ClassVar[str]  # what the rule finds
    why: ClassVar[str]  # why it makes a score unreal
    source: ClassVar[str]  # the ruling it rests on
    precedents: ClassVar[tuple[str, ...]] = ()  # PRs of the field
    legal: ClassVar[str] = ""  # the legal look-alikes and the legal variant
    valid: ClassVar[tuple[str, ...]] = ()  # sources that must not fire
    invalid: ClassVar[tuple[str, ...]] = ()  # sources that must fire
    known_misses: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1

    def finding(
        self,
        status: Status,
        reason: str,
        evidence: tuple[Evidence, ...] = (),
        *,
        basis: Basis = Basis.STATIC,
        confidence: Confidence = Confidence.HIGH,
    ) -> Finding:
        """A finding of this rule; a failure carries the rule's precedents."""
        cited = self.precedents if status in (Status.FAIL, Status.PENDING) else ()
        return Finding(self.id, status, basis, confidence, reason, evidence, cited)

    def doubtful(
        self,
        context: Context,
        reason: str,
        evidence: tuple[Evidence, ...],
        doubts: Set[Place | None],
    ) -> Finding:
        """A failure; of low confidence where each way to it leads over a branch in doubt."""
        if None in doubts:
            return self.finding(Status.FAIL, reason, evidence)
        branches = tuple(context.evidence(d) for d in doubts if d is not None)
        reason += "; but no log holds any of the lines that this branch prints"
        return self.finding(Status.FAIL, reason, evidence + branches, confidence=Confidence.LOW)

    def unread(self, context: Context) -> Finding | None:
        """The finding for a script whose data flow could not be followed, if that is so."""
        if context.trace.problem is None:
            return None
        return self.finding(Status.UNKNOWN, f"not analysed: {context.trace.problem}")

    @abstractmethod
    def check(self, context: Context) -> Iterator[Finding]:
        """Yields what it found: at least one finding, `pass` or `n/a` included."""
