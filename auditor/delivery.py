"""Reports into files: each in the format that its suffix names, with the witnesses they quote."""

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.errors import AuditError

if TYPE_CHECKING:
    from auditor.dossier import Dossier
    from auditor.report.view import View

FORMATS = ("terminal", "markdown", "json", "html", "svg", "sarif", "github")
SUFFIXES = {
    ".md": "markdown",
    ".json": "json",
    ".jsonl": "json",
    ".html": "html",
    ".svg": "svg",
    ".sarif": "sarif",
}


def deliver(
    dossiers: list["Dossier"], wanted: str | None, outputs: Sequence[Path], view: "View"
) -> None:
    """Prints one report, or writes one to each of `outputs`.

    Of one output `wanted` is the format; beside several it is what is printed.
    """
    if not outputs:
        _show(dossiers, wanted or "terminal", view)
        return
    for output in outputs:
        own = wanted if len(outputs) == 1 else None
        chosen = own or SUFFIXES.get(output.suffix.lower(), "terminal")
        write(output, rendered(dossiers, chosen, view))
        print(f"wrote {output}")
    for folder in dict.fromkeys(output.parent for output in outputs):
        for path in _write_witnesses(dossiers, folder):
            print(f"wrote {path}")
    if wanted is not None and len(outputs) > 1:
        _show(dossiers, wanted, view)


def _show(dossiers: list["Dossier"], chosen: str, view: "View") -> None:
    if chosen == "terminal":
        from rich.console import Console

        from auditor.report.terminal import draw

        draw(Console(), dossiers, view)
        return
    sys.stdout.write(rendered(dossiers, chosen, view))


def rendered(dossiers: Sequence["Dossier"], chosen: str, view: "View") -> str:
    """The report of some audits in one of `FORMATS`."""
    if chosen == "svg":
        from auditor.report.terminal import svg

        return svg(dossiers, view)
    return str(import_module(f"auditor.report.{chosen}").render(dossiers, view))


def _write_witnesses(dossiers: Sequence["Dossier"], folder: Path) -> list[Path]:
    """Every witness as a file of its own, under the name by which the reports call it."""
    from auditor.report.review import witness_name

    written = []
    for dossier in dossiers:
        for finding in dossier.audit.findings:
            if finding.witness is not None:
                path = folder / witness_name(dossier.audit, finding)
                write(path, json.dumps(dict(finding.witness), indent=1) + "\n")
                written.append(path)
    return written


def write(path: Path, content: str | bytes) -> None:
    """Writes a file and the folders above it; `AuditError` where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise AuditError(f"{path}: cannot be written: {error.strerror}") from None
