"""F1: a record folder lacks a file that the challenge asks for."""

from collections.abc import Iterator

from auditor.finding import Axis, Basis, Finding, Status
from auditor.rules.base import Context, Rule


class MissingFiles(Rule):
    """Looks at what lies in the folder, not at what is written in it."""

    id = "F1"
    title = "a required file is missing"
    axis = Axis.READINESS
    what = "The record folder lacks README.md, submission.json or a log, or one is unreadable."
    why = "Without them nobody can tell what was run, under which settings, and what came out."
    source = "README: files of a submission; audit notes on PRs 2013 and 2103"
    precedents = ("#2013", "#2103")
    legal = "Any further file; any name for a log."

    def check(self, context: Context) -> Iterator[Finding]:
        """One finding that names everything missing."""
        if not context.submission.is_folder:
            yield self.finding(Status.NOT_APPLICABLE, "a lone script has no folder")
            return
        names = {path.rpartition("/")[2].lower() for path in context.submission.files}
        missing = [n for n in ("README.md", "submission.json") if n.lower() not in names]
        if not context.claims.logs:
            missing.append("a training log")
        problems = context.claims.problems
        if missing or problems:
            said = [f"missing: {', '.join(missing)}"] if missing else []
            said += [f"unreadable: {', '.join(p.path for p in problems)}"] if problems else []
            yield self.finding(Status.FAIL, "; ".join(said), problems, basis=Basis.CLAIM)
        else:
            yield self.finding(
                Status.PASS, "README.md, submission.json and a log are there", basis=Basis.CLAIM
            )
