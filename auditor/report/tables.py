"""The figures of a submission as tables, laid out once for every format."""

from collections.abc import Iterator

from auditor.dossier import Dossier
from auditor.evidence.books import Books
from auditor.evidence.ledger import SAME, TagScores
from auditor.evidence.scored_bytes import TEXT_BYTES
from auditor.evidence.scored_text import BYTE_TOLERANCE
from auditor.evidence.significance import Comparison
from auditor.finding import Evidence, Validity
from auditor.report import run_tables
from auditor.report.layout import NO_TABLE, Cell, Row, Table, row
from auditor.report.measured import masses, script

MAX_TAGS = 10
MAX_DIFFERENCES = 20
MIN_SETTINGS = 5  # fewer are no dump of hyperparameters
APART = 4  # times the usual deviation between seeds: then something else differs too


def tables(dossier: Dossier) -> list[Table]:
    """Every table that has a row or a note."""
    books = dossier.books
    made = (
        _score(dossier),
        _probes(dossier),
        _tags(books),
        run_tables.bytes_by_run(books),
        run_tables.seconds_by_run(books),
        run_tables.blocks(books),
        run_tables.data(books),
        _settings(books),
        _standing(dossier),
    )
    return [table.without_empty_columns() for table in made if table.rows or table.notes]


def _score(dossier: Dossier) -> Table:
    """The claimed score, and beside it what it is by the logs, by bytes and by mass."""
    books = dossier.books
    rows = []
    if books.check is not None:
        claim = books.check.claim
        figure = Cell(f"{claim.value:.8g} bits per byte", claim.evidence)
        rows.append(row("claimed", figure, books.check.words()))
    if books.in_training is not None:
        line = books.in_training
        rows.append(
            row(
                "printed in training",
                Cell(f"{line.val_bpb:.8g} bits per byte", line.evidence),
                "the claim is this line's, not one of those after training",
            )
        )
    rows += _by_bytes(books)
    for own in masses(dossier):
        rows.append(row(f"mass of {own.name}", f"up to {max(own.values):.4g}", own.words))
        if own.honest is not None:
            low, high = own.honest.interval
            rows.append(
                row(
                    "honest score of that run",
                    f"{own.honest.honest:.4f} bits per byte",
                    f"where it reports {own.honest.reported:.4f}: {own.honest.free:+.4f} bits a "
                    f"byte are taken without paying (95% interval {low:.4f} to {high:.4f})",
                )
            )
    return Table("The score", ("what", "figure", "from where"), tuple(rows))


def _probes(dossier: Dossier) -> Table:
    """What each probe of the whole script says, and of which run."""
    run = script(dossier)
    if run is None:
        return NO_TABLE
    rows = tuple(row(p.probe, p.outcome.value, p.reason) for p in run.probes)
    notes = []
    if run.problem is not None:
        notes.append(f"The whole script was not run to its score: {run.problem}.")
    if run.metric:
        notes.append(f"Bound to the printed line: {run.metric}")
    if run.shrunk:
        notes.append(f"Made smaller for it: {', '.join(run.shrunk)}.")
    return Table("Runs of the whole script", ("probe", "outcome", "reason"), rows, tuple(notes))


def _by_bytes(books: Books) -> Iterator[Row]:
    """The text that the score was divided by: the whole text's bytes, fewer, or more."""
    texts = books.texts
    if not texts:
        return
    first = texts[0]
    tokens = f"{first.per_token:.4f} bytes per token"
    known = (
        f"as with {first.vocabulary}" if first.vocabulary else "as with no vocabulary known here"
    )
    totals = sorted(text.total for text in texts if text.total is not None)
    if not totals:
        yield row(
            "text", Cell(tokens, first.metric.evidence), f"val_loss / (val_bpb ln 2), {known}"
        )
        return
    ends = (f"{total:,.0f}" for total in (totals[0], totals[-1]))
    shown = " to ".join(dict.fromkeys(ends))
    if totals[0] < TEXT_BYTES * (1 - BYTE_TOLERANCE):
        what = ": a part of it, or not all of its bytes"
    elif totals[-1] > TEXT_BYTES * (1 + BYTE_TOLERANCE):
        what = ": another text, or bytes that it does not have"
    else:
        what = ""
    yield row(
        "text",
        Cell(f"{shown} bytes, {tokens}", first.metric.evidence),
        f"implied by tokens, loss and score, {known}; the text has {TEXT_BYTES:,}{what}",
    )
    if (corrected := books.corrected_bpb) is not None:
        yield row(
            "corrected for bytes",
            f"{corrected:.6f} bits per byte",
            "the logged losses over the bytes that the text has, if it was scored whole",
        )


