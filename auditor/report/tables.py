"""The figures of a submission as tables, laid out once for every format.

A cell is text, and where the text was read from a file, the place; formats decide how to show it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from auditor.dossier import Dossier
from auditor.evidence.books import Books
from auditor.evidence.ledger import BYTE_TOLERANCE
from auditor.evidence.runs import RunRow
from auditor.evidence.scored_bytes import TEXT_BYTES
from auditor.finding import Evidence
from auditor.report.measured import masses, script

MAX_TAGS = 10
MAX_BLOCKS = 12
MAX_DIFFERENCES = 20
MIN_SETTINGS = 5  # fewer are no dump of hyperparameters
APART = 4  # times the usual deviation between seeds: then something else differs too
WINDOW = 600.0  # seconds of training, and again of evaluation


@dataclass(frozen=True)
class Cell:
    """A text, and the line that it was read from."""

    text: str
    place: Evidence | None = None

    def names_file(self, first: "Cell") -> bool:
        """Whether the row's first cell is the file that this one was read from."""
        return (
            self.place is not None
            and first.place is not None
            and not first.place.line
            and first.place.path == self.place.path
        )


@dataclass(frozen=True)
class Table:
    """Rows under a head; `notes` are sentences that stand below."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def tables(dossier: Dossier) -> list[Table]:
    """Every table that has a row or a note."""
    books = dossier.books
    made = (
        _score(dossier),
        _probes(dossier),
        _tags(books),
        _runs(books),
        _blocks(books),
        _settings(books),
        _standing(books),
    )
    return [table for table in made if table.rows or table.notes]


def _row(*cells: str | Cell) -> tuple[Cell, ...]:
    return tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)


def _score(dossier: Dossier) -> Table:
    """The claimed score, and beside it what it is by the logs, by bytes and by mass."""
    books = dossier.books
    rows = []
    if books.check is not None:
        claim = books.check.claim
        rows.append(
            _row(
                "claimed",
                Cell(f"{claim.value:.8g} bits per byte", claim.evidence),
                books.check.words(),
            )
        )
    rows += _by_bytes(books)
    for own in masses(dossier):
        rows.append(_row(f"mass of {own.name}", f"up to {max(own.values):.4g}", own.words))
        if own.honest is not None:
            low, high = own.honest.interval
            rows.append(
                _row(
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
        return Table("", (), ())
    rows = tuple(_row(p.probe, p.outcome.value, p.reason) for p in run.probes)
    notes = []
    if run.problem is not None:
        notes.append(f"The whole script was not run to its score: {run.problem}.")
    if run.metric:
        notes.append(f"Bound to the printed line: {run.metric}")
    if run.shrunk:
        notes.append(f"Made smaller for it: {', '.join(run.shrunk)}.")
    return Table("Runs of the whole script", ("probe", "outcome", "reason"), rows, tuple(notes))


def _by_bytes(books: Books) -> Iterator[tuple[Cell, ...]]:
    texts = books.texts
    if not texts:
        return
    first = texts[0]
    vocabulary = first.vocabulary or "no vocabulary known here"
    yield _row(
        "text",
        Cell(f"{first.per_token:.4f} bytes per token", first.metric.evidence),
        f"as val_loss / (val_bpb ln 2); that of {vocabulary}",
    )
    totals = sorted(text.total for text in texts if text.total is not None)
    if totals:
        ends = (f"{total:,.0f}" for total in (totals[0], totals[-1]))
        shown = " to ".join(dict.fromkeys(ends))
        right = all(abs(total / TEXT_BYTES - 1) <= BYTE_TOLERANCE for total in totals)
        yield _row(
            "text",
            f"{shown} bytes",
            f"implied by tokens, loss and score; the text has {TEXT_BYTES:,}"
            + ("" if right else ": this is another text, or its bytes are counted otherwise"),
        )
    if (corrected := books.corrected_bpb) is not None:
        yield _row(
            "corrected for bytes",
            f"{corrected:.6f} bits per byte",
            "the logged losses over the bytes that the text has, if it was scored whole",
        )


def _tags(books: Books) -> Table:
    chosen = books.check.scores if books.check is not None else None
    runs = max((len(own.values) for own in books.scores), default=0)
    shown = [own for own in books.scores if own is chosen or 2 * len(own.values) >= runs]
    rows = []
    for own in shown[-MAX_TAGS:]:
        values = ", ".join(f"{value:.6f}" for value in own.values[:5])
        more = f" and {len(own.values) - 5} more" if len(own.values) > 5 else ""
        deviation = f"{own.deviation:.6f}" if own.deviation is not None else ""
        rows.append(
            _row(
                own.tag or "(no tag)",
                Cell(values + more, own.metrics[0].evidence),
                f"{own.mean:.6f}",
                deviation,
                "the claim" if own is chosen else "",
            )
        )
    hidden = len(books.scores) - len(rows)
    notes = [f"{hidden} more tags in the logs."] if hidden else []
    usual = books.standing.sigma
    if chosen is not None and chosen.deviation and usual and chosen.deviation > APART * usual:
        notes.append(
            f"The runs under the claim's tag deviate by {chosen.deviation / usual:.0f} times what "
            f"seeds of one submission usually do, {usual:.5f} bits per byte."
        )
    head = ("tag", "by run", "mean", "deviation", "")
    return Table("Scores in the logs", head, tuple(rows), tuple(notes))


def _runs(books: Books) -> Table:
    rows = []
    for run in books.runs:
        size = run.totals.logged
        rows.append(
            _row(
                Cell(run.log.path, Evidence(run.log.path, 0, "")),
                ", ".join(str(int(seed.value)) for seed in run.seeds),
                Cell(f"{run.code.bytes:,}", run.code.evidence) if run.code else "",
                Cell(f"{size.bytes:,}", size.evidence) if size else "",
                f"{run.totals.shipped:,}" if run.totals.shipped else "",
                f"{run.totals.packed:,}" if run.totals.packed else "",
                _seconds(run),
                f"{run.calibration:.1f}" if run.calibration is not None else "",
                f"{run.evaluated:.1f}" if run.evaluated is not None else "",
                f"{run.evaluated_with_all:.1f}" if run.evaluated_with_all is not None else "",
            )
        )
    notes = []
    if books.runs:
        notes.append(
            f"The shipped script has {books.script_bytes:,} bytes. Totals by three conventions: "
            "as logged; model and script as shipped; model and script as if packed. The limit is "
            "16,000,000."
        )
        over = [
            run.trained + run.calibration - WINDOW
            for run in books.runs
            if run.trained is not None and run.calibration is not None
        ]
        if over and max(over) > 0:
            notes.append(f"Training and calibration end up to {max(over):.1f} s past 600 s.")
    head = ("log", "seed", "code", "logged", "shipped", "packed", "training s", "calibration s")
    return Table("Runs", (*head, "evaluation s", "with all blocks s"), tuple(rows), tuple(notes))


def _seconds(run: RunRow) -> Cell:
    figure = run.log.train_stop or run.log.train_end
    return Cell(f"{figure.value / 1000:.1f}", figure.evidence) if figure is not None else Cell("")


def _blocks(books: Books) -> Table:
    """The timed blocks of the run whose evaluation is longest."""
    timed = [run for run in books.runs if run.blocks]
    if not timed:
        return Table("", (), ())
    longest = max(timed, key=lambda run: run.evaluated_with_all or 0.0)
    rows = tuple(
        _row(
            Cell(own.block.evidence.text[:90], own.block.evidence),
            f"{own.block.seconds:.1f}",
            "yes" if own.validation else "no",
            "yes" if own.needed else "no",
        )
        for own in longest.blocks[:MAX_BLOCKS]
    )
    head = ("block of the longest evaluation", "seconds", "validation tokens", "for the score")
    return Table("Evaluation time", head, rows)


def _settings(books: Books) -> Table:
    rows = []
    for difference in books.differences[:MAX_DIFFERENCES]:
        path, line, text = difference.values[0]
        others = dict.fromkeys(value for _, _, value in difference.values)
        shown = " / ".join(list(others)[:4])
        rows.append(_row(difference.name, Cell(shown, Evidence(path, line, text))))
    dumped = [run.log for run in books.runs if run.log.settings]
    notes: tuple[str, ...] = ()
    names = min((len(log.settings) for log in dumped), default=0)
    if len(dumped) > 1 and names >= MIN_SETTINGS and not rows:
        notes = (f"{len(dumped)} logs show the same {names} hyperparameters, seeds apart.",)
    elif hidden := len(books.differences) - len(rows):
        notes = (f"and {hidden} more",)
    return Table("Hyperparameters by log", ("differing", "values"), tuple(rows), notes)


def _standing(books: Books) -> Table:
    standing = books.standing
    if standing.row is None:
        return Table("Against the row before", (), ())
    rows = tuple(_row(policy.name, comparison.words) for policy, comparison in standing.comparisons)
    notes = [f"The row to beat is {standing.row.words}."]
    if standing.problem is not None:
        notes.append(f"Not compared: {standing.problem}.")
    else:
        notes.append(
            f"z uses {standing.sigma:.5f} bits per byte between seeds, over "
            f"{standing.catalogued} submissions. All p-values are one-sided."
        )
    return Table("Against the row before", ("policy", "tests"), rows, tuple(notes))
