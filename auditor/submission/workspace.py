"""What the layers of a packed script share: its files, what it writes, the log of its opening."""

import posixpath
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

from auditor.submission.fold import Budget
from auditor.submission.model import SourceFile
from auditor.submission.values import TEMPORARY, CannotFoldError


@dataclass(frozen=True)
class Layer:
    """One step of unpacking: `kind` (`base85`, `lzma`, `exec`, `file`), bytes before and after, and
    the line where it is done, in the text that the step stands in.
    """

    kind: str
    bytes_in: int
    bytes_out: int
    line: int


def decode_source(data: bytes) -> str:
    """Python source as text: BOM and coding line are honoured, line ends become newlines."""
    encoding, _ = tokenize.detect_encoding(BytesIO(data).readline)
    return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


class Workspace:
    """Files as the script sees them, without a disk: `root` is its folder, an absolute path."""

    def __init__(self, root: str, files: Mapping[str, SourceFile]) -> None:
        self.root = root
        self.files = files
        self.written: dict[str, bytes] = {}
        self.budget = Budget()
        self.layers: list[Layer] = []
        self.notes: list[str] = []

    def shipped(self, path: str) -> bool:
        """True if `path` is a file of the submission that the script did not overwrite."""
        full = self._full(path)
        return full not in self.written and full.removeprefix(self.root + "/") in self.files

    def wrote(self, path: str) -> bool:
        """True if the script wrote `path`."""
        return self._full(path) in self.written

    def read(self, path: str) -> bytes:
        """A file that the script wrote, or one beside it; raises `CannotFoldError`."""
        full = self._full(path)
        if full in self.written:
            return self.written[full]
        name = full.removeprefix(self.root + "/")
        if name in self.files:
            return self.files[name].data
        raise CannotFoldError(f"{name!r} is no file of this submission")

    def write(self, path: str, data: str | bytes, append: bool = False) -> None:
        """Keeps what the script writes."""
        full = self._full(path)
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)
        self.written[full] = self.written.get(full, b"") + raw if append else raw

    def written_files(self) -> dict[str, SourceFile]:
        """What was written, by path relative to the folder that it was written to."""
        found = {}
        for full, data in self.written.items():
            name = full.removeprefix(TEMPORARY + "/").removeprefix(self.root + "/").lstrip("/")
            found[name] = SourceFile.of(f"{name}!unpacked", data)
        return found

    def _full(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self.root, path))
