"""Lowers Python functions to `steps`."""

import ast
from collections.abc import Callable, Iterable
from typing import Any

from auditor.program.index import FunctionNode, Module
from auditor.program.steps import (
    Assign,
    Branch,
    Call,
    Constant,
    Element,
    Evaluate,
    Expression,
    Leave,
    Loop,
    Member,
    Name,
    Operation,
    Routine,
    Step,
    inner_steps,
    parts,
)

_BINARY: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "/",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.MatMult: "*",
    ast.And: "&&",
    ast.Or: "||",
    ast.Not: "!",
    ast.Invert: "~",
    ast.USub: "-",
    ast.UAdd: "+",
}


def lower(module: Module, name: str, node: FunctionNode) -> Routine:
    """One function, without the functions defined in it."""
    spec = node.args
    parameters = tuple(a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs))
    body = _block(node.body)
    bound = {n for step in inner_steps(body) for n in _bound(step)}
    shared = {n for s in node.body if isinstance(s, ast.Global | ast.Nonlocal) for n in s.names}
    own = bound.union(parameters) - shared
    last = name.rpartition(".")[2]
    return Routine(last, parameters, frozenset(), frozenset(own), body, module.path, node.lineno)


def _bound(step: Step) -> list[str]:
    if isinstance(step, Assign) and isinstance(step.target, Name):
        return [step.target.id]
    if isinstance(step, Loop):
        held = (step.counter, *parts(step.target))
        return [n.id for n in held if isinstance(n, Name)]
    return []


def _block(body: list[ast.stmt]) -> tuple[Step, ...]:
    return tuple(step for statement in body for step in _statement(statement))


def _statement(node: ast.stmt) -> list[Step]:
    line = node.lineno
    match node:
        case ast.Assign(targets, value):
            lowered = expression(value)
            return [s for t in targets for s in _bind(t, lowered, line)]
        case ast.AnnAssign(target, _, value) if value is not None:
            return _bind(target, expression(value), line)
        case ast.AugAssign(target, operator, value):
            return [Assign(expression(target), expression(value), _BINARY[type(operator)], line)]
        case ast.Expr(value) | ast.Await(value):
            return [Evaluate(expression(value), line)]
        case ast.If(test, body, other):
            return [Branch(expression(test), _block(body), _block(other), line)]
        case ast.For(target, over, body, other):
            return [_for(target, over, _block(body), line), *_block(other)]
        case ast.While(test, body, other):
            inner = Loop(None, None, None, expression(test), _block(body), line)
            return [inner, *_block(other)]
        case ast.With(_, body):
            return list(_block(body))
        case ast.Try(body, handlers, other, final):
            caught = [s for h in handlers for s in _block(h.body)]
            guarded: list[Step] = [Branch(Constant(None), tuple(caught), (), line)]
            return [*_block(body), *(guarded if caught else []), *_block(other), *_block(final)]
        case ast.Return(value):
            return [Leave("return", expression(value) if value else None, line)]
        case ast.Raise():
            return [Leave("return", None, line)]
        case ast.Break() | ast.Continue():
            return [Leave("break" if isinstance(node, ast.Break) else "continue", None, line)]
    return []


def _bind(target: ast.expr, value: Expression, line: int) -> list[Step]:
    """Several targets take the matching items, or each of them all."""
    if not isinstance(target, ast.Tuple | ast.List):
        return [Assign(expression(target), value, "", line)]
    whole = [value] * len(target.elts)
    if isinstance(value, Operation) and value.sign == "[]" and len(value.operands) == len(whole):
        whole = list(value.operands)
    return [s for t, v in zip(target.elts, whole, strict=True) for s in _bind(t, v, line)]


def _for(target: ast.expr, over: ast.expr, body: tuple[Step, ...], line: int) -> Loop:
    """`enumerate` gives its counter, and the element is read at it."""
    if isinstance(over, ast.Call) and isinstance(over.func, ast.Name) and over.args:
        called = over.func.id
        if called in ("range", "trange") and isinstance(target, ast.Name):
            return Loop(Name(target.id), None, expression(over), None, body, line)
        if (
            called == "enumerate"
            and isinstance(target, ast.Tuple)
            and len(target.elts) == 2
            and isinstance(target.elts[0], ast.Name)
        ):
            counter = Name(target.elts[0].id)
            read = Element(expression(over.args[0]), counter)
            return Loop(
                counter, None, None, None, (*_bind(target.elts[1], read, line), *body), line
            )
    return Loop(None, expression(target), expression(over), None, body, line)


def expression(node: ast.expr | None) -> Expression:
    """One expression."""
    lowered = _EXPRESSIONS.get(type(node))
    return lowered(node) if lowered is not None else Constant(None)


def _several(nodes: Iterable[ast.expr | None]) -> tuple[Expression, ...]:
    return tuple([expression(node) for node in nodes])


def _call(node: ast.Call) -> Expression:
    given = [a.value if isinstance(a, ast.Starred) else a for a in node.args]
    named = [k.value for k in node.keywords]
    return Call(expression(node.func), _several([*given, *named]))


def _collection(node: ast.Tuple | ast.List | ast.Set) -> Expression:
    return Operation("[]", _several(node.elts))


def _dict(node: ast.Dict) -> Expression:
    return Operation("[]", _several([*(k for k in node.keys if k), *node.values]))


def _comprehension(node: ast.ListComp | ast.GeneratorExp | ast.SetComp) -> Expression:
    return Operation("[]", _several([node.elt, *(g.iter for g in node.generators)]))


def _inner(node: ast.NamedExpr | ast.Starred | ast.Await) -> Expression:
    return expression(node.value)


# By type, for a match statement would ask for one after the other.
_EXPRESSIONS: dict[type, Callable[[Any], Expression]] = {
    ast.Constant: lambda n: Constant(n.value),
    ast.Name: lambda n: Name(n.id),
    ast.Attribute: lambda n: Member(expression(n.value), n.attr),
    ast.Subscript: lambda n: Element(expression(n.value), expression(n.slice)),
    ast.BinOp: lambda n: Operation(_BINARY[type(n.op)], _several([n.left, n.right])),
    ast.UnaryOp: lambda n: Operation(_BINARY[type(n.op)], _several([n.operand])),
    ast.BoolOp: lambda n: Operation(_BINARY[type(n.op)], _several(n.values)),
    ast.Compare: lambda n: Operation("<", _several([n.left, *n.comparators])),
    ast.IfExp: lambda n: Operation("?", _several([n.test, n.body, n.orelse])),
    ast.Slice: lambda n: Operation(":", _several([n.lower, n.upper])),
    ast.Call: _call,
    ast.NamedExpr: _inner,
    ast.Starred: _inner,
    ast.Await: _inner,
    ast.Tuple: _collection,
    ast.List: _collection,
    ast.Set: _collection,
    ast.Dict: _dict,
    ast.ListComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.SetComp: _comprehension,
}
