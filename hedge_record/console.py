"""How a run looks in the terminal: progress bars, and the table that takes the score apart."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
)
from rich.table import Table
from rich.text import Text

from hedge_record.config import ARTIFACT_LIMIT_BYTES
from hedge_record.progress import Reporter, SilentReporter
from hedge_record.result import RecordResult

CONSOLE = Console(highlight=False)
FIGURE_FORMATS = {
    "loss": "loss {:.3f}",
    "bpb": "{:.4f} bpb",
    "tokens_per_second": "{:,.0f} tokens/s",
}


class ClockColumn(ProgressColumn):
    """The time left of a running stage, or taken by a finished one; a line fits 80 columns."""

    def render(self, task: Task) -> Text:
        """`01:20 left`, or `02:31`."""
        if task.finished:
            return Text(_clock(task.finished_time or 0.0), style="green")
        left = "--:--" if task.time_remaining is None else _clock(task.time_remaining)
        return Text(f"{left} left", style="cyan")


class ConsoleReporter:
    """Draws one bar per stage with its figures, the time gone and the time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def start(self, stage: str, total: float, unit: str) -> None:
        """Adds the bar of a stage."""
        self._task = self._progress.add_task(
            stage, total=total or None, figures=f"{total:,.0f} {unit}" if total else unit
        )

    def advance(self, amount: float, **figures: float) -> None:
        """Moves the bar and shows the newest figures beside it."""
        if self._task is None:
            return
        shown = [FIGURE_FORMATS.get(name, name + " {:g}").format(figures[name]) for name in figures]
        if shown:
            self._progress.update(self._task, figures="  ".join(shown))
        self._progress.advance(self._task, amount)

    def finish(self) -> None:
        """Leaves the bar as it is, and its clock stands."""
        if self._task is not None:
            self._progress.stop_task(self._task)
            self._task = None

    def log(self, line: str) -> None:
        """Log lines go to the log file; to the screen too where there are no bars to look at."""
        if not self._progress.console.is_terminal:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif line.startswith("resumed:"):
            self._progress.console.print(f"continuing from checkpoint: {line}", style="dim")


@contextmanager
def console_reporter(console: Console, *, quiet: bool = False) -> Iterator[Reporter]:
    """A reporter whose bars live as long as the context; `quiet` draws and prints nothing."""
    if quiet:
        yield SilentReporter()
        return
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=12),
        TaskProgressColumn(show_speed=False),
        TextColumn("{task.fields[figures]:<26}"),
        ClockColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield ConsoleReporter(progress)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"


def score_table(result: RecordResult) -> Table:
    """L + Q + T + M = the final score, with what each part took."""
    table = Table(title="The score, taken apart", title_justify="left")
    table.add_column("part")
    table.add_column("what it is")
    table.add_column("bits per byte", justify="right")
    table.add_column("seconds", justify="right")
    for part in result.parts:
        number = f"{part.bpb:.4f}" if part.symbol == "L" else f"{part.bpb:+.4f}"
        seconds = f"{part.seconds:.1f}" if part.seconds else "in T"
        table.add_row(part.symbol, part.meaning, number, seconds)
    table.add_section()
    final = result.adaptive.score
    scoring = result.seconds["trained"] + result.seconds["quantized"]
    table.add_row("", "sliding-window passes for L and Q", "", f"{scoring:.1f}")
    table.add_row("=", "final score", f"{final.bpb:.4f}", f"{sum(result.seconds.values()):.1f}")
    return table


def size_table(result: RecordResult) -> Table:
    """Code and model against the limit."""
    table = Table(title="The artifact", title_justify="left")
    table.add_column("bytes of")
    table.add_column("", justify="right")
    table.add_row("code (train_gpt.py)", f"{result.code_bytes:,}")
    table.add_row("model (int5 + zstd)", f"{result.model_bytes:,}")
    table.add_section()
    table.add_row("total", f"{result.total_bytes:,}")
    table.add_row("limit", f"{ARTIFACT_LIMIT_BYTES:,}")
    return table
