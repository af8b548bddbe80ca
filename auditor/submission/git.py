"""Reads commits, trees and blobs of a git clone through plumbing commands alone.

Nothing is checked out, no hook runs, nothing is fetched: a clone of hostile pull requests is only
data. Every command runs with the `GIT_*` variables of the caller removed.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from auditor.errors import AuditError

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
TIMEOUT_SECONDS = 120
MAIN_REFS = (
    "refs/remotes/origin/HEAD",
    "refs/remotes/origin/main",
    "refs/heads/main",
    "refs/heads/master",
    "HEAD",
)
# GitHub's own name for a pull request's head, and the two usual places to fetch it to.
PULL_REFS = ("refs/pull/{}/head", "refs/remotes/origin/pr/{}", "refs/remotes/origin/pull/{}/head")
PULL_REF = re.compile(r"refs/(?:pull|remotes/origin/pr|remotes/origin/pull)/([0-9]+)(?:/head)?")
SHA_PREFIX = re.compile(r"[0-9a-f]{4,64}")
SYMLINK_MODE, GITLINK_MODE = "120000", "160000"


@dataclass(frozen=True)
class Entry:
    """One path of a tree. `mode` is git's six octal digits; `path` is as stored, bytes."""

    mode: str
    oid: str
    path: bytes


