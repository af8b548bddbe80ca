"""Files that are whole or absent: an interrupted run must never leave half of one behind."""

import os
import tempfile
from pathlib import Path

from hedge_record.errors import RecordError


def make_folder(path: Path) -> Path:
    """Creates `path` with its parents and proves that it can be written to.

    Raises:
        RecordError: the folder cannot be made or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be written to ({error.strerror}); choose another folder"
        ) from error
    return path


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes `data` beside `path` and renames it into place.

    Raises:
        RecordError: the folder is missing, full or not writable.
    """
    raw = data.encode("utf-8") if isinstance(data, str) else data
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(raw)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RecordError(f"{path}: cannot be written ({error.strerror})") from error


def append_line(path: Path, line: str) -> None:
    """Adds one line to a log.

    Raises:
        RecordError: the disk is full, or the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise RecordError(f"{path}: cannot be written ({error.strerror})") from error
