"""The report as one page: light and dark, with the source to jump into; no script, no network.

Everything that comes from a submission is escaped, and a content security policy that allows
nothing but this page's own style sheet stands behind that.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

import auditor
from auditor.dossier import Dossier
from auditor.program.events import Event
from auditor.report import history, plots, review
from auditor.report.layout import Cell
from auditor.report.measured import masses
from auditor.report.source_view import SourceView, code_row
from auditor.report.tables import tables
from auditor.report.text import html_text as _text
from auditor.report.view import DEFAULT, MENDED, Audience, View

MAX_EVIDENCE = 8
DIFF = {"+": "added", "-": "removed", "@": "dim"}
MASS_LEGEND = (
    "The sum of the probabilities over the vocabulary at each measured position, logarithmic. On "
    "the line at 1 a score is a code length; a dot above it took bits without paying for them."
)
LEGEND = (
    "What happens, in order, as the data flow shows it; a box is a loop, and a piece is what one "
    "round of the loop with that variable takes."
)


def render(dossiers: Sequence[Dossier], view: View = DEFAULT) -> str:
    """The page for all scripts. The same input gives the same bytes."""
    title = " · ".join(_name(dossier) for dossier in dossiers)
    body = "\n".join(
        line
        for number, dossier in enumerate(dossiers)
        for line in _Page(dossier, number, view).lines()
    )
    return document(f"{title} - audit", body)


def document(title: str, body: str, *, forms: bool = False) -> str:
    """A page with its own style and a policy that allows nothing else, but with `forms` to send
    one to the server that it came from. `body` is HTML, `title` text."""
    style = _style()
    # Without a referrer a browser sends a form from "null", which no server can tell from others.
    referrer = "same-origin" if forms else "no-referrer"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    action = "'self'" if forms else "'none'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action {action}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="{referrer}">
<title>{_text(title)}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""  # noqa: E501 - a policy is one line


@cache
def _style() -> str:
    return files("auditor.report").joinpath("report.css").read_text(encoding="utf-8").strip()


def _name(dossier: Dossier) -> str:
    name = dossier.folder.rstrip("/").rpartition("/")[2] or dossier.audit.path
    return f"PR {dossier.audit.pr}: {name}" if dossier.audit.pr is not None else name


class _Page:
    """One script's part of the page; `number` keeps its anchors apart from the others'."""

    def __init__(self, dossier: Dossier, number: int, view: View) -> None:
        self.dossier = dossier
        self.view = view
        self.audit = dossier.audit
        self.prefix = f"s{number}"
        self.spelled = review.spelled(dossier, view)
        merged = [replace(own.first, evidence=own.evidence) for own in self.spelled]
        self.source = SourceView(dossier, self.prefix, merged, view.excerpts)
        self._link = self.source.link

    def lines(self) -> Iterator[str]:
        """The page's parts, from the top."""
        yield "<main>"
        yield from self._header()
        whole = self.view.audience is not Audience.SUBMITTER
        if whole:
            yield from self._answers()
        yield from self._findings()
        yield from self._patches()
        yield from self._timeline()
        if whole:
            yield from self._what_ran()
            yield from self._masses()
            yield from self._figures()
            yield from self._rules()
            yield from self._not_examined()
        yield from self._again()
        yield from self.source.sections()
        yield "</main>"

    def _header(self) -> Iterator[str]:
        audit = self.audit
        yield f"<header><h1>{_text(_name(self.dossier))}</h1>"
        if (warning := history.override_warning(self.dossier)) is not None:
            yield f'<p class="warning">{_text(warning)}</p>'
        yield f'<p class="outcome">{_text(review.outcome(audit))}</p>'
        yield '<div class="verdict">'
        for label, value, kind in (
            ("validity", audit.validity.value, audit.validity.value),
            ("readiness", audit.readiness.value, audit.readiness.value),
        ):
            yield f'<div class="card {kind}"><span>{label}</span><b>{value}</b></div>'
        advice, _, condition = review.recommendation(self.dossier).partition(", ")
        yield f'<div class="card advice"><span>advice</span><b>{_text(advice)}</b>'
        yield f"<small>{_text(condition)}</small></div></div>"
        facts = [
            ("script", audit.path),
            ("blob", audit.blob),
            ("head", audit.head or ""),
            ("packing", "; ".join(self.dossier.packing)),
            ("policy", audit.policy),
            ("rules", self.dossier.rules_version),
            ("auditor", auditor.__version__),
        ]
        rows = (f"<dt>{n}</dt><dd><code>{_text(v)}</code></dd>" for n, v in facts if v)
        yield f"<dl>{''.join(rows)}</dl></header>"

    def _answers(self) -> Iterator[str]:
        yield "<section><h2>The four questions</h2><ol class='answers'>"
        for answer in review.answers(self.dossier):
            places = "".join(f" {self._link(e.path, e.line)}" for e in answer.places)
            more = [answer.question.consequence, *([answer.why] if answer.why else [])]
            more += [f"precedent {', '.join(answer.precedents)}"] if answer.precedents else []
            yield (
                f"<li>{_text(answer.question.text)} <b>{_text(answer.result)}</b>{places} "
                f"<span class='dim'>({_text('; '.join(more))})</span></li>"
            )
        yield "</ol></section>"

    def _findings(self) -> Iterator[str]:
        counted = review.counts(self.audit.findings)
        yield f"<section><h2>Findings</h2><p class='dim'>{_text(counted)}</p>"
        for index, spelled in enumerate(self.spelled):
            yield from self._finding(spelled, index)
        if reasons := review.undecided(self.dossier, self.view):
            yield "<article class='unknown'><h3><span class='badge'>unknown</span> not decided</h3>"
            yield "<ul>"
            for reason, rules in reasons:
                marked = " ".join(f"<code>{_text(rule)}</code>" for rule in rules)
                yield f"<li>{marked} {_text(reason)}</li>"
            yield "</ul></article>"
        yield "</section>"

    def _finding(self, spelled: review.Spelled, index: int) -> Iterator[str]:
        finding = spelled.first
        status = finding.status.value
        yield f'<article class="{status}" id="{self.prefix}r{index}"><h3>'
        yield f'<span class="badge">{status}</span> '
        yield f"<code>{_text(finding.rule)}</code> "
        yield f"{_text(self.dossier.title(finding))}</h3>"
        yield f"<p>{_text(finding.reason)}</p>"
        for excerpt in self.dossier.excerpts(spelled.evidence[:MAX_EVIDENCE], around=3):
            place = self._link(excerpt.path, excerpt.hits[0])
            if not excerpt.hits[0]:  # a file as a whole, and what is said of it
                yield f'<p class="place">{place}: {_text(excerpt.lines[0][1])}</p>'
                continue
            yield f'<p class="place">{place}</p>'
            rows = (code_row(n, t, "hit" if n in excerpt.hits else "") for n, t in excerpt.lines)
            yield f'<pre tabindex="0">{"".join(rows)}</pre>'
        if decided := [history.decided(self.dossier, v) for v in spelled.deciding(self.dossier)]:
            marked = ", ".join(f"<code>{_text(text)}</code>" for text in decided)
            yield f"<p class='dim'>Runs with {marked}</p>"
        legal = self.dossier.legal(finding)
        if self.view.mends and finding.status in MENDED and legal:
            yield f"<p class='legal'>Legal: {_text(legal)}</p>"
        facts = review.basis(self.dossier, finding)
        facts += [f"precedent {', '.join(finding.precedent)}"] if finding.precedent else []
        yield f'<p class="dim">{_text("; ".join(facts))}</p>'
        if finding.witness is not None:
            name = review.witness_name(self.audit, finding)
            yield f"<p>Replay: <code>auditor replay {_text(name)}</code></p>"
        yield "</article>"

    def _patches(self) -> Iterator[str]:
        if self.dossier.patches:
            yield "<section><h2>Suggested patch</h2>"
            for patch in self.dossier.patches:
                yield f"<p><code>{_text(patch.rule)}</code>: {_text(patch.words)}.</p>"
                rows = (
                    f'<span class="row {DIFF.get(line[:1], "")}">{_text(line) or " "}\n</span>'
                    for line in patch.diff.splitlines()
                )
                yield f'<pre class="diff" tabindex="0">{"".join(rows)}</pre>'
            yield "</section>"

    def _timeline(self) -> Iterator[str]:
        """Loops as boxes, nested as they run; what findings rest on stands out."""
        if not self.dossier.run.timeline:
            return
        yield "<section><h2>Timeline</h2>"
        drawing = plots.timeline(self.dossier, self.source.target)
        yield f"<div class='wide' tabindex='0'>{drawing}</div>" if drawing else ""
        yield f"<p class='dim'>{_text(LEGEND)}</p><ol class='timeline'>"
        depth = 0
        for row in history.rows(self.dossier):
            yield "</ol></li>" * (depth - row.depth)
            depth = row.depth
            if row.turn is not None:
                depth += 1
                where = self._link(row.turn.line.path, row.turn.line.line)
                yield f"<li class='loop'><p><code>{_text(history.heading(row.turn))}</code>"
                yield f" {where} <span class='dim'>{_text(row.turn.line.function)}</span></p><ol>"
            if row.event is not None:
                yield from self._event(row, row.event)
        yield "</ol></li>" * depth + "</ol></section>"

    def _event(self, row: history.Row, event: Event) -> Iterator[str]:
        kind = event.kind.value
        distinct = list(dict.fromkeys(row.lines))
        places = " ".join(
            self._link(line.path, line.line) for line in distinct[: history.MAX_LINES]
        )
        if len(distinct) > history.MAX_LINES:
            places += f" and {len(distinct) - history.MAX_LINES} more"
        flags = "".join(f" <b class='flag'>{_text(flag)}</b>" for flag in row.flags)
        yield f"<li class='event'><span class='kind {kind}'>{kind}</span><div>{places} "
        yield f"<span class='dim'>{_text(event.line.function)}</span>{flags}"
        if details := "; ".join(event.details()):
            yield f"<p>{_text(details)}</p>"
        yield "</div></li>"

    def _what_ran(self) -> Iterator[str]:
        variables = history.variables_by_weight(self.dossier)
        if not variables:
            return
        yield f"<section><h2>What ran</h2><details><summary>{len(variables)} environment variables"
        yield " that the script reads</summary><div class='wide'><table><thead><tr>"
        yield "".join(f"<th>{n}</th>" for n in ("variable", "value", "decided by", "place"))
        yield "</tr></thead><tbody>"
        for v in variables:
            switch = {True: "on", False: "off", None: ""}[v.switch]
            place = v.evidence
            where = self._link(place.path, place.line) if place.path else _text(place.text)
            yield f"<tr><td><code>{_text(v.name)}</code></td><td><code>{_text(v.value)}</code> "
            yield f"<span class='{switch or 'dim'}'>{switch}</span></td>"
            yield f"<td>{v.decider.value}</td><td>{where}</td></tr>"
        yield "</tbody></table></div></details></section>"

    def _numbers(self) -> Iterator[str]:
        if self.audit.numbers:
            yield "<section><h2>Numbers</h2><table>"
            for name, value in self.audit.numbers.items():
                yield f"<tr><th>{_text(name)}</th><td>{_text(review.figure(name, value))}</td></tr>"
            yield "</table></section>"

    def _figures(self) -> Iterator[str]:
        """The tables; without any, the numbers by name."""
        found = tables(self.dossier)
        if not found:
            yield from self._numbers()
        for table in found:
            yield f"<section><h2>{_text(table.title)}</h2>"
            if table.rows:
                head = "".join(f"<th>{_text(name)}</th>" for name in table.head)
                yield "<div class='wide' tabindex='0'><table class='figures'>"
                yield f"<thead><tr>{head}</tr></thead><tbody>"
                for row in table.rows:
                    cells = "".join(f"<td>{self._cell(cell, row[0])}</td>" for cell in row)
                    yield f"<tr>{cells}</tr>"
                yield "</tbody></table></div>"
            yield "".join(f"<p class='dim'>{_text(note)}</p>" for note in table.notes)
            yield "</section>"

    def _masses(self) -> Iterator[str]:
        for measured in masses(self.dossier):
            yield f"<section><h2>Mass of <code>{_text(measured.name)}</code></h2>"
            yield f"<p class='dim'>{_text(MASS_LEGEND)}</p>"
            yield f"<div class='wide' tabindex='0'>{plots.mass(measured)}</div></section>"

    def _cell(self, cell: Cell, first: Cell) -> str:
        if cell.place is None:
            return _text(cell.text)
        if not cell.place.line:
            return f"<code>{_text(self.dossier.short(cell.text))}</code>"
        if cell.names_file(first):
            return f"{_text(cell.text)} <small><code>:{cell.place.line}</code></small>"
        return f"{_text(cell.text)} <small>{self._link(cell.place.path, cell.place.line)}</small>"

    def _rules(self) -> Iterator[str]:
        """Two tables: the axes are never mixed."""
        names = ("rule", "status", "basis", "reason", "evidence", "precedent")
        head = "".join(f"<th>{name}</th>" for name in names)
        for axis, rulings in review.by_axis(self.dossier):
            yield f"<section><h2>{axis.value.capitalize()}: every rule</h2>"
            yield "<div class='wide' tabindex='0'><table class='rules'>"
            yield f"<thead><tr>{head}</tr></thead><tbody>"
            for own in rulings:
                cells = (
                    f"<code>{_text(own.rule)}</code>",
                    f'<span class="{own.status.name.lower()}">{own.status.value}</span>',
                    own.basis,
                    "<br>".join(map(_text, own.reasons)),
                    " ".join(self._link(e.path, e.line) for e in own.evidence),
                    _text(own.precedents),
                )
                yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
            yield "</tbody></table></div></section>"

    def _not_examined(self) -> Iterator[str]:
        if self.audit.not_examined:
            yield "<section><h2>Not examined</h2><ul>"
            texts = review.not_examined(self.dossier)
            yield "".join(f"<li>{_text(text)}</li>" for text in texts)
            yield "</ul></section>"

    def _again(self) -> Iterator[str]:
        yield f"<section><h2>Run it again</h2><pre>{_text(review.rerun(self.dossier))}</pre>"
        if self.dossier.files:
            yield f"<details><summary>Files ({len(self.dossier.files)})</summary>"
            yield "<div class='wide'><table>"
            for file in self.dossier.files:
                yield f"<tr><td><code>{_text(self.dossier.short(file.path))}</code></td>"
                yield f"<td><code>{_text(file.blob)}</code></td><td>{file.bytes:,}</td>"
                yield f"<td>{_text(file.problem or '')}</td></tr>"
            yield "</table></div></details>"
        yield "</section>"
