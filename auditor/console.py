"""Progress for long commands, drawn on standard error and only where somebody watches."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def track(outcomes: Iterable[Counter[str]], total: int) -> Counter[str]:
    """Consumes the outcomes of `total` jobs, one a job, and returns their sum."""
    columns = (
        TextColumn("auditing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[tally]}"),
    )
    console = Console(stderr=True)
    tally: Counter[str] = Counter()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, tally="")
        for outcome in outcomes:
            tally += outcome
            words = ", ".join(f"{count} {name}" for name, count in sorted(tally.items()))
            progress.update(task, advance=1, tally=words)
    return tally


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """A line that says what is being done, until it is done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("reading") as status:
        yield status.update
