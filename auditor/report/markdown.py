"""The review, ready to be pasted as a comment on a pull request.

It says the outcome in one line, the verdict on both axes and an advice with its condition, answers
the four questions that reviewers of this challenge ask first, and then shows the findings, the
numbers and every rule. Nothing in it pings, links or
runs: what it quotes is code, and the rest is escaped.
"""

from collections.abc import Iterator, Sequence

import auditor
from auditor.dossier import Dossier, Excerpt
from auditor.finding import Evidence, Finding
from auditor.program.what_ran import Decider
from auditor.report import history, review
from auditor.report.layout import Cell
from auditor.report.tables import tables
from auditor.report.text import code_block, code_span, markdown
from auditor.report.view import DEFAULT, MENDED, Audience, View

MAX_EVIDENCE = 4


def render(dossiers: Sequence[Dossier], view: View = DEFAULT) -> str:
    """The reviews of all scripts, one after the other."""
    if not dossiers:
        return "No training script was changed: there is nothing to audit.\n"
    return "\n\n---\n\n".join(_review(dossier, view) for dossier in dossiers) + "\n"


def _review(dossier: Dossier, view: View) -> str:
    if view.audience is Audience.SUBMITTER:
        parts = [
            *_header(dossier),
            *_findings(dossier, view),
            *_patches(dossier),
            *(_timeline(dossier, view) if view.history else []),
            *_again(dossier),
        ]
    else:
        parts = [
            *_header(dossier),
            *_answers(dossier),
            *_findings(dossier, view),
            *_patches(dossier),
            *_figures(dossier),
            *_rules(dossier),
            *_timeline(dossier, view),
            *_what_ran(dossier),
            *_witnesses(dossier),
            *_not_examined(dossier),
            *_again(dossier),
        ]
    return "\n\n".join(parts)


def _header(dossier: Dossier) -> list[str]:
    audit = dossier.audit
    name = dossier.folder.rstrip("/").rpartition("/")[2] or audit.path
    rows = [f"- script: {code_span(audit.path)}, blob {code_span(audit.blob or 'unknown')}"]
    if audit.head is not None:
        pull = f"pull request {audit.pr}, " if audit.pr is not None else ""
        rows.insert(0, f"- {pull}head {code_span(audit.head)}")
    rows += [f"- {markdown(step)}" for step in dossier.packing]
    rows.append(
        f"- auditor {auditor.__version__}, policy {code_span(audit.policy)}, "
        f"rules {code_span(dossier.rules_version or 'none')}"
    )
    warning = history.override_warning(dossier)
    banner = [f"> **{markdown(warning)}**"] if warning is not None else []
    return [
        f"### Audit of {code_span(name)}",
        *banner,
        f"**{markdown(review.outcome(audit))}**",
        "\n".join([*_verdict(dossier), *rows]),
    ]


def _verdict(dossier: Dossier) -> list[str]:
    audit = dossier.audit
    return [
        f"- validity: **{audit.validity.value}**",
        f"- readiness: **{audit.readiness.value}**",
        f"- recommendation: **{markdown(review.recommendation(dossier))}**",
    ]


def _answers(dossier: Dossier) -> list[str]:
    lines = []
    for number, answer in enumerate(review.answers(dossier), 1):
        line = f"{number}. {markdown(answer.question.text)} **{markdown(answer.result)}**"
        line += f" ({markdown(answer.question.consequence)})"
        if answer.places:
            line += ": " + ", ".join(dict.fromkeys(_place(dossier, e) for e in answer.places))
        if answer.why:
            line += f": {markdown(answer.why)}"
        if answer.precedents:
            line += f"; precedent {markdown(', '.join(answer.precedents))}"
        lines.append(line)
    return ["#### The four questions", "\n".join(lines)]


def _findings(dossier: Dossier, view: View) -> list[str]:
    parts = []
    for spelled in review.spelled(dossier, view):
        finding = spelled.first
        title = markdown(dossier.title(finding))
        parts.append(f"**{finding.status.value} {code_span(finding.rule)}: {title}**")
        facts = ", ".join(review.basis(dossier, finding))
        parts.append(f"{markdown(finding.reason)} ({facts})")
        parts += _quotes(dossier, spelled.evidence)
        if decided := [history.decided(dossier, v) for v in spelled.deciding(dossier)]:
            parts.append("Runs with " + ", ".join(code_span(text) for text in decided))
        if view.mends and finding.status in MENDED and dossier.legal(finding):
            parts.append(f"Legal: {markdown(dossier.legal(finding))}")
    if reasons := review.undecided(dossier, view):
        parts.append("**not decided**")
        parts.append(
            "\n".join(
                f"- {', '.join(map(code_span, rules))}: {markdown(reason)}"
                for reason, rules in reasons
            )
        )
    return ["#### Findings", *parts] if parts else []


def _quotes(dossier: Dossier, evidence: Sequence[Evidence]) -> Iterator[str]:
    """The lines of each place; of a file as a whole what is said of it."""
    for excerpt in dossier.excerpts(evidence[:MAX_EVIDENCE]):
        place = code_span(dossier.short(excerpt.place))
        if excerpt.hits[0]:
            yield place
            yield _quote(excerpt)
        else:
            yield f"{place}: {markdown(excerpt.lines[0][1])}"
    if len(evidence) > MAX_EVIDENCE:
        yield f"and {len(evidence) - MAX_EVIDENCE} more places"


