"""Loads what is to be audited: a script, a record folder, or a pull request of a git clone."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from auditor.errors import AuditError
from auditor.submission.folder import (
    JSON_NAME,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_FOLDER_BYTES,
    candidates,
    main_script,
    printable,
    record_folder,
)
from auditor.submission.git import GITLINK_MODE, SYMLINK_MODE, Clone, Entry
from auditor.submission.model import SourceFile, Submission

SKIPPED_FOLDERS = {".git", ".venv", "__pycache__", "node_modules"}


@dataclass(frozen=True)
class _Seen:
    """A file that was listed. `path` is what a reader finds it by; `problem` says why it is not
    read; `blob` is its hash, if known.
    """

    path: str
    size: int
    problem: str | None = None
    blob: str = ""


_Read = Callable[[list[str]], Mapping[str, bytes]]


def load_target(path: Path) -> list[Submission]:
    """The submissions at `path`: a script is one; a folder is one, or holds several.

    A folder with a script of its own is a record folder. Otherwise every folder below it that
    holds a `submission.json` and a script is one. Raises `AuditError` if there is nothing to audit.
    """
    if not path.exists():
        raise AuditError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [_lone_script(path)]
    listing = dict(_listing(path))
    folders = [""]
    if main_script({name: seen.size for name, seen in listing.items() if "/" not in name}) is None:
        parents = (PurePosixPath(n).parent for n in listing if n.endswith("/" + JSON_NAME))
        folders = sorted({str(parent) for parent in parents}) or [""]
    found = []
    for folder in folders:
        names = [name for name in listing if not folder or name.startswith(folder + "/")]
        inner = {name[len(folder) :].lstrip("/"): listing[name] for name in names}
        submission = _build(
            inner,
            partial(_read_below, path / folder),
        )
        if submission is not None:
            found.append(submission)
    if not found:
        raise AuditError(f"{path}: no Python script to audit; name a script or a record folder")
    return found


def folder_of(path: Path) -> Path | None:
    """The record folder that a file lies in: the nearest one above it with a `submission.json`,
    else `records/track_*/X` by the challenge's layout. None for a file outside of both.
    """
    for folder in path.parents:
        if (folder / JSON_NAME).is_file():
            return folder
    own = record_folder(path.as_posix())
    return Path(own) if own and Path(own).is_dir() else None


def load_pull_request(repo: Path, pr: int, at: str | None = None) -> list[Submission]:
    """The submissions that a pull request adds or changes, one a record folder.

    `at` is a commit hash, or a unique prefix of one, to be read instead of the request's head.
    The folder that was touched last comes first. Raises `AuditError`.
    """
    return load_from_clone(Clone(repo), pr, at)


def load_from_clone(clone: Clone, pr: int, at: str | None = None) -> list[Submission]:
    """As `load_pull_request`, for many requests of one open clone."""
    head = clone.commit(at) if at else clone.head_of(pr)
    found = _changed(clone, clone.base_of(head), head, pr)
    if not found:
        raise AuditError(
            f"pull request {pr} at {head[:12]} adds or changes no training script; nothing to audit"
        )
    return found


def load_change(repo: Path, base: str, head: str = "HEAD") -> list[Submission]:
    """The submissions that `head` adds or changes since it left `base`; empty if none.

    Both are names or hashes of commits. Files are read from the clone's objects, so nothing needs
    to be checked out. Raises `AuditError`.
    """
    clone = Clone(repo)
    last = clone.named(head)
    return _changed(clone, clone.branched_from(clone.named(base), last), last, None)


def _changed(clone: Clone, base: str, head: str, pr: int | None) -> list[Submission]:
    """The submissions that a commit adds or changes against another."""
    changed = [os.fsdecode(entry.path) for entry in clone.changed(base, head)]
    tree = {os.fsdecode(entry.path): entry for entry in clone.tree(head)}
    # Of the repository's root only the changed scripts count: its other files are the challenge's.
    scripts = {path for path in changed if "/" not in path and path.endswith(".py")}
    groups = candidates(changed, (path for path in tree if path.endswith(JSON_NAME)))
    for folders in groups:
        if len(folders) > 1:
            touched = {folder: clone.last_touched(head, os.fsencode(folder)) for folder in folders}
            folders.sort(key=lambda folder: (-touched[folder], folder))
        # A script outside of the one record folder that holds only its claims belongs to it.
        claims = groups[0][0] if folders is not groups[0] and len(groups[0]) == 1 else ""
        found = []
        for folder in folders:
            inside = {path for path in tree if path.startswith(folder + "/")} if folder else scripts
            for inner in (other for other in folders if other.startswith(folder + "/")):
                inside = {path for path in inside if not path.startswith(inner + "/")}
            entries = {path[len(folder) :].lstrip("/"): tree[path] for path in sorted(inside)}
            for path in tree if claims else ():
                if path.startswith(f"{claims}/"):
                    entries.setdefault(path[len(claims) + 1 :], tree[path])
            submission = _from_tree(clone, entries, pr, head)
            if submission is not None:
                found.append(submission)
        if found:
            return found
    return []


def _from_tree(
    clone: Clone, entries: Mapping[str, Entry], pr: int | None, head: str
) -> Submission | None:
    """The submission among some files of a commit."""
    facts = {oid: (kind, size) for oid, kind, size in clone.check(e.oid for e in entries.values())}
    listing = {}
    for name, entry in entries.items():
        kind, size = facts[entry.oid]
        listing[name] = _Seen(
            os.fsdecode(entry.path), size, _git_problem(entry.mode, kind), entry.oid
        )

    def read(wanted: list[str]) -> Mapping[str, bytes]:
        blobs = clone.read(entries[name].oid for name in wanted)
        return {name: blobs[entries[name].oid] for name in wanted}

    return _build(listing, read, pr, head)


def _git_problem(mode: str, kind: str) -> str | None:
    if mode == SYMLINK_MODE:
        return "a symbolic link: not followed"
    if mode == GITLINK_MODE:
        return "a submodule: not followed"
    return "its blob is missing from this clone" if kind == "missing" else None


def _build(
    listing: Mapping[str, _Seen],
    read: _Read,
    pr: int | None = None,
    head: str | None = None,
) -> Submission | None:
    """Chooses the main script, reads what the limits allow and names the rest."""
    main_name = main_script({name: seen.size for name, seen in listing.items()})
    if main_name is None:
        return None
    order = sorted(listing, key=lambda name: (name != main_name, listing[name].size, name))
    wanted, unread = _within_limits((name, listing[name]) for name in order)
    files = {
        name: SourceFile.of(printable(listing[name].path), data)
        for name, data in read(wanted).items()
    }
    # An unreadable main script is a result too: the report names it and says why.
    seen = listing[main_name]
    main = files.get(main_name) or SourceFile(printable(seen.path), b"", seen.blob)
    return Submission(main, files, unread, pr=pr, head=head, is_folder=True)


def _within_limits(ordered: Iterable[tuple[str, _Seen]]) -> tuple[list[str], dict[str, str]]:
    """Splits files into those that are read and those that are not, with the reason."""
    wanted: list[str] = []
    unread: dict[str, str] = {}
    left = MAX_FOLDER_BYTES
    for name, seen in ordered:
        problem = seen.problem
        if problem is None and seen.size > MAX_FILE_BYTES:
            problem = f"{seen.size:,} bytes: over the limit of {MAX_FILE_BYTES:,} for one file"
        elif problem is None and (seen.size > left or len(wanted) >= MAX_FILES):
            problem = f"{seen.size:,} bytes: beyond what is read of one folder"
        if problem is not None:
            unread[name] = problem
        else:
            left -= seen.size
            wanted.append(name)
    return wanted, unread


def _read_below(root: Path, wanted: list[str]) -> Mapping[str, bytes]:
    return {name: (root / name).read_bytes() for name in wanted}


def _lone_script(path: Path) -> Submission:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise AuditError(f"{path}: not a regular file; name a Python script or a record folder")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise AuditError(
            f"{path}: {size:,} bytes, over the limit of {MAX_FILE_BYTES:,} for a script; "
            "name the script itself"
        )
    try:
        main = SourceFile.of(printable(path.as_posix()), path.read_bytes())
    except OSError as error:
        raise AuditError(f"{path}: cannot be read: {error.strerror}") from None
    return Submission(main, {path.name: main})


def _listing(folder: Path) -> Iterator[tuple[str, _Seen]]:
    """Every file below `folder`, in a fixed order; links are named and never followed."""
    listed = 0
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted([*names, *links]):
            file = Path(parent, name)
            status = file.lstat()
            problem = None
            if stat.S_ISLNK(status.st_mode):
                problem = "a symbolic link: not followed"
            elif not stat.S_ISREG(status.st_mode):
                problem = "not a regular file"
            elif not os.access(file, os.R_OK):
                problem = "cannot be read: permission denied"
            listed += 1
            if listed > 20 * MAX_FILES:
                raise AuditError(f"{folder}: too many files; name a record folder in it")
            seen = _Seen(file.as_posix(), status.st_size, problem)
            yield file.relative_to(folder).as_posix(), seen
