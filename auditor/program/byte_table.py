"""How a script counts bytes: the table of bytes per token, and what is added while scoring.

A SentencePiece piece that begins with U+2581 stands for a space and the rest. The canonical table
holds the rest alone, 1 for a byte token, and the space is added while scoring, unless the token
before is a boundary. The builder is followed twice, as for a piece that begins with the mark and as
for a byte token `<0xNN>`; only SentencePiece's own method names are looked at, never the script's.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from auditor.program.dataflow.marks import Place
from auditor.program.index import FunctionNode, Module, Program
from auditor.program.search import functions_holding
from auditor.syntax import walk

MARK = "\u2581"
MARK_BYTES = len(MARK.encode())
BYTE_PIECE = len("<0xNN>")
_PIECE_WORDS = ("id_to_piece", "IdToPiece")
_PIECES = re.compile(rf"\b(?:{'|'.join(_PIECE_WORDS)})\b")
_ADDED = re.compile(
    r"&\s?\(?\s?~|~[^&\n]{1,80}\]\)?\s?&|logical_and\(|\]\)?\s?and\s+not\b[^\n:]*\["
)
_LN2 = re.compile(r"\b(?:math|np|numpy)\.log\(2(?:\.0?)?\)")
_BYTE = {"is_byte", "IsByte"}
_SPECIAL = {"is_control", "is_unknown", "is_unused", "IsControl", "IsUnknown", "IsUnused"}
_UNUSED = {"is_unused", "IsUnused"}
_STRIPS = {"lstrip", "strip", "removeprefix"}


@dataclass(frozen=True)
class ByteTable:
    """One builder. Counts are None where the builder could not be followed.

    `mark_bytes` are the bytes that the table itself counts for the mark of a leading space, and
    `byte_token` those for a byte token. `flagged` is true if pieces with the mark are recorded in
    a second table; `knows_unused` if unused tokens are asked for.
    """

    place: Place
    mark_bytes: int | None
    byte_token: int | None
    flagged: bool
    knows_unused: bool


def byte_tables(program: Program) -> list[ByteTable]:
    """Every builder of such a table in the program."""
    return [
        table
        for module in program.modules
        for function in functions_holding(module, _PIECES, _PIECE_WORDS)
        if (table := _table(module, function)) is not None
    ]


def space_additions(program: Program) -> list[Place]:
    """Where a byte is added for a leading space: `flag[token] & ~boundary[previous]`."""
    return [
        Place(module.path, node.lineno)
        for module in program.modules
        for function in functions_holding(module, _ADDED, ("~", "logical_and", "not"))
        for node in walk(function)
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.Call) and _adds_space(node)
    ]


def constant_ratios(program: Program) -> list[Place]:
    """Where a loss becomes bits per byte by a number written in the script: `x / ln 2 / 2.75`."""
    return [
        Place(module.path, node.lineno)
        for module in program.modules
        for function in functions_holding(module, _LN2, (".log(2",))
        for node in walk(function)
        if isinstance(node, ast.BinOp)
        and _is_constant_ratio(node, _constants(module) | _literals(function.body))
    ]


def _is_constant_ratio(node: ast.BinOp, constants: Mapping[str, object]) -> bool:
    match node:
        case ast.BinOp(left=ast.BinOp(op=ast.Div(), right=bits), op=ast.Div(), right=ratio):
            pass
        case ast.BinOp(op=ast.Div(), right=ast.BinOp(left=bits, op=ast.Mult(), right=ratio)):
            pass
        case ast.BinOp(
            left=ast.BinOp(op=ast.Div(), right=bits),
            op=ast.Mult(),
            right=ast.BinOp(left=ast.Constant(value=1 | 1.0), op=ast.Div(), right=ratio),
        ):
            pass
        case _:
            return False
    known = constants.get(ratio.id) if isinstance(ratio, ast.Name) else None
    value = ratio.value if isinstance(ratio, ast.Constant) else known
    return isinstance(value, float) and bool(_LN2.match(ast.unparse(bits)))


def _adds_space(node: ast.BinOp | ast.BoolOp | ast.Call) -> bool:
    match node:
        case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
            sides = [left, right]
        case ast.BoolOp(op=ast.And(), values=[left, right]):
            sides = [left, right]
        case ast.Call(func=ast.Attribute(attr="logical_and"), args=[left, right]):
            sides = [left, right]
        case _:
            return False
    plain = [_bare(s) for s in sides if not _negated(s)]
    negated = [inner for s in sides if (inner := _negated(s)) is not None]
    return (
        len(plain) == len(negated) == 1
        and isinstance(plain[0], ast.Subscript)
        and isinstance(negated[0], ast.Subscript)
    )


def _negated(node: ast.expr) -> ast.expr | None:
    match _bare(node):
        case ast.UnaryOp(op=ast.Invert() | ast.Not(), operand=inner):
            return _bare(inner)
        case ast.Call(func=ast.Attribute(attr="logical_not"), args=[inner]):
            return _bare(inner)
    return None


def _bare(node: ast.expr) -> ast.expr:
    """Without casts: `x.bool()`, `x.to(...)`, `bool(x)`."""
    while isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("bool", "to", "astype"):
            node = node.func.value
        elif isinstance(node.func, ast.Name) and len(node.args) == 1:
            node = node.args[0]
        else:
            break
    return node


def _table(module: Module, function: FunctionNode) -> ByteTable | None:
    loops = (n for n in walk(function) if isinstance(n, ast.For))
    loop = next((n for n in loops if _takes_pieces(n)), None)
    if loop is None:
        return None
    constants = _constants(module)
    marked, byte = _Walk(True, constants), _Walk(False, constants)
    for reading in (marked, byte):
        reading.run(loop.body)
    if not marked.counts:
        return None
    asked = {n.attr for n in walk(function) if isinstance(n, ast.Attribute)}
    return ByteTable(
        Place(module.path, marked.line),
        next(iter(marked.counts.values())) if len(marked.counts) == 1 else None,
        next(iter(byte.counts.values())) if len(byte.counts) == 1 else None,
        marked.flagged,
        bool(asked & _UNUSED),
    )


def _takes_pieces(loop: ast.For) -> bool:
    return any(
        isinstance(node, ast.Attribute) and _PIECES.fullmatch(node.attr)
        for statement in loop.body
        for node in walk(statement)
    )


@dataclass
class _Walk:
    """Follows one iteration of a builder for one kind of piece.

    A value is (kind, bytes): `text` is the piece or what is left of it, `length` its number of
    bytes, counted without the rest of the piece if `marked`.
    """

    marked: bool
    constants: Mapping[str, object]
    names: dict[str, tuple[str, int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # table to bytes
    flagged: bool = False
    line: int = 0

    def run(self, body: Iterable[ast.stmt]) -> bool:
        """Follows statements; false where one of them ended the iteration."""
        return all(self._statement(statement) for statement in body)

    def _statement(self, node: ast.stmt) -> bool:
        match node:
            case ast.Continue() | ast.Break() | ast.Return():
                return False
            case ast.If(test=test, body=body, orelse=orelse):
                taken = self._test(test)
                if taken is None:
                    return self.run(body) | self.run(orelse)
                return self.run(body if taken else orelse)
            case (
                ast.Assign(targets=[target], value=value)
                | ast.AnnAssign(target=target, value=ast.expr() as value)
            ):
                self._assign(target, value)
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
                self._add(self.names, name, value)
            case ast.AugAssign(target=ast.Subscript(value=table), op=ast.Add(), value=value):
                held = {key: ("length", count) for key, count in self.counts.items()}
                self._add(held, ast.unparse(table), value)
                self.counts = {key: count for key, (_, count) in held.items()}
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=table, attr="append"), args=[v])):
                self._store(ast.unparse(table), v, node.lineno)
            case ast.Try(body=body) | ast.With(body=body):
                return self.run(body)
        return True

    def _add(self, held: dict[str, tuple[str, int]], name: str, value: ast.expr) -> None:
        more = self._value(value)
        if name in held and more is not None:
            held[name] = (held[name][0], held[name][1] + more[1])

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            found = self._value(value)
            if found is None:
                self.names.pop(target.id, None)
            else:
                self.names[target.id] = found
        elif isinstance(target, ast.Subscript):
            self._store(ast.unparse(target.value), value, target.lineno)

    def _store(self, table: str, value: ast.expr, line: int) -> None:
        found = self._value(value)
        if found is not None and found[0] == "length":
            self.counts[table] = found[1]
            self.line = line
        elif found is not None and found[0] == "number" and not self.marked:
            self.counts[table] = found[1]
        elif self._test(value) is True or self._constant(value) is True:
            self.flagged = True

    def _value(self, node: ast.expr) -> tuple[str, int] | None:
        match node:
            case ast.Name(id=name):
                return self.names.get(name)
            case ast.Constant(value=int(number)) if not isinstance(number, bool):
                return "number", number
            case ast.IfExp(test=test, body=body, orelse=orelse):
                taken = self._test(test)
                return None if taken is None else self._value(body if taken else orelse)
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
                return _sum(self._value(left), self._value(right), isinstance(op, ast.Sub))
            case ast.Subscript(value=inner, slice=ast.Slice(lower=ast.Constant(value=1))):
                found = self._value(inner)
                if found is None or found[0] != "text":
                    return found
                return "text", max(found[1] - (MARK_BYTES if self.marked else 1), 0)
            case ast.Call():
                return self._call(node)
        return None

    def _call(self, node: ast.Call) -> tuple[str, int] | None:
        match node:
            case ast.Call(func=ast.Attribute(attr="id_to_piece" | "IdToPiece")):
                return "text", MARK_BYTES if self.marked else BYTE_PIECE
            case ast.Call(func=ast.Attribute(value=inner, attr="encode")):
                return self._value(inner)
            case ast.Call(func=ast.Attribute(value=inner, attr="replace"), args=[_, new]):
                return self._replaced(inner, node.args[0], new)
            case ast.Call(func=ast.Attribute(value=inner, attr=attr), args=[what]):
                found = self._value(inner)
                if attr in _STRIPS and found is not None:
                    return ("text", 0) if self.marked and self._is_mark(what) else found
            case ast.Call(func=ast.Name(id="len"), args=[inner]):
                found = self._value(inner)
                return ("length", found[1]) if found is not None and found[0] == "text" else None
            case ast.Call(func=ast.Name(id="max" | "int" | "str"), args=[*inner]):
                known = [v for part in inner if (v := self._value(part)) is not None]
                return next((v for v in known if v[0] != "number"), None)
        return None

    def _replaced(self, inner: ast.expr, old: ast.expr, new: ast.expr) -> tuple[str, int] | None:
        found = self._value(inner)
        there = found is not None and self.marked and found[1] >= MARK_BYTES
        if not there or not self._is_mark(old):
            return found
        text = self._constant(new)
        return ("text", len(text.encode())) if isinstance(text, str) else None

    def _constant(self, node: ast.expr) -> object:
        """The value of a literal, or of a name that the module binds to one."""
        if isinstance(node, ast.Name):
            return self.constants.get(node.id)
        return node.value if isinstance(node, ast.Constant) else None

    def _is_mark(self, node: ast.expr) -> bool:
        return self._constant(node) == MARK

    def _test(self, node: ast.expr) -> bool | None:
        """Whether a test holds for this kind of piece; None where that is not known."""
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                held = self._test(inner)
                return None if held is None else not held
            case ast.BoolOp(op=op, values=values):
                known = [self._test(v) for v in values]
                decides = isinstance(op, ast.Or)
                if decides in known:
                    return decides
                return None if None in known else not decides
            case ast.Call(func=ast.Attribute(attr="startswith"), args=[what]):
                return self._begins_with(what)
            case ast.Call(func=ast.Attribute(attr=attr)) if attr in _BYTE:
                return not self.marked
            case ast.Call(func=ast.Attribute(attr=attr)) if attr in _SPECIAL:
                return False
            case ast.Compare(left=left, ops=[ast.In()]) if self._is_mark(left):
                return self.marked
            case ast.Compare(left=ast.Subscript(), ops=[ast.Eq()], comparators=[right]):
                return self.marked if self._is_mark(right) else None
        return None

    def _begins_with(self, what: ast.expr) -> bool | None:
        if self._is_mark(what):
            return self.marked
        text = self._constant(what)
        if isinstance(text, str) and text.startswith("<"):
            return not self.marked and "<0xNN>".startswith(text)
        return None


def _sum(
    left: tuple[str, int] | None, right: tuple[str, int] | None, minus: bool
) -> tuple[str, int] | None:
    if left is None or right is None:
        return None
    kind = "length" if "length" in (left[0], right[0]) else left[0]
    return kind, left[1] + (-right[1] if minus else right[1])


def _constants(module: Module) -> dict[str, object]:
    """What the module's top level binds to literals: minified scripts name even `True`."""
    return _literals(module.tree.body)


def _literals(body: Iterable[ast.stmt]) -> dict[str, object]:
    return {
        node.targets[0].id: node.value.value
        for node in body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
