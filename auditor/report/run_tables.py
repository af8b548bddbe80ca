"""Tables of the logged runs: bytes by three conventions, seconds, data and devices."""

import re
from collections.abc import Iterable, Iterator

from auditor.evidence.books import Books
from auditor.evidence.figures import Figure, LogClaims
from auditor.evidence.runs import RunRow
from auditor.finding import Evidence
from auditor.report.layout import NO_TABLE, Cell, Row, Table, row

MAX_BLOCKS = 12
MAX_VALUES = 4
WINDOW = 600.0  # seconds of training, and again of evaluation
_SECONDS = re.compile(r"\s*(?:stride:\d+\s*)?\beval_time\b.*")
_DEVICE = re.compile(r"(?:NVIDIA|Tesla|AMD)\s.*?(?=\s{2,}|\||$)")


def bytes_by_run(books: Books) -> Table:
    """Code and model together, as three conventions that were all merged count them."""
    rows = []
    for run in books.runs:
        size = run.totals.logged
        if size is None and run.model is None:
            continue
        line = next((own.evidence for own in run.codes if own.bytes == run.code), None)
        rows.append(
            row(
                *_name(run),
                Cell(f"{run.code:,}", line) if run.code is not None else "",
                Cell(f"{size.bytes:,}", size.evidence) if size else "",
                f"{run.totals.shipped:,}" if run.totals.shipped else "",
                f"{run.totals.packed:,}" if run.totals.packed else "",
            )
        )
    if not rows:
        return NO_TABLE
    head = ("log", "seed", "code", "as logged", "as shipped", "as packed")
    return Table("Bytes of code and model", head, tuple(rows), tuple(_on_bytes(books)))


def _on_bytes(books: Books) -> Iterator[str]:
    yield (
        "The limit is 16,000,000. As logged: code and total as the log prints them. As shipped: "
        f"its model and the script's {books.script_bytes:,} bytes. As packed: its model and the "
        "script as a self-extracting one."
    )
    printed = sorted({size.bytes for run in books.runs for size in run.codes})
    if printed and books.script_bytes not in printed:
        shown = ", ".join(f"{size:,}" for size in printed[:MAX_VALUES])
        yield f"No log prints the size of the shipped script; printed are {shown} bytes of code."
    claimed = books.described.bytes_total if books.described is not None else None
    if claimed is not None:
        line = f"submission.json:{claimed.evidence.line}"
        yield f"Claimed are {int(claimed.value):,} bytes ({line})."


def seconds_by_run(books: Books) -> Table:
    """Training and what follows it, a row a run."""
    rows = [
        row(
            *_name(run),
            Cell(_tenths(run.trained), run.stop.evidence) if run.stop is not None else "",
            _tenths(run.calibration),
            _tenths(run.evaluated) or ("not timed" if run.blocks else ""),
            _tenths(run.evaluated_with_all),
        )
        for run in books.runs
        if run.stop is not None or run.blocks
    ]
    if not rows:
        return NO_TABLE
    known = books.check is not None and books.check.basis != "none"
    score = "the claimed score" if known else "the last score"
    notes = [f"Evaluation: the timed blocks that read validation tokens and that {score} needs."]
    over = [
        run.trained + run.calibration - WINDOW
        for run in books.runs
        if run.trained is not None and run.calibration is not None
    ]
    if over and max(over) > 0:
        notes.append(f"Training and calibration end up to {max(over):.1f} s past 600 s.")
    head = ("log", "seed", "training", "calibration after", "evaluation", "every timed block")
    return Table("Seconds", head, tuple(rows), tuple(notes))


def blocks(books: Books) -> Table:
    """The timed blocks of the run whose evaluation is longest, if it has several."""
    timed = [run for run in books.runs if len(run.blocks) > 1]
    if not timed:
        return NO_TABLE
    longest = max(timed, key=lambda run: (run.evaluated or 0.0, run.evaluated_with_all or 0.0))
    rows = tuple(
        row(
            Cell(_SECONDS.sub("", own.block.evidence.text)[:90], own.block.evidence),
            _tenths(own.block.seconds),
            "yes" if own.validation else "no",
            "yes" if own.needed else "no",
        )
        for own in longest.blocks[:MAX_BLOCKS]
    )
    head = ("block", "seconds", "validation tokens", "for the score")
    return Table("Blocks of the longest evaluation", head, rows)


def data(books: Books) -> Table:
    """What the logs say of data, devices and code: fingerprints, and how often gates decided."""
    logs = list({run.log.path: run.log for run in books.runs}.values())
    rows = [
        *_values("devices", [(_devices(log), log.hardware[0]) for log in logs if log.hardware]),
        *_figures("ranks", (log.world_size for log in logs)),
        *_figures("validation tokens", (log.run.val_tokens for log in logs)),
        *_figures("training shards", (log.run.train_shards for log in logs)),
        *_figures("seconds set aside for calibration", (log.run.reserve for log in logs)),
    ]
    for name in sorted({name for log in logs for name in log.run.gates}):
        counts = (log.run.gates.get(name) for log in logs)
        rows += _figures(f"positions that {name} decides", counts)
    notes = tuple(_other_script(books))
    if not rows and not notes:
        return NO_TABLE
    return Table("Data, devices and script", ("what", "in the logs"), tuple(rows), notes)


def _other_script(books: Books) -> Iterator[str]:
    """Whether the script that logs repeat is the shipped one."""
    repeated = {run.log.path: run.source for run in books.runs if run.source is not None}
    others = [(path, s) for path, s in sorted(repeated.items()) if s.missing or s.added]
    if repeated and not others:
        yield f"The script that logs repeat ({len(repeated)} do) is the shipped one, line by line."
    if others:
        path, source = others[0]
        text = f"The script that {_short(path)} repeats is not the shipped one: it lacks "
        text += f"{source.added} of its lines and has {source.missing} others"
        if source.first is not None:
            text += f", the first at line {source.first.line}"
        more = f"; so do {len(others) - 1} more logs" if len(others) > 1 else ""
        yield f"{text}{more}."


def _figures(name: str, figures: Iterable[Figure | None]) -> list[Row]:
    return _values(name, [(_number(f.value), f.evidence) for f in figures if f is not None])


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _values(name: str, found: list[tuple[str, Evidence]]) -> list[Row]:
    """A row with the distinct values, each once, and the place of the first."""
    if not found:
        return []
    distinct = list(dict.fromkeys(text for text, _ in found))
    more = f" and {len(distinct) - MAX_VALUES} more" if len(distinct) > MAX_VALUES else ""
    return [row(name, Cell(" / ".join(distinct[:MAX_VALUES]) + more, found[0][1]))]


def _devices(log: LogClaims) -> str:
    named = [found[0].strip() for e in log.hardware if (found := _DEVICE.search(e.text))]
    if not named:
        return log.hardware[0].text[:60]
    counted = dict.fromkeys(named, 0)
    for name in named:
        counted[name] += 1
    return ", ".join(f"{number} x {name}" for name, number in counted.items())


def _name(run: RunRow) -> Row:
    seed = str(int(run.seed.value)) if run.seed is not None else ""
    return row(Cell(run.log.path, Evidence(run.log.path, 0, "")), seed)


def _short(path: str) -> str:
    return path.rpartition("/")[2]


def _tenths(seconds: float | None) -> str:
    return f"{seconds:,.1f}" if seconds is not None else ""
