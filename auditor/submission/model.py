"""What is audited: one main script with the files of its record folder, bound to their hashes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


def blob_hash(data: bytes) -> str:
    """Git's SHA-1 of a blob, 40 hex digits: a report's hash can be looked up in any clone."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class SourceFile:
    """A file as shipped. `path` is POSIX, as a reader finds it: relative to the repository's root
    for a pull request, as named on the command line otherwise.
    """

    path: str
    data: bytes
    blob: str

    @classmethod
    def of(cls, path: str, data: bytes) -> "SourceFile":
        """Binds `data` to its hash."""
        return cls(path, data, blob_hash(data))


@dataclass(frozen=True)
class Submission:
    """A main script and what lies beside it.

    `files` maps paths relative to the record folder (`submission.json`, `train_seed42.log`,
    `helpers/x.py`) to files, the main script included. `unread` maps paths that exist but whose
    contents were not read (missing blob, symbolic link, over the size limit) to the reason.
    """

    main: SourceFile
    files: Mapping[str, SourceFile] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    pr: int | None = None
    head: str | None = None
    is_folder: bool = False  # False: a lone script, so missing files are no finding