def _patches(dossier: Dossier) -> list[str]:
    parts = []
    for patch in dossier.patches:
        parts.append(f"A suggestion for {code_span(patch.rule)}: {markdown(patch.words)}.")
        parts.append(code_block(patch.diff.splitlines(), "diff"))
    return ["#### Suggested patch", *parts] if parts else []


def _timeline(dossier: Dossier, view: View) -> list[str]:
    if not dossier.run.timeline:
        return []
    drawn = code_block([text for _, text in history.drawing(dossier, 100)])
    if view.history:
        return ["#### Timeline", drawn]
    summary = "<details><summary>what is scored, trained and counted, in order</summary>"
    return ["#### Timeline", summary, drawn, "</details>"]


def _what_ran(dossier: Dossier) -> list[str]:
    """The switches, and the variables that the script's own defaults do not decide."""
    rows = [
        f"| {code_span(v.name, True)} | {code_span(v.value, True)} | {v.decider.value} | "
        f"{_place(dossier, v.evidence, True) if v.evidence.path else markdown(v.evidence.text)} |"
        for v in history.variables_by_weight(dossier)
        if v.switch is not None or v.decider is not Decider.DEFAULT
    ]
    if not rows:
        return []
    rest = len(dossier.run.variables) - len(rows)
    table = "\n".join(["| variable | value | decided by | place |", "|---|---|---|---|", *rows])
    summary = f"{len(rows)} variables, and {rest} at the script's defaults"
    return ["#### What ran", f"<details><summary>{summary}</summary>", table, "</details>"]


def _quote(excerpt: Excerpt) -> str:
    width = len(str(excerpt.lines[-1][0]))
    marked = [
        f"{'>' if number in excerpt.hits else ' '} {number or '':>{width}}  {text}"
        for number, text in excerpt.lines
    ]
    return code_block(marked)


def _place(dossier: Dossier, evidence: Evidence, in_table: bool = False) -> str:
    line = f":{evidence.line}" if evidence.line else ""
    return code_span(dossier.short(evidence.path) + line, in_table)


def _numbers(dossier: Dossier) -> list[str]:
    rows = [
        f"| {markdown(name)} | {markdown(review.figure(name, v))} |"
        for name, v in dossier.audit.numbers.items()
    ]
    return ["#### Numbers", "\n".join(["| number | value |", "|---|---|", *rows])] if rows else []


def _figures(dossier: Dossier) -> list[str]:
    """The tables; without any, the numbers by name."""
    parts = []
    for table in tables(dossier):
        parts.append(f"#### {table.title}")
        if table.rows:
            shown = [" | ".join(map(markdown, table.head)), " | ".join("---" for _ in table.head)]
            cells = ([_cell(dossier, cell, row[0]) for cell in row] for row in table.rows)
            shown += map(" | ".join, cells)
            parts.append("\n".join(f"| {text} |" for text in shown))
        parts += [markdown(note) for note in table.notes]
    return parts or _numbers(dossier)


def _cell(dossier: Dossier, cell: Cell, first: Cell) -> str:
    if cell.place is None:
        return markdown(cell.text)
    if not cell.place.line:
        return code_span(dossier.short(cell.text), True)
    if cell.names_file(first):
        return f"{markdown(cell.text)} ({code_span(f':{cell.place.line}', True)})"
    return f"{markdown(cell.text)} ({_place(dossier, cell.place, True)})"


def _rules(dossier: Dossier) -> list[str]:
    """Two tables: the axes are never mixed."""
    parts = []
    for axis, rulings in review.by_axis(dossier):
        rows = ["| rule | status | basis | evidence | precedent |", "|---|---|---|---|---|"]
        for own in rulings:
            places = ", ".join(_place(dossier, e, in_table=True) for e in own.evidence)
            rows.append(
                f"| {code_span(own.rule, True)} | {own.status.value} | {own.basis} "
                f"| {places} | {markdown(own.precedents)} |"
            )
        counted = review.counts(finding for own in rulings for finding in own.findings)
        summary = f"<details><summary>every rule: {counted}</summary>"
        parts += [f"#### {axis.value.capitalize()}", summary, "\n".join(rows), "</details>"]
    return parts


def _witnesses(dossier: Dossier) -> list[str]:
    lines = [
        f"- {code_span(finding.rule)}: {code_span('auditor replay ' + _name(dossier, finding))}"
        for finding in dossier.audit.findings
        if finding.witness is not None
    ]
    return ["#### Witnesses", "\n".join(lines)] if lines else []


def _name(dossier: Dossier, finding: Finding) -> str:
    return review.witness_name(dossier.audit, finding)


def _not_examined(dossier: Dossier) -> list[str]:
    lines = [f"- {markdown(text)}" for text in review.not_examined(dossier)]
    return ["#### Not examined", "\n".join(lines)] if lines else []


def _again(dossier: Dossier) -> list[str]:
    rows = [
        f"| {code_span(dossier.short(f.path), True)} | {code_span(f.blob or 'unknown', True)} "
        f"| {f.bytes:,} | {markdown(f.problem or '')} |"
        for f in dossier.files
    ]
    head = ["| file | blob | bytes | not read because |", "|---|---|---|---|"]
    files = [f"<details><summary>Files ({len(rows)})</summary>", "\n".join([*head, *rows])]
    return ["#### Run it again", code_block([review.rerun(dossier)]), *files, "</details>"]
