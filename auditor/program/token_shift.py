"""Sums of a sequence with itself one place later: `x[:, 1:] + g * x[:, :-1]` in its spellings.

Says of each whether the earlier token is masked, as it must be where a document begins.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass

from auditor.program.index import FunctionNode, Module
from auditor.syntax import walk

_SHIFTED = re.compile(r":[\s\\(]*-\s*1|pad|roll")  # how a function spells a place earlier
_JOINS = ("cat", "concat", "concatenate")
_COMPARISONS = ("eq", "ne", "where", "masked_fill", "logical_not", "isin")
_DEPTH = 4  # local names that are followed one after the other


@dataclass(frozen=True)
class TokenShift:
    """A sum of `base` and of what stood one place before it; `masked` by something compared."""

    node: ast.BinOp
    masked: bool


def token_shifts(module: Module, sums: Set[ast.BinOp]) -> Iterator[TokenShift]:
    """Every one of `sums` in a module that is such a sum, in no order."""
    for function in module.functions.values():
        first, last = function.lineno, function.end_lineno or function.lineno
        summed = any(first <= node.lineno <= last for node in sums)
        if summed and _SHIFTED.search(module.text(function)):
            yield from (s for s in _Body(function).shifts() if s.node in sums)


class _Body:
    """One function with what its local names were assigned."""

    def __init__(self, function: FunctionNode) -> None:
        self.function = function
        self.assigned: defaultdict[str, list[ast.expr]] = defaultdict(list)
        for node in walk(function):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    held = target.value if isinstance(target, ast.Subscript) else target
                    if isinstance(held, ast.Name):
                        self.assigned[held.id].append(node.value)
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                self.assigned[node.target.id].append(node.value)

    def shifts(self) -> Iterator[TokenShift]:
        for node in walk(self.function):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
                for own, earlier in ((node.left, node.right), (node.right, node.left)):
                    base = self._shifted_factor(earlier)
                    if base is not None and _mentions(own, base):
                        yield TokenShift(node, self._masked(earlier, base))
                        break

    def _shifted_factor(self, term: ast.expr) -> str | None:
        """What `g * earlier`, or `g * (earlier - x)`, is shifted from."""
        for factor in _split(term, ast.Mult):
            for part in _split(factor, ast.Sub):
                if (base := self._shifted(part, _DEPTH)) is not None:
                    return base
        return None

    def _shifted(self, node: ast.expr, depth: int) -> str | None:
        """What a value holds one place later than `node` does, as a dump of its expression."""
        if isinstance(node, ast.Subscript) and _drops_last(node.slice):
            return ast.dump(node.value)
        if isinstance(node, ast.Call) and node.args:
            return self._of_call(node, depth)
        if isinstance(node, ast.Name) and depth:
            for value in self.assigned[node.id]:
                if (base := self._shifted(value, depth - 1)) is not None:
                    return base
        return None

    def _of_call(self, node: ast.Call, depth: int) -> str | None:
        name, first = _last_name(node.func), node.args[0]
        if name in _JOINS and isinstance(first, ast.List | ast.Tuple) and len(first.elts) == 2:
            return self._shifted(first.elts[1], depth)
        if name == "pad":
            return self._shifted(first, depth)
        amount = node.args[1] if len(node.args) > 1 else _keyword(node, "shifts")
        if name == "roll" and isinstance(amount, ast.Constant) and amount.value == 1:
            return ast.dump(first)
        return None

    def _masked(self, term: ast.expr, base: str) -> bool:
        """Whether a comparison, or a parameter that may hold one, is among what `term` is made of
        besides the sequence itself."""
        arguments = self.function.args
        parameters = {a.arg for a in (*arguments.args[1:], *arguments.kwonlyargs)}
        open_nodes, seen = [term], set[str]()
        while open_nodes:
            stack: list[ast.AST] = [open_nodes.pop()]
            while stack:
                node = stack.pop()
                if isinstance(node, ast.expr) and ast.dump(node) == base:
                    continue
                if isinstance(node, ast.Compare) or (
                    isinstance(node, ast.Call) and _last_name(node.func) in _COMPARISONS
                ):
                    return True
                if isinstance(node, ast.Name) and node.id not in seen:
                    seen.add(node.id)
                    if node.id in parameters:
                        return True
                    open_nodes += self.assigned[node.id]
                stack += ast.iter_child_nodes(node)
        return False


def _split(node: ast.expr, kind: type[ast.operator]) -> Iterator[ast.expr]:
    """The operands of a chain of one operator."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, kind):
        yield from _split(node.left, kind)
        yield from _split(node.right, kind)
    else:
        yield node


def _drops_last(index: ast.expr) -> bool:
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    return any(
        isinstance(part, ast.Slice)
        and part.lower is None
        and part.upper is not None
        and ast.unparse(part.upper) == "-1"
        for part in parts
    )


def _mentions(node: ast.expr, base: str) -> bool:
    return any(isinstance(n, ast.expr) and ast.dump(n) == base for n in walk(node))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((k.value for k in node.keywords if k.arg == name), None)
