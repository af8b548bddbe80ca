"""Tables as every format shows them: cells are text, with the place that it was read from."""

from dataclasses import dataclass, replace

from auditor.finding import Evidence


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


Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Rows under a head; `notes` are sentences that stand below."""

    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def without_empty_columns(self) -> "Table":
        """The same, but for columns in which no row has anything."""
        kept = [n for n in range(len(self.head)) if any(own[n].text for own in self.rows)]
        if not self.rows or len(kept) == len(self.head):
            return self
        head = tuple(self.head[n] for n in kept)
        return replace(
            self, head=head, rows=tuple(tuple(own[n] for n in kept) for own in self.rows)
        )


NO_TABLE = Table("", (), ())


def row(*cells: str | Cell) -> Row:
    """A row of cells; a text without a place stands for itself."""
    return tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)
