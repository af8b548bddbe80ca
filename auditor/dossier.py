"""An audit together with the material that its report shows: sources, hashes, rule pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from auditor.evidence.books import Books
from auditor.finding import Audit, Axis, Evidence, Finding
from auditor.fix.patch import Patch
from auditor.policy import Weight
from auditor.program.events import Event
from auditor.program.what_ran import Variable


@dataclass(frozen=True)
class FileFact:
    """A file of the submission. `problem` says why it was not read, if so."""

    path: str
    blob: str
    bytes: int
    problem: str | None = None


@dataclass(frozen=True)
class RuleFact:
    """What a report says of a rule."""

    id: str
    title: str
    axis: Axis
    version: int
    source: str
    legal: str = ""
    weight: Weight = Weight.BREAKS


@dataclass(frozen=True)
class Excerpt:
    """Lines of a file with their numbers; `hits` are those that the evidence names."""

    path: str
    hits: tuple[int, ...]
    lines: tuple[tuple[int, str], ...]

    @property
    def place(self) -> str:
        """The path with the first line that matters."""
        return f"{self.path}:{self.hits[0]}" if self.hits[0] else self.path


@dataclass(frozen=True)
class RunFacts:
    """The run that was judged. `deciding` holds, for each finding of the audit, the variables that
    decide whether the lines it rests on run; `overrides` what the audit set against the files, and
    `without_effect` those of them that the script never asks for.
    """

    timeline: tuple[Event, ...] = ()
    variables: tuple[Variable, ...] = ()
    deciding: tuple[tuple[str, ...], ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    without_effect: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dossier:
    """One audited script.

    `titles` holds, for each finding of the audit, what its rule calls the fault. `sources` maps the
    paths that findings cite to their text; for a packed script that is its path followed by
    `!unpacked`. `packing` says in words how a packed script was opened. `patches` are suggestions:
    the legal variant of what failed, where that is certain. `books` holds claims, logs and what
    they add up to; `probed` the results of the dynamic probes by name.
    """

    audit: Audit
    titles: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    files: tuple[FileFact, ...] = ()
    rules: tuple[RuleFact, ...] = ()
    packing: tuple[str, ...] = ()
    dynamic: bool = False
    run: RunFacts = field(default_factory=RunFacts)
    patches: tuple[Patch, ...] = ()
    books: Books = field(default_factory=Books)
    probed: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def folder(self) -> str:
        """The folder that the script lies in, with a slash at its end; empty for none."""
        head, slash, _ = self.audit.path.rpartition("/")
        return head + slash

    def title(self, finding: Finding) -> str:
        """What the rule of one of the audit's findings calls the fault."""
        pairs = zip(self.audit.findings, self.titles, strict=False)
        return next((title for own, title in pairs if own is finding), finding.rule)

    def legal(self, finding: Finding) -> str:
        """What the rule of a finding allows instead; empty where it says nothing."""
        return next((rule.legal for rule in self.rules if rule.id == finding.rule), "")

    def weight(self, finding: Finding) -> Weight:
        """What a failure of the finding's rule does under the policy."""
        found = (rule.weight for rule in self.rules if rule.id == finding.rule)
        return next(found, Weight.BREAKS)

    def deciding(self, finding: Finding) -> list[Variable]:
        """The variables that decide whether the lines of a finding run."""
        pairs = zip(self.audit.findings, self.run.deciding, strict=False)
        names = next((names for own, names in pairs if own is finding), ())
        return [variable for variable in self.run.variables if variable.name in names]

    def short(self, path: str) -> str:
        """`path` as seen from the script's folder."""
        return path.removeprefix(self.folder)

    @cached_property
    def _lines(self) -> dict[str, list[str]]:
        return {path: text.split("\n") for path, text in self.sources.items()}

    def excerpts(self, evidence: Sequence[Evidence], around: int = 2) -> list[Excerpt]:
        """What to quote for some evidence: places whose lines overlap are quoted together."""
        found: list[Excerpt] = []
        for place in evidence:
            lines = self._lines.get(place.path, [])
            if not 0 < place.line <= len(lines):
                found.append(Excerpt(place.path, (place.line,), ((place.line, place.text),)))
                continue
            first, last = max(1, place.line - around), min(len(lines), place.line + around)
            hits = [place.line]
            near = found[-1] if found else None
            if near is not None and near.path == place.path and near.lines[0][0]:
                before, after = near.lines[0][0], near.lines[-1][0]
                if before <= last + 1 and first <= after + 1:
                    first, last = min(first, before), max(last, after)
                    hits = sorted({*near.hits, *hits})
                    found.pop()
            quoted = tuple((number, lines[number - 1]) for number in range(first, last + 1))
            found.append(Excerpt(place.path, tuple(hits), quoted))
        return found

    @cached_property
    def rules_version(self) -> str:
        """The version of every rule that was applied, as `A1.1 C2.1 ...`."""
        return " ".join(sorted({f"{rule.id}.{rule.version}" for rule in self.rules}))
