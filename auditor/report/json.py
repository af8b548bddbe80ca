"""The report for machines: one JSON object a script, one script a line."""

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from auditor.dossier import Dossier
from auditor.finding import Audit
from auditor.report.layout import Table
from auditor.report.measured import script
from auditor.report.tables import tables
from auditor.report.view import DEFAULT, View


def render(dossiers: Sequence[Dossier], view: View = DEFAULT) -> str:
    """JSON Lines: everything that is known, for whoever reads.

    Beside the fields of `results.jsonl` an object holds the `configuration`, the `timeline`, that
    of the run in the sandbox as `traced` if there was one, the suggested `patches`, the `figures`
    as tables, and with each finding the variables that decide whether its lines run.
    `schema/audit.schema.json` describes both.
    """
    return "".join(_dump(_in_full(dossier, view)) + "\n" for dossier in dossiers)


def _in_full(dossier: Dossier, view: View) -> dict[str, Any]:
    found = dossier.audit.to_json()
    run = script(dossier)
    for finding, entry in zip(dossier.audit.findings, found["findings"], strict=True):
        if view.excerpts and entry["witness"] is not None:
            entry["witness"].pop("files", None)
        entry["decided_by"] = [variable.name for variable in dossier.deciding(finding)]
    return {
        **found,
        "configuration": [variable.to_json() for variable in dossier.run.variables],
        "timeline": [event.to_json() for event in dossier.run.timeline],
        **({"traced": [event.to_json() for event in run.timeline]} if run is not None else {}),
        "patches": [
            {"rule": patch.rule, "path": patch.path, "words": patch.words, "diff": patch.diff}
            for patch in dossier.patches
        ],
        "figures": [_table(table) for table in tables(dossier)],
    }


def _table(table: Table) -> dict[str, Any]:
    rows = [
        [
            {"text": cell.text}
            | ({"path": cell.place.path, "line": cell.place.line} if cell.place else {})
            for cell in row
        ]
        for row in table.rows
    ]
    return {
        "title": table.title,
        "head": list(table.head),
        "rows": rows,
        "notes": list(table.notes),
    }


def schema() -> str:
    """The JSON Schema of an audit, as published: draft 2020-12."""
    return files("auditor.report").joinpath("schema/audit.schema.json").read_text(encoding="utf-8")


def line(audit: Audit) -> str:
    """One audit as one line of JSON, without its newline; figures that are not finite are null."""
    return _dump(audit.to_json())


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
