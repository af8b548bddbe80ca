"""Whether the submitted run calls a routine, be it Python or native code that Python calls."""

import re
from collections.abc import Iterator

from auditor.program.dataflow.machine import Trace
from auditor.program.dataflow.marks import Place
from auditor.program.index import Program
from auditor.program.native import NativeSource
from auditor.program.steps import Call, Member, Name, Routine, expressions, inner_steps, parts


def is_called(program: Program, trace: Trace, routine: Routine) -> bool:
    """Whether the run calls it. Where the run could not be followed to its end, it may."""
    if trace.problem is not None:
        return True
    source = native_source(program, routine.path, routine.line)
    if source is None or routine not in source.routines:
        return routine.name in trace.called
    doors = _callers(source, routine)
    doors |= {routine.path.rpartition("/")[2]}  # a program that is compiled and started
    named = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, sorted(doors))) + r")(?!\w)")
    return any(named.search(text) for text in _executed(program, trace))


def native_source(program: Program, path: str, line: int) -> NativeSource | None:
    """The native source that holds a line."""
    for source in program.native:
        if source.path == path and source.line <= line <= source.last:
            return source
    return None


def native_line(program: Program, place: Place) -> str:
    """The text of a line of native code, stripped; empty where there is none."""
    source = native_source(program, place.path, place.line)
    lines = source.text.splitlines() if source is not None else []
    number = place.line - source.line if source is not None else 0
    return lines[number].strip() if number < len(lines) else ""


def called_names(routine: Routine) -> Iterator[str]:
    """The last name of everything that a routine calls."""
    for step in inner_steps(routine.body):
        for whole in expressions(step):
            for node in parts(whole):
                if isinstance(node, Call) and isinstance(node.function, Name):
                    yield node.function.id.rpartition("::")[2]
                elif isinstance(node, Call) and isinstance(node.function, Member):
                    yield node.function.name


def _callers(source: NativeSource, routine: Routine) -> set[str]:
    """The routine's name and those of all native routines that lead to it."""
    names = {routine.name}
    calls = [(r.name, set(called_names(r))) for r in source.routines]
    while more := {name for name, called in calls if called & names} - names:
        names |= more
    return names


def _executed(program: Program, trace: Trace) -> Iterator[str]:
    """The text of each module outside of functions, and of every function that is called.

    Native code in a module's strings names itself, which calls nothing: it is left out.
    """
    for module in program.modules:
        lines = module.source.splitlines()
        for source in program.native:
            if source.path == module.path and source.routines:
                lines[source.line - 1 : source.last] = [""] * (source.last - source.line + 1)
        for name, node in module.functions.items():
            first, last = node.lineno, node.end_lineno or node.lineno
            if name.rpartition(".")[2] in trace.called:
                yield "\n".join(lines[first - 1 : last])
            lines[first - 1 : last] = [""] * (last - first + 1)
        yield "\n".join(lines)
