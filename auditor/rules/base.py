"""The shape of a rule. Each lives in a file named after what is wrong, as one class.

A rule reads a `Context` and yields findings; it never reads files and never runs code. Its class
attributes are its page: `auditor rules ID` prints them, and the examples are its tests.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from auditor.evidence.claims import Claims
from auditor.finding import Axis, Finding
from auditor.program.index import Program
from auditor.submission.model import Submission


@dataclass(frozen=True)
class Context:
    """What rules may look at. `dynamic` holds the probes' results by probe name, if any ran."""

    submission: Submission
    program: Program
    claims: Claims
    dynamic: Mapping[str, Any] = field(default_factory=dict)


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

    @abstractmethod
    def check(self, context: Context) -> Iterator[Finding]:
        """Yields what it found: at least one finding, `pass` or `n/a` included."""
