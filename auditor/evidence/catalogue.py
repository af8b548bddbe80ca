"""The back-catalogue: the rows of the leaderboard, and how far seeds of one submission lie apart.

`catalogue.json` beside this module was made by `auditor catalogue` from a clone of the challenge.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from auditor.errors import AuditError
from auditor.evidence.claims import read_claims
from auditor.evidence.figures import JsonClaims
from auditor.evidence.ledger import check_claim, scores_by_tag
from auditor.evidence.significance import Sample, pooled_deviation
from auditor.submission.git import Clone
from auditor.submission.load import load_from_clone
from auditor.submission.model import Submission

_ROW = re.compile(
    r"\|[^|]{1,300}\|\s*(\d\.\d{2,6})\s*\|.{1,2000}\|\s*(\d{4}-\d\d-\d\d)\s*\|[^|]{0,2000}\|$"
)
_OWN_PULL = re.compile(r"On PR #(\d+)|/pull/(\d+)")
_DATE = re.compile(r"(20\d\d-[01]\d-[0-3]\d)")
_TRACK = "track_10min"
BOARD_ROUNDING = 0.5e-4  # the board shows four decimals
SEEDS = 3  # submissions with as many are pooled


@dataclass(frozen=True)
class FrontierRow:
    """A row of the leaderboard. `seeds` are its scores by seed, in bits per byte, where known."""

    date: str
    bpb: float
    pr: int | None
    seeds: tuple[float, ...]

    @property
    def sample(self) -> Sample:
        """Its scores; the board rounds to four decimals, the seeds do not."""
        return Sample.of(self.seeds) if len(self.seeds) > 1 else Sample(self.bpb, self.seeds)

    @property
    def words(self) -> str:
        """What it is called in a report."""
        name = f"PR {self.pr}" if self.pr is not None else "the row"
        return f"{name} of {self.date}, {self.sample.mean:.5f} bits per byte"


@dataclass(frozen=True)
class Catalogue:
    """`sigma` is the deviation between seeds in bits per byte, over `submissions`; `commit` the
    commit whose README holds the rows."""

    commit: str
    sigma: float
    submissions: int
    rows: tuple[FrontierRow, ...]

    def before(self, date: str, bpb: float, pr: int | None) -> FrontierRow | None:
        """The best row that stood on a day, other than the submission's own."""
        older = [
            row
            for row in self.rows
            if row.date <= date
            and (pr is None or row.pr != pr)
            and not (row.date == date and abs(row.bpb - bpb) <= BOARD_ROUNDING)
        ]
        return min(older, key=lambda row: row.bpb, default=None)

    def to_json(self) -> dict[str, Any]:
        """The file's object."""
        rows = [
            {"date": row.date, "bpb": row.bpb, "pr": row.pr, "seeds": list(row.seeds)}
            for row in self.rows
        ]
        return {
            "commit": self.commit,
            "sigma": self.sigma,
            "submissions": self.submissions,
            "rows": rows,
        }


@cache
def shipped() -> Catalogue:
    """The catalogue that comes with the auditor."""
    text = files("auditor.evidence").joinpath("catalogue.json").read_text(encoding="utf-8")
    held = json.loads(text)
    rows = [FrontierRow(r["date"], r["bpb"], r["pr"], tuple(r["seeds"])) for r in held["rows"]]
    return Catalogue(held["commit"], held["sigma"], held["submissions"], tuple(rows))


def date_of(submission: Submission, described: JsonClaims | None) -> str | None:
    """The day of a submission: its folder's name begins with it, or submission.json says it."""
    found = _DATE.search(submission.main.path)
    if found is None and described is not None and described.date is not None:
        found = _DATE.search(described.date.text)
    return found[1] if found else None


def measure(repo: Path, at: str | None = None) -> Catalogue:
    """Reads the leaderboard of a clone, and every pull request's scores by seed.

    `at` is the commit whose README is read, instead of the main branch's. Takes minutes. Raises
    `AuditError` where the clone has no leaderboard.
    """
    clone = Clone(repo)
    commit = clone.commit(at) if at else clone.main
    samples: dict[int, tuple[float, ...]] = {}
    distinct: set[tuple[float, ...]] = set()
    for pr in clone.pull_requests():
        try:
            submissions = load_from_clone(clone, pr)
        except AuditError:
            continue
        seeds = seed_scores(submissions[0])
        if len(set(seeds)) >= 2:
            samples[pr] = seeds
            if _TRACK in submissions[0].main.path and len(set(seeds)) >= SEEDS:
                distinct.add(tuple(sorted(set(seeds))))  # copies of one submission count once
    rows = tuple(_board(clone, commit, samples))
    if not rows:
        raise AuditError(f"{repo}: README.md at {commit[:12]} holds no leaderboard")
    return Catalogue(commit, pooled_deviation(sorted(distinct)), len(distinct), rows)


def seed_scores(submission: Submission) -> tuple[float, ...]:
    """The scores by seed in bits per byte: of the runs that the claim is the mean of, for logs have
    all digits; else as submission.json lists them; else of the tag that the logs print last."""
    claims = read_claims(submission)
    described = claims.submission_json
    claim = described.val_bpb if described is not None else None
    check = check_claim(claim, scores_by_tag(claims))
    logged = check.scores.values if check is not None and check.scores is not None else ()
    if check is not None and check.basis == "mean" and len(logged) > 1:
        return logged
    if described is not None and len(described.seed_bpb) > 1:
        return tuple(figure.value for figure in described.seed_bpb)
    return logged


def _board(
    clone: Clone, commit: str, samples: dict[int, tuple[float, ...]]
) -> Iterator[FrontierRow]:
    tree = {entry.path: entry.oid for entry in clone.tree(commit)}
    for line in _table(clone, tree.get(b"README.md")):
        row = _ROW.match(line)
        if row is None:
            continue
        pull = _OWN_PULL.search(line)
        pr = int(pull[1] or pull[2]) if pull else None
        seeds = samples.get(pr, ()) if pr is not None else ()
        # A pull request may since hold other scores than those that its row shows.
        if seeds and abs(sum(seeds) / len(seeds) - float(row[1])) > 1e-4:
            seeds = ()
        yield FrontierRow(row[2], float(row[1]), pr, seeds)


def _table(clone: Clone, oid: str | None) -> Iterable[str]:
    """The lines of the first table of the README: the record track's."""
    if oid is None:
        return
    text = clone.read([oid])[oid].decode("utf-8", "replace")
    inside = False
    for line in text.splitlines():
        if line.startswith("| Run"):
            if inside:
                return
            inside = True
        elif inside and line.startswith("|"):
            yield line
        elif inside:
            return
