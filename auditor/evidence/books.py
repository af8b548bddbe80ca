"""Everything that a report says in figures of one submission, gathered once."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from auditor.errors import AuditError
from auditor.evidence.catalogue import FrontierRow, date_of, shipped
from auditor.evidence.figures import Claims, Figure, JsonClaims, Metric
from auditor.evidence.ledger import (
    ClaimCheck,
    Difference,
    TagScores,
    check_claim,
    differences,
    line_in_training,
    scores_by_tag,
    unlogged,
)
from auditor.evidence.runs import RunRow, rows
from auditor.evidence.scored_text import ScoredText, corrected_bpb, scored_texts
from auditor.evidence.significance import Comparison, Sample, compare
from auditor.evidence.track import another_track
from auditor.policy import Policy
from auditor.submission.model import Submission


@dataclass(frozen=True)
class Standing:
    """A score among the others: the row that it has to beat, and under each policy how surely it
    does. `problem` tells why nothing was compared, or is None. `sigma` is the deviation between
    seeds over `catalogued` submissions, in bits per byte.
    """

    row: FrontierRow | None = None
    comparisons: tuple[tuple[Policy, Comparison], ...] = ()
    sigma: float = 0.0
    catalogued: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Books:
    """`texts` are of the tag that the claim rests on; `scores` of all tags. `in_training` is the
    line of a log that the claim equals if it equals none after training; `unlogged` are scores by
    seed in submission.json that no log prints.
    """

    described: JsonClaims | None = None
    check: ClaimCheck | None = None
    scores: tuple[TagScores, ...] = ()
    texts: tuple[ScoredText, ...] = ()
    runs: tuple[RunRow, ...] = ()
    differences: tuple[Difference, ...] = ()
    standing: Standing = Standing(problem="nothing was compared")
    script_bytes: int = 0
    in_training: Metric | None = None
    unlogged: tuple[Figure, ...] = ()

    @property
    def claimed(self) -> float:
        """The claimed score in bits per byte; not a number where there is none."""
        return self.check.claim.value if self.check is not None else math.nan

    @property
    def corrected_bpb(self) -> float | None:
        """The logged score over the text's own bytes, where it was divided by others."""
        return corrected_bpb(self.texts)


def keep_books(submission: Submission, claims: Claims, policies: Iterable[Policy]) -> Books:
    """The books of a submission, compared with the row before it under some policies."""
    described = claims.submission_json
    scores = scores_by_tag(claims)
    check = check_claim(described.val_bpb if described is not None else None, scores)
    basis = check.scores if check is not None else (scores[-1] if scores else None)
    texts = tuple(scored_texts(claims, basis.metrics if basis is not None else ()))
    return Books(
        described=described,
        check=check,
        scores=tuple(scores),
        texts=texts,
        runs=tuple(rows(submission, claims.logs, basis)),
        differences=tuple(differences(claims.logs)),
        standing=_standing(submission, described, check, texts, policies),
        script_bytes=len(submission.main.data),
        in_training=line_in_training(claims, check),
        unlogged=tuple(unlogged(described.seed_bpb if described is not None else (), scores)),
    )


def _standing(
    submission: Submission,
    described: JsonClaims | None,
    check: ClaimCheck | None,
    texts: tuple[ScoredText, ...],
    policies: Iterable[Policy],
) -> Standing:
    if described is None or check is None:
        return Standing(problem="no score is claimed")
    if another_track(described, submission.main.path):
        return Standing(problem="outside the record track there is no row to beat")
    date = date_of(submission, described)
    if date is None:
        return Standing(problem="neither the folder's name nor submission.json gives a date")
    catalogue = shipped()
    row = catalogue.before(date, check.claim.value, submission.pr)
    if row is None:
        return Standing(problem=f"the leaderboard has no row of {date} or before")
    own = _own_sample(described, check)
    per_token = texts[0].per_token if texts else None
    try:
        found = tuple(
            (policy, comparison)
            for policy in policies
            for comparison in compare(
                own,
                row.sample,
                margin=policy.margin.nats,
                alpha=policy.margin.p,
                sigma=catalogue.sigma,
                bytes_per_token=per_token,
            )
        )
    except AuditError as error:
        return Standing(row, problem=str(error))
    return Standing(row, found, catalogue.sigma, catalogue.submissions)


def _own_sample(described: JsonClaims, check: ClaimCheck) -> Sample:
    """The scores by seed that the claim is the mean of: of the logs, else of submission.json."""
    if check.basis == "mean" and check.scores is not None and len(check.scores.values) > 1:
        return Sample.of(check.scores.values)
    claimed = [figure.value for figure in described.seed_bpb]
    if len(claimed) > 1 and abs(statistics.fmean(claimed) - check.claim.value) < 1e-4:
        return Sample.of(claimed)
    return Sample(check.claim.value)
