"""The source as part of a page: each line has an anchor, and marked ones lead to one another."""

from collections.abc import Iterator, Sequence

from auditor.dossier import Dossier
from auditor.finding import Finding
from auditor.report.text import html_text as _text


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

    def __init__(self, dossier: Dossier, prefix: str, spelled: Sequence[Finding]) -> None:
        self.dossier = dossier
        self.prefix = prefix
        self.spelled = spelled
        shown = sorted(p for p in dossier.sources if p.endswith((".py", "!unpacked")))
        self.indices = {path: index for index, path in enumerate(shown)}
        self.lengths = {path: dossier.sources[path].count("\n") + 1 for path in shown}
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
        """The address of a line within the page, if its file is shown."""
        if 0 < line <= self.lengths.get(path, 0):
            return f"#{self._anchor(path, line)}"
        return None

    def _anchor(self, path: str, line: int) -> str:
        return f"{self.prefix}f{self.indices[path]}L{line}"

    def sections(self) -> Iterator[str]:
        """Every file, its lines with anchors."""
        for path in self.indices:
            hits = sorted(n for own, n in self.marked if own == path and self.target(own, n))
            lines = self.dossier.sources[path].split("\n")
            rows = "".join(self._row(path, n, text, hits) for n, text in enumerate(lines, 1))
            yield f"<section class='source'><h2><code>{_text(self.dossier.short(path))}</code></h2>"
            if hits:
                yield f"<p>Marked lines: {len(hits)}, from {self.link(path, hits[0])}</p>"
            yield f'<pre tabindex="0">{rows}</pre></section>'

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
