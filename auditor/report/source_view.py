"""The source as part of a page: each line has an anchor, and marked ones lead to one another."""

from collections.abc import Iterator, Sequence

from auditor.dossier import Dossier
from auditor.finding import Finding
from auditor.report.text import html_text as _text

AROUND = 3  # lines before and after one that is spoken of


def code_row(number: int, text: str, kind: str, anchor: str = "", jumps: str = "") -> str:
    """A line of code; its number is not part of what is copied."""
    identity = f' id="{anchor}"' if anchor else ""
    label = str(number) if number else ""
    return (
        f'<span class="row {kind}"{identity}><i data-n="{label}"></i>'
        f"{_text(text) or ' '}{jumps}\n</span>"
    )


class SourceView:
    """The files of a dossier that a page shows. `prefix` keeps its anchors apart from those of
    other scripts; `spelled` are the findings whose articles are `prefix` + `r` + their index.
    """

    def __init__(
        self, dossier: Dossier, prefix: str, spelled: Sequence[Finding], excerpts: bool
    ) -> None:
        self.dossier = dossier
        self.prefix = prefix
        self.spelled = spelled
        shown = sorted(p for p in dossier.sources if p.endswith((".py", "!unpacked")))
        self.indices = {path: index for index, path in enumerate(shown)}
        self.lengths = {path: dossier.sources[path].count("\n") + 1 for path in shown}
        self.excerpts = excerpts
        self.spoken_of = _spoken_of(dossier) if excerpts else set()
        # Of several findings on one line, the gravest marks it and is led back to.
        self.marked = {
            (evidence.path, evidence.line): index
            for index, finding in reversed(list(enumerate(spelled)))
            for evidence in finding.evidence
        }

    def link(self, path: str, line: int) -> str:
        """A place as code, leading to its line if that is shown."""
        place = self.dossier.short(path) + (f":{line}" if line else "")
        label = f"<code>{_text(place)}</code>"
        where = self.target(path, line)
        return f'<a href="{where}">{label}</a>' if where else label

    def target(self, path: str, line: int) -> str | None:
        """The address of a line within the page, if it is shown."""
        if 0 < line <= self.lengths.get(path, 0) and self._shows(path, line):
            return f"#{self._anchor(path, line)}"
        return None

    def _shows(self, path: str, line: int) -> bool:
        return not self.excerpts or (path, line) in self.spoken_of

    def _anchor(self, path: str, line: int) -> str:
        return f"{self.prefix}f{self.indices[path]}L{line}"

    def sections(self) -> Iterator[str]:
        """Every file, its lines with anchors."""
        for path in self.indices:
            hits = sorted(n for own, n in self.marked if own == path and self.target(own, n))
            rows = "".join(self._rows(path, hits))
            yield f"<section class='source'><h2><code>{_text(self.dossier.short(path))}</code></h2>"
            if hits:
                yield f"<p>Marked lines: {len(hits)}, from {self.link(path, hits[0])}</p>"
            yield f'<pre tabindex="0">{rows}</pre></section>'

    def _rows(self, path: str, hits: Sequence[int]) -> Iterator[str]:
        left_out = 0
        for number, text in enumerate(self.dossier.sources[path].split("\n"), 1):
            if self._shows(path, number):
                if left_out:
                    yield _gap(left_out)
                    left_out = 0
                yield self._row(path, number, text, hits)
            else:
                left_out += 1
        if left_out:
            yield _gap(left_out)

    def _row(self, path: str, number: int, text: str, hits: Sequence[int]) -> str:
        """A line of the source; a marked one leads to its finding and to the marked lines near."""
        anchor = self._anchor(path, number)
        index = self.marked.get((path, number))
        if index is None:
            return code_row(number, text, "", anchor)
        finding = self.spelled[index]
        links = [(f"#{self.prefix}r{index}", finding.rule, "to the finding")]
        at = hits.index(number)
        if at > 0:
            links.append((f"#{self._anchor(path, hits[at - 1])}", "↑", "to the marked line before"))
        if at + 1 < len(hits):
            links.append((f"#{self._anchor(path, hits[at + 1])}", "↓", "to the next marked line"))
        jumps = "".join(
            f' <a class="jump" href="{where}" title="{words}">{_text(label)}</a>'
            for where, label, words in links
        )
        return code_row(number, text, f"hit {finding.status.value}", anchor, jumps)


def _gap(lines: int) -> str:
    return code_row(0, f"… {lines} {'line' if lines == 1 else 'lines'}", "dim")


def _spoken_of(dossier: Dossier) -> set[tuple[str, int]]:
    """The lines that a report names, and a few around each."""
    named = {(e.path, e.line) for finding in dossier.audit.findings for e in finding.evidence}
    for event in dossier.run.timeline:
        named |= {(line.path, line.line) for line in (event.line, *(t.line for t in event.turns))}
    return {
        (path, near)
        for path, line in named
        if line
        for near in range(line - AROUND, line + AROUND + 1)
    }
