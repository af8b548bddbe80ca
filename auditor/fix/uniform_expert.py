"""C2: puts the uniform distribution in the place of an expert that ignores its target.

The mixture keeps its shape, so its weights stay as they are. Certain only where the expert is one
reduction of the network's own distribution over the vocabulary, and serves nothing else.
"""

import ast
from collections.abc import Iterator

from auditor.finding import Finding
from auditor.fix.lines import rewritten

WORDS = (
    "the expert becomes the uniform distribution, which sums to one and keeps the weights' shape"
)
_REDUCTIONS = {"sum", "amax", "max", "mean"}


def rewrite(finding: Finding, path: str, source: str) -> str | None:
    """The source with the expert of `finding` replaced; None where that is not certain."""
    lines = {evidence.line for evidence in finding.evidence if evidence.path == path}
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    if not {"math", "torch"} <= set(_imports(tree)):
        return None
    for scope in _scopes(tree):
        for node in _own(scope):
            if isinstance(node, ast.Assign) and node.lineno in lines:
                value = _uniform(node, list(_own(scope)))
                if value is not None:
                    return rewritten(source, node, node.value, value)
    return None


def _uniform(node: ast.Assign, scope: list[ast.AST]) -> str | None:
    """What to assign instead, as source: a loss, a log-probability or a probability."""
    target = node.targets[0]
    if len(node.targets) != 1 or not isinstance(target, ast.Name):
        return None
    uses = [n for n in scope if isinstance(n, ast.Name) and n.id == target.id]
    if len(uses) != 2:  # bound here, weighed there, and a gate nowhere
        return None
    value = node.value
    negative = isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub)
    reduced = _reduced(value.operand if isinstance(value, ast.UnaryOp) else value)
    names = {n.id for n in ast.walk(reduced) if isinstance(n, ast.Name)} if reduced else set()
    if len(names) != 1:
        return None
    (name,) = names
    space = _space(name, scope)
    size = f"{name}.size(-1)"
    if space == "log_softmax":
        level = f"math.log({size})" if negative else f"-math.log({size})"
    elif space == "softmax" and not negative:
        level = f"1.0 / {size}"
    else:
        return None
    return f"torch.full_like({name}[..., 0], {level})"


def _reduced(node: ast.expr) -> ast.expr | None:
    """What is reduced over the last axis, if `node` is such a reduction."""
    if isinstance(node, ast.Attribute) and node.attr == "values":
        node = node.value
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        node = node.value
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    if node.func.attr not in _REDUCTIONS:
        return None
    named = {k.arg: k.value for k in node.keywords}
    of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
    positional = node.args[1:] if of_torch else node.args
    axes = [*positional, *(named[k] for k in ("dim", "axis") if k in named)]
    if len(axes) != 1 or ast.unparse(axes[0]) != "-1" or named.keys() - {"dim", "axis"}:
        return None
    return node.args[0] if of_torch else node.func.value


def _space(name: str, scope: list[ast.AST]) -> str | None:
    """By which call over the last axis `name` is bound, once: `softmax` or `log_softmax`."""
    bound = [
        n
        for n in scope
        if isinstance(n, ast.Name) and n.id == name and not isinstance(n.ctx, ast.Load)
    ]
    calls = [
        n.value
        for n in scope
        if isinstance(n, ast.Assign) and n.targets[0] in bound and isinstance(n.value, ast.Call)
    ]
    if len(bound) != 1 or len(calls) != 1 or not isinstance(calls[0].func, ast.Attribute):
        return None
    axes = [*calls[0].args, *(k.value for k in calls[0].keywords)]
    over_last = any(ast.unparse(axis) == "-1" for axis in axes)
    return calls[0].func.attr if over_last else None


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.asname or alias.name for alias in node.names)


def _scopes(tree: ast.Module) -> Iterator[ast.AST]:
    yield tree
    yield from (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of the functions and classes in it."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
