"""For whom a report is: what it shows, and what it leaves to the JSON, which holds everything."""

from dataclasses import dataclass
from enum import StrEnum

from auditor.finding import Audit, Confidence, Finding, Status

# What matters most comes first.
MENDED = (Status.FAIL, Status.PENDING, Status.UNKNOWN)
SHOWN_ORDER = (*MENDED, Status.NOTE)
QUIET = (Status.PASS, Status.NOT_APPLICABLE)


class Audience(StrEnum):
    """Who reads."""

    SUBMITTER = "submitter"  # what must be mended, and how
    REVIEWER = "reviewer"  # what was found, with precedents and the four questions
    AUDITOR = "auditor"  # everything: passes, doubts, timeline, configuration


@dataclass(frozen=True)
class View:
    """A report's reader, and whether the timeline is drawn for others than auditors too.

    With `excerpts` a report holds of a script only the lines that it speaks of, and of a witness
    everything but the script, which its hash names: for a report that is published elsewhere.
    """

    audience: Audience = Audience.REVIEWER
    timeline: bool = False
    excerpts: bool = False

    @property
    def mends(self) -> bool:
        """Whether a finding says how it is mended."""
        return self.audience is not Audience.REVIEWER

    @property
    def history(self) -> bool:
        """Whether the timeline is drawn where it does not always stand."""
        return self.timeline or self.audience is Audience.AUDITOR

    def shows(self, finding: Finding) -> bool:
        """Whether a finding is spelled out."""
        if self.audience is Audience.AUDITOR:
            return True
        if finding.status is Status.NOTE:
            sure = finding.confidence is not Confidence.LOW
            return sure and self.audience is Audience.REVIEWER
        return finding.status in MENDED

    def findings(self, audit: Audit) -> list[Finding]:
        """The findings that are spelled out, the gravest first, each rule's together."""
        order = (*SHOWN_ORDER, *QUIET)
        shown = [finding for finding in audit.findings if self.shows(finding)]
        return sorted(shown, key=lambda f: (order.index(f.status), f.rule))

    def hidden(self, audit: Audit) -> list[str]:
        """What is not spelled out, by status: `pass C3, C2`."""
        lines = []
        for status in Status:
            rules = {f.rule for f in audit.findings if f.status is status and not self.shows(f)}
            if rules:
                lines.append(f"{status.value} {', '.join(sorted(rules))}")
        return lines


DEFAULT = View()