def _tags(books: Books) -> Table:
    check = books.check
    chosen = check.scores if check is not None and check.basis != "none" else None
    runs = max((len(own.values) for own in books.scores), default=0)
    shown = [
        own
        for own in books.scores
        if (chosen is not None and own.tag == chosen.tag)
        or (2 * len(own.values) >= runs and not _printed_again(own, books))
    ]
    rows = []
    for own in shown[-MAX_TAGS:]:
        values = ", ".join(f"{value:.6f}" for value in own.values[:5])
        more = f" and {len(own.values) - 5} more" if len(own.values) > 5 else ""
        deviation = f"{own.deviation:.6f}" if own.deviation is not None else ""
        claimed = chosen is not None and own.tag == chosen.tag
        name = f"{own.tag or '(no tag)'}{' (claimed)' if claimed else ''}"
        place = own.metrics[0].evidence
        rows.append(row(name, Cell(values + more, place), f"{own.mean:.6f}", deviation))
    hidden = len(books.scores) - len(rows)
    notes = [f"{hidden} more {'tag' if hidden == 1 else 'tags'} in the logs."] if hidden else []
    if books.unlogged:
        scores = ", ".join(f"{figure.value:.8g}" for figure in books.unlogged)
        notes.append(f"submission.json lists scores by seed that no log prints: {scores}.")
    usual = books.standing.sigma
    if chosen is not None and chosen.deviation and usual and chosen.deviation > APART * usual:
        notes.append(
            f"The runs under the claim's tag deviate by {chosen.deviation / usual:.0f} times what "
            f"seeds of one submission usually do, {usual:.5f} bits per byte."
        )
    head = ("tag", "by run", "mean", "deviation")
    return Table("Scores in the logs", head, tuple(rows), tuple(notes))


def _printed_again(own: TagScores, books: Books) -> bool:
    """Whether a later tag has the same scores, as a summary has those of the lines above it."""
    later = books.scores[books.scores.index(own) + 1 :]
    return any(
        len(other.values) == len(own.values)
        and all(abs(a - b) <= SAME for a, b in zip(own.values, other.values, strict=True))
        for other in later
    )


def _settings(books: Books) -> Table:
    rows = []
    for difference in books.differences[:MAX_DIFFERENCES]:
        path, line, text = difference.values[0]
        others = dict.fromkeys(value for _, _, value in difference.values)
        shown = " / ".join(list(others)[:4])
        rows.append(row(difference.name, Cell(shown, Evidence(path, line, text))))
    dumped = list({run.log.path: run.log for run in books.runs if run.log.settings}.values())
    notes: tuple[str, ...] = ()
    names = min((len(log.settings) for log in dumped), default=0)
    if len(dumped) > 1 and names >= MIN_SETTINGS and not rows:
        notes = (f"{len(dumped)} logs show the same {names} hyperparameters, seeds apart.",)
    elif hidden := len(books.differences) - len(rows):
        notes = (f"and {hidden} more",)
    return Table("Hyperparameters by log", ("differing", "values"), tuple(rows), notes)


def _standing(dossier: Dossier) -> Table:
    books = dossier.books
    standing = books.standing
    if standing.row is None:
        return NO_TABLE
    rows = tuple(_compared(policy.name, own) for policy, own in standing.comparisons)
    notes = [f"The row to beat is {standing.row.words}."]
    if standing.problem is not None:
        notes.append(f"Not compared: {standing.problem}.")
    else:
        notes.append(
            f"One-sided. z takes {standing.sigma:.5f} bits per byte between seeds, as over "
            f"{standing.catalogued} submissions; the seeds are those that show a gain of this size "
            "with power 0.8."
        )
    if dossier.audit.validity is not Validity.VALID:
        notes.append("The claimed score is compared, whatever the findings say of it.")
    if (corrected := books.corrected_bpb) is not None and corrected - books.claimed > 1e-3:
        gain = standing.row.sample.mean - corrected
        notes.append(f"Corrected for bytes, the gain is {gain:+.5f} bits per byte.")
    head = ("policy", "margin", "gain", "one-sample t", "Welch t", "z", "seeds needed")
    return Table("Against the row before", head, rows, tuple(notes))


def _compared(policy: str, own: Comparison) -> Row:
    tests = {test.name: test for test in own.tests}
    shown = (
        f"{tests[name].statistic:.2f}, {tests[name].words}" if name in tests else ""
        for name in ("one-sample t", "Welch t", "z")
    )
    if own.seeds_needed is not None:
        needed = f"{own.seeds_needed} for p < {own.alpha:g}; there are {own.seeds}"
    elif own.gain > own.margin:
        needed = f"too many for p < {own.alpha:g}"
    else:
        needed = "no number, at this gain"
    margin = f"{own.margin:g}" if own.margin else "any gain"
    return row(policy, margin, f"{own.gain:+.5f} {own.unit}", *shown, needed)