class Clone:
    """A git clone, bare or not."""

    def __init__(self, path: Path) -> None:
        """Opens the clone at `path`; raises `AuditError` if it is none."""
        self.path = path
        if not path.is_dir():
            raise AuditError(f"{path}: no such folder; --repo wants a git clone")
        if self._try("rev-parse", "--git-dir") is None:
            raise AuditError(
                f"{path}: not a git clone that git accepts; make one with "
                f"'git clone --bare URL', or check its owner (git's safe.directory)"
            )

    def pull_requests(self) -> list[int]:
        """The numbers of all pull requests whose heads are here, ascending."""
        refs = self._run("for-each-ref", "--format=%(refname)").decode().splitlines()
        return sorted({int(m.group(1)) for m in map(PULL_REF.fullmatch, refs) if m})

    def head_of(self, pr: int) -> str:
        """The commit at the head of a pull request, 40 hex digits."""
        for ref in PULL_REFS:
            found = self._try("rev-parse", "--verify", "--quiet", ref.format(pr) + "^{commit}")
            if found:
                return found
        raise AuditError(
            f"{self.path}: no pull request {pr} in this clone; "
            f"fetch it with 'git fetch origin refs/pull/{pr}/head:refs/pull/{pr}/head'"
        )

    def commit(self, prefix: str) -> str:
        """The one commit whose hash starts with `prefix` (4 hex digits or more)."""
        if not SHA_PREFIX.fullmatch(prefix.lower()):
            raise AuditError(f"{prefix!r} is no commit hash: 4 to 64 hexadecimal digits are wanted")
        objects = (self._try("rev-parse", f"--disambiguate={prefix.lower()}") or "").split()
        commits = [oid for oid, kind, _ in self.check(objects) if kind == "commit"]
        if len(commits) == 1:
            return commits[0]
        if commits:
            raise AuditError(
                f"{prefix} is ambiguous: {', '.join(sorted(c[:12] for c in commits))}; add digits"
            )
        raise AuditError(f"{self.path}: no commit {prefix} in this clone; fetch it, or check it")

    def named(self, name: str) -> str:
        """The commit that a branch, a tag, a hash or `HEAD` names."""
        verify = ("rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
        found = None if name.startswith("-") else self._try(*verify)
        if not found:
            raise AuditError(f"{self.path}: {name!r} names no commit of this clone; fetch it")
        return found

    def branched_from(self, base: str, head: str) -> str:
        """Where `head` left `base`: their merge base, or the empty tree."""
        return self._merge_base(head, base) or EMPTY_TREE

    @cached_property
    def main(self) -> str:
        """The head of the main branch."""
        for ref in MAIN_REFS:
            found = self._try("rev-parse", "--verify", "--quiet", ref + "^{commit}")
            if found:
                return found
        raise AuditError(f"{self.path}: no main branch in this clone; fetch one")

    @cached_property
    def _first_parents(self) -> tuple[str, ...]:
        """The first-parent line of main, newest first."""
        return tuple(self._run("rev-list", "--first-parent", self.main).decode().split())

    def base_of(self, head: str) -> str:
        """The commit (or the empty tree) that `head` is to be compared with.

        Usually the merge base with main. A merged head is its own merge base: it is compared with
        the main branch as it was just before the merge.
        """
        merge_base = self._merge_base(head, self.main)
        if merge_base != head:
            return merge_base or EMPTY_TREE
        if head in self._first_parents:
            return self._parent(head) or EMPTY_TREE
        after = set(
            self._run("rev-list", "--ancestry-path", f"{head}..{self.main}").decode().split()
        )
        merge = next(c for c in reversed(self._first_parents) if c in after)
        before = self._parent(merge)
        return (self._merge_base(head, before) if before else None) or EMPTY_TREE

    def changed(self, base: str, head: str) -> list[Entry]:
        """The files that `head` adds or modifies against `base`."""
        raw = self._run("diff-tree", "-r", "-z", "--no-renames", "--diff-filter=d", base, head)
        fields = iter(raw.split(b"\0"))
        return [
            Entry(meta.split()[1].decode(), meta.split()[3].decode(), next(fields))
            for meta in fields
            if meta.startswith(b":")
        ]

    def tree(self, commit: str) -> list[Entry]:
        """Every file of a commit; submodules and symbolic links too, as entries."""
        entries = []
        for line in self._run("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0"):
            if line:
                meta, path = line.split(b"\t", 1)
                mode, _, oid = meta.decode().split()
                entries.append(Entry(mode, oid, path))
        return entries

    def check(self, oids: Iterable[str]) -> Iterator[tuple[str, str, int]]:
        """For each object: its hash, its type or `missing`, its size in bytes (0 if missing)."""
        names = "\n".join(oids).encode()
        if names:
            for line in self._run("cat-file", "--batch-check", stdin=names + b"\n").splitlines():
                oid, kind, *size = line.decode().split()
                yield oid, kind, int(size[0]) if size else 0

    def read(self, oids: Iterable[str]) -> Mapping[str, bytes]:
        """The contents of blobs that `check` found present."""
        names = "\n".join(oids).encode()
        if not names:
            return {}
        out = self._run("cat-file", "--batch", stdin=names + b"\n")
        blobs, at = {}, 0
        while at < len(out):
            end = out.index(b"\n", at)
            oid, kind, *size = out[at:end].decode().split()
            if kind == "missing":
                raise AuditError(f"{self.path}: object {oid} vanished while it was read; run again")
            at = end + 1 + int(size[0])
            blobs[oid] = out[end + 1 : at]
            at += 1
        return blobs

    def last_touched(self, head: str, folder: bytes) -> int:
        """Unix time of the last commit up to `head` that touched `folder`."""
        path = b":(literal)" + (folder or b".")
        stamp = self._run("rev-list", "-1", "--format=%ct", "--no-commit-header", head, "--", path)
        return int(stamp or 0)

    def _merge_base(self, one: str, other: str) -> str | None:
        found = self._try("merge-base", one, other)
        return found.split()[0] if found else None

    def _parent(self, commit: str) -> str | None:
        return self._try("rev-parse", "--verify", "--quiet", commit + "^1")

    def _try(self, *arguments: str) -> str | None:
        """The command's output, or None where git refuses."""
        done = self._git(arguments, b"")
        return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None

    def _run(self, *arguments: str | bytes, stdin: bytes = b"") -> bytes:
        done = self._git(arguments, stdin)
        if done.returncode:
            words = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
            raise AuditError(f"{self.path}: git {arguments[0]!s} failed: {words[-1]}")
        return done.stdout

    def _git(
        self, arguments: Iterable[str | bytes], stdin: bytes
    ) -> "subprocess.CompletedProcess[bytes]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        environment |= {
            "GIT_ALLOW_PROTOCOL": "none",  # a git too old for the next line cannot fetch either
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
        }
        command = ["git", "-C", str(self.path), "-c", "core.hooksPath=/dev/null"]
        try:
            return subprocess.run(
                [*command, *arguments],
                input=stdin,
                capture_output=True,
                env=environment,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise AuditError("git is not installed; --repo needs it") from None
        except subprocess.TimeoutExpired:
            raise AuditError(f"{self.path}: git took over {TIMEOUT_SECONDS} s; try again") from None
