"""The report for a terminal: the findings with their lines, the verdict, what was not seen."""

import io
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.terminal_theme import TerminalTheme
from rich.text import Text

import auditor
from auditor.dossier import Dossier, Excerpt
from auditor.finding import Readiness, Status, Validity
from auditor.program.events import Kind
from auditor.program.what_ran import Decider
from auditor.report import history, review
from auditor.report.tables import tables
from auditor.report.text import visible
from auditor.report.view import DEFAULT, MENDED, QUIET, Audience, View

STYLES = {
    Status.FAIL: "bold red",
    Status.PENDING: "bold magenta",
    Status.UNKNOWN: "bold yellow",
    Status.NOTE: "bold cyan",
    Status.PASS: "green",
    Status.NOT_APPLICABLE: "dim",
}
EVENT_STYLES = {
    Kind.SCORE: "bold blue",
    Kind.TRAIN: "bold magenta",
    Kind.COUNT: "bold cyan",
    Kind.EXPORT: "bold yellow",
    Kind.REPORT: "bold green",
}
VERDICT_STYLES = {
    Validity.VALID: "bold green",
    Validity.INVALID: "bold red",
    Validity.PENDING: "bold magenta",
    Validity.UNKNOWN: "bold yellow",
    Readiness.READY: "bold green",
    Readiness.NOT_READY: "bold red",
    Readiness.UNKNOWN: "bold yellow",
}
DIFF_STYLES = {"+": "green", "-": "red"}
MAX_EVIDENCE = 6
# No font is fetched: the picture must show without a network and must not tell who looks at it.
SVG_FORMAT = """\
<svg class="{unique_id}" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
SVG_THEME = TerminalTheme(
    (22, 24, 29),
    (214, 218, 226),
    [
        (22, 24, 29),
        (232, 93, 88),
        (106, 190, 120),
        (222, 176, 83),
        (98, 150, 232),
        (190, 124, 214),
        (86, 182, 194),
        (214, 218, 226),
    ],
    [
        (110, 118, 132),
        (240, 113, 108),
        (126, 206, 140),
        (236, 196, 110),
        (122, 170, 245),
        (208, 148, 230),
        (110, 202, 212),
        (255, 255, 255),
    ],
)


def render(dossiers: Sequence[Dossier], view: View = DEFAULT, width: int = 100) -> str:
    """The report as plain text."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False)
    draw(console, dossiers, view)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def svg(dossiers: Sequence[Dossier], view: View = DEFAULT, width: int = 100) -> str:
    """The report as a picture of a terminal."""
    console = Console(file=io.StringIO(), width=width, record=True, force_terminal=True)
    draw(console, dossiers, view)
    return console.export_svg(
        title="auditor", theme=SVG_THEME, code_format=SVG_FORMAT, unique_id="report"
    )


def draw(console: Console, dossiers: Sequence[Dossier], view: View = DEFAULT) -> None:
    """Prints the report of every script, one after the other."""
    for index, dossier in enumerate(dossiers):
        if index:
            console.print(Rule(style="dim"))
        console.print(Group(*_report(dossier, view, console.width)), highlight=False)


def _report(dossier: Dossier, view: View, width: int) -> list[RenderableType]:
    audit = dossier.audit
    head = Text(visible(dossier.short(audit.path)), style="bold")
    if audit.blob:
        head.append(f"  blob {audit.blob[:12]}", style="dim")
    if audit.pr is not None:
        head = Text.assemble((f"PR {audit.pr}", "bold"), f" at {(audit.head or '')[:12]}  ", head)
    parts: list[RenderableType] = [head]
    if dossier.folder:
        parts.append(Text(f"  {visible(dossier.folder)}", style="dim", overflow="fold"))
    parts += [Text(f"  {visible(step)}", style="dim") for step in dossier.packing]
    if (warning := history.override_warning(dossier)) is not None:
        parts += ["", Text(visible(warning), style="bold yellow")]
    parts.append("")
    for spelled in review.spelled(dossier, view):
        parts += _finding(dossier, spelled, view)
    parts += _undecided(dossier, view)
    for finding in (f for f in view.findings(audit) if f.status in QUIET):
        # The title names a fault that is not there.
        head = Text(f"{finding.status.value}[{finding.rule}]", style=STYLES[finding.status])
        parts.append(head.append(f": {visible(finding.reason, 2000)}", "default"))
    if view.audience is Audience.AUDITOR:
        parts.append("")
    parts += _patches(dossier, view)
    parts.append(_verdict(dossier))
    if view.history:
        parts += _timeline(dossier, width)
    if view.audience is Audience.AUDITOR:
        parts += [*_what_ran(dossier), *_tables(dossier), *_numbers(dossier)]
    parts += _footer(dossier, view)
    return parts


def _finding(dossier: Dossier, spelled: review.Spelled, view: View) -> list[RenderableType]:
    finding = spelled.first
    style = STYLES[finding.status]
    head = Text.assemble(
        (f"{finding.status.value}[{finding.rule}]", style),
        (f": {visible(dossier.title(finding))}", "bold"),
    )
    parts: list[RenderableType] = [head, _indented(finding.reason)]
    for excerpt in dossier.excerpts(spelled.evidence[:MAX_EVIDENCE]):
        parts += _quoted(dossier, excerpt, style)
    if len(spelled.evidence) > MAX_EVIDENCE:
        more = len(spelled.evidence) - MAX_EVIDENCE
        parts.append(Text(f"  and {more} more places", style="dim"))
    facts = review.basis(dossier, finding)
    if finding.precedent:
        facts.append("precedent " + ", ".join(visible(p) for p in finding.precedent))
    decided = [history.decided(dossier, variable) for variable in spelled.deciding(dossier)]
    if decided:
        parts.append(_indented(f"runs with {', '.join(decided)}", "dim"))
    parts.append(_indented("; ".join(facts), "dim"))
    if view.mends and finding.status in MENDED and dossier.legal(finding):
        parts.append(_indented(f"legal: {dossier.legal(finding)}", "green"))
    if finding.witness is not None:
        name = review.witness_name(dossier.audit, finding)
        parts.append(Text(f"  replay with: auditor replay {name}", style="dim"))
    parts.append("")
    return parts


