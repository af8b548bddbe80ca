"""The findings as workflow commands, which GitHub shows beside the lines of a pull request."""

from collections.abc import Sequence

from auditor.dossier import Dossier
from auditor.finding import Finding, Status
from auditor.report import review
from auditor.report.text import visible
from auditor.report.view import DEFAULT, QUIET, View

COMMANDS = {Status.FAIL: "error", Status.PENDING: "warning", Status.UNKNOWN: "warning"}
MAX_MESSAGE = 1000


def render(dossiers: Sequence[Dossier], view: View = DEFAULT) -> str:
    """A command for each finding that is shown, and a notice with each script's outcome."""
    lines = []
    for dossier in dossiers:
        shown = [f for f in view.findings(dossier.audit) if f.status not in QUIET]
        lines += [_command(dossier, finding) for finding in shown]
        path = _property(dossier.audit.path)
        lines.append(f"::notice file={path},title=Audit::{_data(review.outcome(dossier.audit))}")
    return "".join(line + "\n" for line in lines)


def _command(dossier: Dossier, finding: Finding) -> str:
    place = next((e for e in finding.evidence if not e.path.endswith("!unpacked")), None)
    where = f"file={_property(place.path if place else dossier.audit.path)}"
    if place is not None and place.line:
        where += f",line={place.line}"
    title = _property(f"{finding.rule}: {dossier.title(finding)}")
    command = COMMANDS.get(finding.status, "notice")
    return f"::{command} {where},title={title}::{_data(finding.reason)}"


def _data(text: str) -> str:
    """A message: nothing in it can end the line and begin another command."""
    shown = visible(text, MAX_MESSAGE)
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
