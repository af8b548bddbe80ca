"""F1: the claimed score is not what the shipped logs report."""

from collections.abc import Iterator

from auditor.evidence.ledger import check_claim, scores_by_tag
from auditor.finding import Axis, Basis, Confidence, Finding, Status
from auditor.rules.base import Context, Rule

NEAR = 1e-3  # bits per byte: a slip of the pen, or another mean


class ClaimNotLogged(Rule):
    """Holds the claim against what the logs print after training, tag by tag."""

    id = "F1"
    title = "the claimed score is in no log"
    axis = Axis.READINESS
    what = (
        "The score of submission.json is neither the mean over the runs of any tag in the logs, "
        "nor the score of one run. More than 0.001 bits per byte away from the last tag it fails; "
        "less is noted, and so is a claim that equals one of several runs instead of their mean."
    )
    why = "A score that the shipped evidence does not give cannot be checked by anybody."
    source = "README: a train log is part of a submission; the figures of PR 2076 did not agree"
    precedents = ("#2076",)
    legal = "A claim that is rounded; logs of further runs beside those that the claim is about."
    known_misses = ("a claim that equals, by chance, a score of another evaluation",)

    def check(self, context: Context) -> Iterator[Finding]:
        """One finding for the claim, with its line and the nearest tag's."""
        described = context.claims.submission_json
        claim = described.val_bpb if described is not None else None
        check = check_claim(claim, scores_by_tag(context.claims))
        if check is None or check.scores is None:
            yield self.finding(
                Status.NOT_APPLICABLE, "no claim and log to compare", basis=Basis.CLAIM
            )
            return
        places = (check.claim.evidence, *(m.evidence for m in check.scores.metrics[:3]))
        if check.basis == "mean":
            status, words = Status.PASS, f"the claim is {check.words()}"
        elif check.basis == "run":
            status, words = Status.NOTE, f"the claim is {check.words()}"
        else:
            off = abs(check.difference or 0.0)
            status = Status.FAIL if off > NEAR else Status.NOTE
            words = f"the claim is {check.words()}: {off:.5f} bits per byte away"
        yield self.finding(status, words, places, basis=Basis.CLAIM, confidence=Confidence.MEDIUM)
