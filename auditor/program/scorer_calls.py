"""Where a script calls something, with what, and under which conditions.

Arguments and conditions come back as expressions that the script's own namespace can evaluate:
local variables are replaced by what they were assigned. What stays open (`args.eta` of an unknown
`args`) is left for whoever evaluates it.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from auditor.program.index import Program
from auditor.program.scorer_flow import FunctionNode
from auditor.syntax import walk

_DEPTH = 4  # substitutions inside substitutions


@dataclass(frozen=True)
class Guard:
    """A condition of the script around a call: the call runs only if `text` is truthy, or falsy
    where `holds` is False."""

    text: str
    holds: bool
    line: int


@dataclass(frozen=True)
class CallSite:
    """A call and the nodes around it, from the module's statement inwards."""

    call: ast.Call
    around: tuple[ast.AST, ...]

    @cached_property
    def scope(self) -> ast.AST:
        """The outermost function or class around the call, or the statement itself."""
        return self.around[0]

    @cached_property
    def _assigned(self) -> Mapping[str, ast.expr]:
        """What local variables hold, where the function around assigns them once."""
        functions = [n for n in self.around if isinstance(n, FunctionNode)]
        values: dict[str, list[ast.expr]] = {}
        for node in walk(functions[-1]) if functions else ():
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                values.setdefault(node.targets[0].id, []).append(node.value)
        return {name: found[0] for name, found in values.items() if len(found) == 1}

    def text(self, node: ast.expr) -> str:
        """`node` as an expression without the function's local variables."""
        expression = ast.parse(ast.unparse(node), mode="eval")
        return ast.unparse(_Substitute(self._assigned, _DEPTH).visit(expression))

    def guards(self) -> Iterator[Guard]:
        """The conditions between the function around the call and the call."""
        for outer, inner in zip(self.around, (*self.around[1:], self.call), strict=True):
            if isinstance(outer, ast.If | ast.IfExp):
                body = outer.body if isinstance(outer.body, list) else [outer.body]
                orelse = outer.orelse if isinstance(outer.orelse, list) else [outer.orelse]
                if inner in body or inner in orelse:
                    yield Guard(self.text(outer.test), inner in body, outer.lineno)


def calls_of(program: Program, names: Sequence[str]) -> Iterator[tuple[str, CallSite]]:
    """Every call of something with one of these names, as a function or as a method."""
    for module in program.modules:
        for statement in module.tree.body:
            for site in _sites(statement):
                function = site.call.func
                name = function.attr if isinstance(function, ast.Attribute) else None
                if isinstance(function, ast.Name):
                    name = function.id
                if name is not None and name in names:
                    yield name, site


def first_call(
    program: Program, candidates: Sequence[FunctionNode]
) -> tuple[CallSite | None, FunctionNode]:
    """The first call of one of them from outside its own body, and which one it is."""
    by_name = {c.name: c for c in candidates}
    for name, site in calls_of(program, tuple(by_name)):
        if by_name[name] not in site.around:
            return site, by_name[name]
    return None, candidates[0]


def arguments_of(call: ast.Call, parameters: Sequence[str]) -> dict[str, ast.expr]:
    """The argument expressions by the parameter that takes them."""
    given = dict(zip(parameters, call.args, strict=False))
    return given | {k.arg: k.value for k in call.keywords if k.arg and k.arg in parameters}


def result_names(site: CallSite) -> dict[str, int | None]:
    """What the call's result is bound to: name -> place in a tuple, None for the whole."""
    for node in walk(site.scope):
        if isinstance(node, ast.Assign) and node.value is site.call:
            target = node.targets[0]
            if isinstance(target, ast.Tuple):
                return {ast.unparse(e): place for place, e in enumerate(target.elts)}
            return {ast.unparse(target): None}
    return {}


def _sites(statement: ast.stmt) -> Iterator[CallSite]:
    waiting: list[tuple[ast.AST, tuple[ast.AST, ...]]] = [(statement, ())]
    while waiting:
        node, around = waiting.pop()
        if isinstance(node, ast.Call):
            yield CallSite(node, around or (statement,))
        inner = (*around, node)
        waiting += [(child, inner) for child in reversed(list(ast.iter_child_nodes(node)))]


class _Substitute(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, ast.expr], depth: int) -> None:
        self.values = values
        self.depth = depth

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = self.values.get(node.id)
        if value is None or self.depth == 0:
            return node
        fresh = ast.parse(ast.unparse(value), mode="eval").body
        result: ast.expr = _Substitute(self.values, self.depth - 1).visit(fresh)
        return result