def _undecided(dossier: Dossier, view: View) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for reason, rules in review.undecided(dossier, view):
        head = Text(f"{Status.UNKNOWN.value}[{' '.join(rules)}]", style=STYLES[Status.UNKNOWN])
        parts.append(head.append(f": {visible(reason, 2000)}", "default"))
    return [*parts, ""] if parts else []


def _indented(text: str, style: str = "") -> Padding:
    return Padding(Text(visible(text, 2000), style=style), (0, 0, 0, 2))


def _quoted(dossier: Dossier, excerpt: Excerpt, style: str) -> list[RenderableType]:
    place = Text(f"  --> {visible(dossier.short(excerpt.place))}", style="blue")
    if not excerpt.hits[0]:  # a file as a whole, and what is said of it
        return [place.append(f": {visible(excerpt.lines[0][1])}", "default")]
    parts: list[RenderableType] = [place]
    for number, text in excerpt.lines:
        own = number in excerpt.hits
        shown = Text(no_wrap=True, overflow="ellipsis")
        shown.append(f"{number or '':>6} ", style="" if own else "dim")
        shown.append("| ", style=style if own else "dim")
        shown.append(visible(text), style="bold" if own else "dim")
        parts.append(shown)
    return parts


def _verdict(dossier: Dossier) -> Table:
    audit = dossier.audit
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value, words in (
        ("validity", audit.validity, review.OUTCOMES[audit.validity]),
        ("readiness", audit.readiness, review.READINESS[audit.readiness]),
    ):
        table.add_row(name, Text(value.value, style=VERDICT_STYLES[value]), words)
    advice, _, condition = review.recommendation(dossier).partition(", ")
    table.add_row("advice", Text(advice, style="bold"), condition)
    return table


def _patches(dossier: Dossier, view: View) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for patch in dossier.patches:
        parts.append(Text(f"suggestion[{patch.rule}]: {patch.words}", style="bold green"))
        if view.mends:
            parts += [
                Text(
                    f"    {visible(line)}",
                    style=DIFF_STYLES.get(line[:1], "dim"),
                    no_wrap=True,
                    overflow="ellipsis",
                )
                for line in patch.diff.splitlines()
            ]
        else:
            parts.append(Text("  see it with: auditor fix TARGET --diff", style="dim"))
        parts.append("")
    return parts


def _timeline(dossier: Dossier, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = ["", Text("timeline", style="bold")]
    if not dossier.run.timeline:
        parts.append(Text("  no event was found", style="dim"))
    described: history.Row | None = None
    for row, text in history.drawing(dossier, width - 2):
        line = Text(f"  {visible(text)}", style="dim", no_wrap=True, overflow="ellipsis")
        if row.event is not None and row is not described:
            described = row
            line.stylize("not dim")
            line.highlight_words([row.event.kind.value.upper()], EVENT_STYLES[row.event.kind])
            line.highlight_regex(r"<- .*", "bold red")
        parts.append(line)
    return parts


def _what_ran(dossier: Dossier) -> list[RenderableType]:
    """Every switch, and every other variable that the script's own default does not decide."""
    parts: list[RenderableType] = ["", Text("what ran", style="bold")]
    variables = history.variables_by_weight(dossier)
    for variable in variables:
        if variable.switch is None and variable.decider is Decider.DEFAULT:
            continue
        state = {True: "on", False: "off", None: ""}[variable.switch]
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"  {state:<4}", style="green" if variable.switch else "dim")
        line.append(visible(history.decided(dossier, variable)))
        parts.append(line)
    rest = sum(v.switch is None and v.decider is Decider.DEFAULT for v in variables)
    parts.append(Text(f"  {rest} other variables at the script's defaults", style="dim"))
    return parts


def _tables(dossier: Dossier) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for table in tables(dossier):
        parts += ["", Text(visible(table.title).lower(), style="bold")]
        grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for index, name in enumerate(table.head):
            grid.add_column(visible(name), style="" if index else "bold", header_style="dim")
        for row in table.rows:
            grid.add_row(*(Text(visible(dossier.short(cell.text))) for cell in row))
        if table.rows:
            parts.append(Padding(grid, (0, 0, 0, 2)))
        parts += [_indented(note, "dim") for note in table.notes]
    return parts


def _numbers(dossier: Dossier) -> list[RenderableType]:
    rows = [f"  {name}: {review.figure(name, v)}" for name, v in dossier.audit.numbers.items()]
    return ["", Text("numbers", style="bold"), *(Text(visible(row)) for row in rows)]


def _footer(dossier: Dossier, view: View) -> list[RenderableType]:
    audit = dossier.audit
    parts: list[RenderableType] = ["", Text(review.counts(audit.findings))]
    parts += [Text(f"not shown: {text}", style="dim") for text in view.hidden(audit)]
    if audit.not_examined and view.audience is not Audience.SUBMITTER:
        parts.append(Text("not examined:"))
        parts += [
            Padding(Text(f"- {visible(t)}"), (0, 0, 0, 2)) for t in review.not_examined(dossier)
        ]
    parts.append(
        Text(
            f"auditor {auditor.__version__}, policy {audit.policy}, rules {dossier.rules_version}",
            style="dim",
        )
    )
    return parts
