"""S2: fewer than three seeds, or runs of different configurations."""

from collections.abc import Iterator

from auditor.evidence.ledger import differences
from auditor.finding import Axis, Basis, Confidence, Evidence, Finding, Status
from auditor.rules.base import Context, Rule
from auditor.rules.track import outside_the_record_track

WANTED = 3
SHOWN = 4  # hyperparameters that a reason names


class TooFewSeeds(Rule):
    """Counts the seeds that submission.json and logs name, and compares the logs' dumps."""

    id = "S2"
    title = "not three seeds of one configuration"
    axis = Axis.READINESS
    what = (
        "A record that names fewer than three seeds is not ready. Logs that dump hyperparameters "
        "which are not the same, seeds and paths apart, are noted. How sure a gain is stands among "
        "the figures of the report, with the seeds that are still needed."
    )
    why = (
        "Seeds of one submission lie 0.0008 bits per byte apart, as much as a record often gains; "
        "a mean over different configurations is the score of none."
    )
    source = (
        "README: most often an average over 3 training runs is sufficient; one seed was held "
        "against PRs 1963 and 2020, a third seed of another configuration against PR 2124"
    )
    precedents = ("#1963", "#2020", "#2124")
    legal = "Logs of further runs and ablations, if the record's own runs are named."
    known_misses = ("differences that no log prints",)
    version = 2

    def check(self, context: Context) -> Iterator[Finding]:
        """The seeds, and the first hyperparameters that differ."""
        if not context.submission.is_folder or outside_the_record_track(context):
            yield self.finding(Status.NOT_APPLICABLE, "no record is claimed", basis=Basis.CLAIM)
            return
        seeds = context.claims.seeds
        status = Status.PASS if len(seeds) >= WANTED else Status.FAIL
        named = ", ".join(map(str, seeds[:12])) or "none"
        yield self.finding(status, f"seeds named: {named}", basis=Basis.CLAIM)
        found = differences(context.claims.logs)
        if found:
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            names = ", ".join(difference.name for difference in found[:SHOWN])
            path, line, text = found[0].values[0]
            yield self.finding(
                Status.NOTE,
                f"the logs differ in {names}{more}",
                (Evidence(path, line, f"{found[0].name}: {text}"),),
                basis=Basis.LOG,
                confidence=Confidence.MEDIUM,
            )
