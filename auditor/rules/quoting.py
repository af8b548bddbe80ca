"""Quotes lines of a program, native code included."""

from auditor.finding import Evidence
from auditor.program.dataflow.marks import Place
from auditor.program.reached import native_line
from auditor.rules.base import Context


def quote(context: Context, place: Place) -> Evidence:
    """A line of Python or native code."""
    found = context.evidence(place)
    if found.text:
        return found
    return Evidence(place.path, place.line, native_line(context.program, place)[:200])
