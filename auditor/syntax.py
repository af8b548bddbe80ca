"""Python syntax trees: parsed once for all who ask, walked fast.

`ast.walk` takes as long as parsing does, for it looks up fields by name and stops at every operator
and every load or store. What is here passes over those: no part of the auditor looks for them.
"""

import ast
import warnings
from collections.abc import Iterator
from functools import lru_cache

# Fields that never hold nodes, or only those that say how a node is used.
_PLAIN = frozenset(
    {
        *("arg", "asname", "attr", "conversion", "ctx", "id", "is_async", "kind", "kwd_attrs"),
        *("level", "module", "op", "ops", "rest", "simple", "str", "tag", "type_comment"),
        *("type_ignores",),
    }
)
_NAMES = (ast.Global, ast.Nonlocal)  # hold names as text; `Import.names` are nodes
_VALUES = (ast.Constant, ast.MatchSingleton)


def _fields(kind: type[ast.AST], wanted: frozenset[str] | None = None) -> tuple[str, ...]:
    if issubclass(kind, (*_NAMES, *_VALUES)):
        return ()
    named = {"name"} if kind.__name__ != "TypeAlias" else set[str]()
    return tuple(
        f for f in kind._fields if f not in _PLAIN | named and (wanted is None or f in wanted)
    )


_KINDS = [k for k in vars(ast).values() if isinstance(k, type) and issubclass(k, ast.AST)]
_CHILDREN: dict[type, tuple[str, ...]] = {
    type(None): (),  # a missing key or default among others
    **{kind: _fields(kind) for kind in _KINDS},
}
_BLOCKS = frozenset({"body", "orelse", "finalbody", "handlers", "cases"})
_INNER: dict[type, tuple[str, ...]] = {
    kind: _fields(kind, _BLOCKS) if not issubclass(kind, ast.expr) else () for kind in _KINDS
}


@lru_cache(maxsize=2)
def tree_of(source: str) -> ast.Module:
    """The tree of a text; whoever asks for the same text gets the same tree, not to be changed.

    Raises what `ast.parse` raises: `SyntaxError`, `ValueError`, `RecursionError`, `MemoryError`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a script's own bad escapes are not our output
        return ast.parse(source)


def walk(node: ast.AST) -> list[ast.AST]:
    """`node` and everything below it, breadth first, without operators and contexts."""
    found: list[ast.AST] = [node]
    append, extend, children = found.append, found.extend, _CHILDREN
    for inner in found:
        for name in children[type(inner)]:
            value = getattr(inner, name)
            if type(value) is list:
                extend(value)
            elif value is not None:
                append(value)
    return [inner for inner in found if inner is not None] if None in found else found


def inside(node: ast.AST) -> list[ast.AST]:
    """What stands directly in the blocks of a node: statements, handlers, cases, in order."""
    return [inner for name in _INNER[type(node)] for inner in getattr(node, name)]


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements in the blocks below `node`, those of functions included; breadth first."""
    found = inside(node)
    for inner in found:
        for name in _INNER[type(inner)]:
            found += getattr(inner, name)
        if isinstance(inner, ast.stmt):
            yield inner
