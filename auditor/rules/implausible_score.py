"""R1: a score that nothing in the submission can account for."""

from collections.abc import Iterator

from auditor.evidence.figures import Figure
from auditor.finding import Axis, Basis, Confidence, Evidence, Finding, Status
from auditor.rules.base import Context, Rule

LOWEST = 1.0  # bits a byte; the lowest row that stood is at 1.0565
NEARLY = 0.01  # of a score: the mean of seeds and one of them are the same claim


class ImplausibleScore(Rule):
    """Holds the claimed score against what has ever been reached by fair means."""

    id = "R1"
    title = "the score is lower than anything that has been shown to be possible"
    axis = Axis.VALIDITY
    what = (
        "The submission claims less than one bit a byte, and a log or the README shows the same "
        "score. The lowest row that stood on the leaderboard needs 1.0565."
    )
    why = (
        "A score is the length of a code for the text. Sixteen megabytes that are made in ten "
        "minutes do not hold enough to predict this text so well: of the reviewed submissions "
        "below one bit a byte none stood. Where no other rule names the cause, it is something "
        "that a static reading does not see: a network that looks ahead, a text that was changed, "
        "a script other than the one that was run."
    )
    source = (
        "README: scores must be reproducible from the submission; the lowest row that stood is "
        "1.05651, of PR 2135"
    )
    precedents = ("#568", "#779", "#945")
    legal = (
        "Whatever the score, what settles it is a measurement: the sum of the probabilities over "
        "the vocabulary, and logits that do not move when a later token changes."
    )
    known_misses = ("an unreal score that is not below one bit a byte",)

    def check(self, context: Context) -> Iterator[Finding]:
        """A failure with the line of the claim and of what confirms it, or a pass."""
        score = _claimed(context)
        if score is None:
            yield self.finding(Status.NOT_APPLICABLE, "no score is claimed", basis=Basis.CLAIM)
        elif not 0.0 < score.value < LOWEST:
            yield self.finding(
                Status.PASS, f"{score.value:.4f} bits a byte are claimed", basis=Basis.CLAIM
            )
        elif shown := _shown(context, score.value):
            yield self.finding(
                Status.FAIL,
                f"{score.value:.4f} bits a byte are claimed: no fair score below {LOWEST:.1f} is "
                "known for this text, this size and this time",
                (score.evidence, shown),
                basis=Basis.CLAIM,
                confidence=Confidence.MEDIUM,
            )
        else:
            yield self.finding(
                Status.NOTE,
                f"{score.value:.4f} bits a byte are claimed, and nothing else shows that score",
                (score.evidence,),
                basis=Basis.CLAIM,
            )


def _claimed(context: Context) -> Figure | None:
    """The score of submission.json; where it has none, the highest that the logs end with.

    Without a claim it counts only if the README shows it: a log may end with any measurement.
    """
    described = context.claims.submission_json
    if described is not None and described.val_bpb is not None:
        return described.val_bpb
    last = [m for log in context.claims.logs if (m := log.last_metric) is not None]
    ends = [Figure(m.val_bpb, m.evidence) for m in last if m.val_bpb is not None]
    return max(ends, key=lambda figure: figure.value, default=None)


def _shown(context: Context, score: float) -> Evidence | None:
    """A line of a log with nearly that score, or of the README with its first digits."""
    described = context.claims.submission_json
    claimed = described is not None and described.val_bpb is not None
    for log in context.claims.logs if claimed else ():
        for metric in log.metrics:
            if metric.val_bpb is not None and abs(metric.val_bpb - score) <= NEARLY * score:
                return metric.evidence
    places = 3 if score >= 0.1 else 4
    digits = {f"{score:.{places}f}", f"{score:.{places + 2}f}"[:-2]}  # rounded or cut off
    for name, file in sorted(context.submission.files.items()):
        if name.rpartition("/")[2].lower().startswith("readme"):
            lines = file.data.decode("utf-8", errors="replace").splitlines()
            for number, line in enumerate(lines, 1):
                if any(d in line for d in digits):
                    return Evidence(file.path, number, line.strip()[:200])
    return None
