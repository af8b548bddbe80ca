"""The report for machines: one JSON object a script, one script a line, as in `results.jsonl`."""

import json
import math
from collections.abc import Sequence

from auditor.dossier import Dossier
from auditor.finding import Audit


def render(dossiers: Sequence[Dossier]) -> str:
    """JSON Lines."""
    return "".join(line(dossier.audit) + "\n" for dossier in dossiers)


def line(audit: Audit) -> str:
    """One audit as one line of JSON, without its newline; figures that are not finite are null."""
    return json.dumps(_finite(audit.to_json()), ensure_ascii=False, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
