"""Lowers C, C++ and CUDA functions, parsed by tree-sitter, to `steps`."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

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
)

if TYPE_CHECKING:
    from tree_sitter import Node

_NAMES = ("identifier", "field_identifier", "type_identifier", "primitive_type", "this")
_EXITS = {
    "return_statement": "return",
    "break_statement": "break",
    "continue_statement": "continue",
    "goto_statement": "return",
    "throw_statement": "return",
}


def routines(root: "Node", path: str, first: int, last: int) -> list[Routine]:
    """Every function with a body, in a source from line `first` to `last` of its file.

    A text that a script spells in one line has more lines than that: they are all the last.
    """
    lowering = _Lowering(first, last)
    found: list[Routine] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.type == "function_definition":
            routine = lowering.routine(node, path)
            found += [routine] if routine is not None else []
        waiting += reversed(node.named_children)
    return found


class _Lowering:
    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self.declared: set[str] = set()

    def line(self, node: "Node") -> int:
        return min(node.start_point[0] + self.first, self.last)

    def routine(self, node: "Node", path: str) -> Routine | None:
        body = node.child_by_field_name("body")
        declarator = node.child_by_field_name("declarator")
        while declarator is not None and declarator.type != "function_declarator":
            declarator = declarator.child_by_field_name("declarator")
        if body is None or declarator is None:
            return None
        names: list[str] = []
        references: set[str] = set()
        listed = declarator.child_by_field_name("parameters")
        for parameter in listed.named_children if listed is not None else ():
            inner = parameter.child_by_field_name("declarator")
            name = _declared(inner)
            names.append(name)
            if inner is not None and inner.type == "reference_declarator":
                references.add(name)
        self.declared = set(names)
        steps = tuple(self.step(body))
        return Routine(
            _declared(declarator),
            tuple(names),
            frozenset(references),
            frozenset(self.declared),
            steps,
            path,
            self.line(node),
        )

    def step(self, node: "Node | None") -> list[Step]:
        """The steps of a statement; those of several where it declares several names."""
        if node is None:
            return []
        handler = _STATEMENTS.get(node.type)
        if handler is not None:
            return handler(self, node)
        if node.type in _EXITS:
            value = self.value(node.named_children[0]) if node.named_children else None
            return [Leave(_EXITS[node.type], value, self.line(node))]
        if node.type.endswith("statement") or node.type in ("else_clause", "condition_clause"):
            return self.inside(node)
        return []

    def inside(self, node: "Node") -> list[Step]:
        return [s for child in node.named_children for s in self.step(child)]

    def effect(self, node: "Node") -> list[Step]:
        """`expression;`."""
        return [s for child in node.named_children for s in self.act(child)]

    def act(self, node: "Node | None") -> list[Step]:
        """An expression that is there for its effect."""
        if node is None:
            return []
        line = self.line(node)
        if node.type == "assignment_expression":
            left, right = (node.child_by_field_name(n) for n in ("left", "right"))
            sign = _sign(node).rstrip("=")
            before = self.act(right) if right is not None and right.type == node.type else []
            return [*before, Assign(self.value(left), self.value(right), sign, line)]
        if node.type == "update_expression":
            target = self.value(node.child_by_field_name("argument"))
            return [Assign(target, Constant(1), "+", line)]
        if node.type == "comma_expression":
            return [s for child in node.named_children for s in self.act(child)]
        return [Evaluate(self.value(node), line)]

    def declaration(self, node: "Node") -> list[Step]:
        found: list[Step] = []
        for child in node.children_by_field_name("declarator"):
            name = Name(_declared(child))
            self.declared.add(name.id)
            if child.type == "init_declarator":
                value = self.value(child.child_by_field_name("value"))
                found.append(Assign(name, value, "", self.line(child)))
            else:
                found.append(Assign(name, Constant(None), "", self.line(child)))
        return found

    def branch(self, node: "Node") -> list[Step]:
        test = self.value(node.child_by_field_name("condition"))
        body = self.step(node.child_by_field_name("consequence"))
        other = self.step(node.child_by_field_name("alternative"))
        return [Branch(test, tuple(body), tuple(other), self.line(node))]

    def counted(self, node: "Node") -> list[Step]:
        """`for (start; test; update)`: a counter where the update adds one to a name."""
        start = node.child_by_field_name("initializer")
        before = self.step(start) if start is not None and start.type == "declaration" else []
        if start is not None and not before:
            before = self.act(start)
        update = node.child_by_field_name("update")
        after = self.act(update)
        body = self.step(node.child_by_field_name("body"))
        condition = node.child_by_field_name("condition")
        test = self.value(condition) if condition is not None else None
        counters = [
            s.target
            for s in after
            if isinstance(s, Assign) and isinstance(s.target, Name) and s.value == Constant(1)
        ]
        line = self.line(node)
        if counters:
            return [*before, Loop(counters[0], None, test, None, tuple(body), line)]
        return [*before, Loop(None, None, None, test, (*body, *after), line)]

    def ranged(self, node: "Node") -> list[Step]:
        """`for (auto x : xs)`."""
        target = Name(_declared(node.child_by_field_name("declarator")))
        self.declared.add(target.id)
        over = self.value(node.child_by_field_name("right"))
        body = tuple(self.step(node.child_by_field_name("body")))
        return [Loop(None, target, over, None, body, self.line(node))]

    def repeated(self, node: "Node") -> list[Step]:
        """`while` and `do ... while`."""
        test = self.value(node.child_by_field_name("condition"))
        body = tuple(self.step(node.child_by_field_name("body")))
        return [Loop(None, None, None, test, body, self.line(node))]

    def switch(self, node: "Node") -> list[Step]:
        test = self.value(node.child_by_field_name("condition"))
        body = self.step(node.child_by_field_name("body"))
        kept = tuple(s for s in body if not (isinstance(s, Leave) and s.kind == "break"))
        return [Branch(test, kept, (), self.line(node))]

    def value(self, node: "Node | None") -> Expression:
        """One expression."""
        if node is None:
            return Constant(None)
        if node.type in _NAMES or node.type in ("qualified_identifier", "template_function"):
            return Name(_text(node))
        handler = _EXPRESSIONS.get(node.type)
        if handler is not None:
            return handler(self, node)
        inner = node.child_by_field_name("value") or node.child_by_field_name("argument")
        if inner is not None:
            return self.value(inner)
        if len(node.named_children) == 1:  # parentheses, a condition's clause
            return self.value(node.named_children[0])
        return Operation("[]", tuple(map(self.value, node.named_children)))

    def number(self, node: "Node") -> Expression:
        text = (
            _text(node).rstrip("uUlLfF") if "x" not in _text(node) else _text(node).rstrip("uUlL")
        )
        try:
            return Constant(int(text, 0) if text.strip("0123456789") else int(text))
        except ValueError:
            pass
        try:
            return Constant(float(text))
        except ValueError:
            return Constant(None)

    def literal(self, node: "Node") -> Expression:
        return Constant(_text(node))

    def element(self, node: "Node") -> Expression:
        base = self.value(node.child_by_field_name("argument"))
        indices = node.child_by_field_name("indices") or node.child_by_field_name("index")
        return Element(base, self.value(indices))

    def field(self, node: "Node") -> Expression:
        base = self.value(node.child_by_field_name("argument"))
        named = node.child_by_field_name("field")
        return Member(base, _text(named) if named is not None else "")

    def pointer(self, node: "Node") -> Expression:
        operand = self.value(node.child_by_field_name("argument"))
        if _sign(node) == "&":
            return Operation("&", (operand,))
        return Element(operand, Constant(0))

    def binary(self, node: "Node") -> Expression:
        sign = _sign(node)
        sides = tuple(self.value(node.child_by_field_name(n)) for n in ("left", "right"))
        return Operation("<" if sign in _COMPARISONS else sign, sides)

    def unary(self, node: "Node") -> Expression:
        return Operation(_sign(node), (self.value(node.child_by_field_name("argument")),))

    def choice(self, node: "Node") -> Expression:
        names = ("condition", "consequence", "alternative")
        return Operation("?", tuple(self.value(node.child_by_field_name(n)) for n in names))

    def call(self, node: "Node") -> Expression:
        function = node.child_by_field_name("function")
        listed = node.child_by_field_name("arguments")
        given = tuple(map(self.value, listed.named_children)) if listed is not None else ()
        cast = function is not None and function.type in ("primitive_type", "template_function")
        if cast and len(given) == 1:  # uint16_t(x), static_cast<T*>(x)
            return given[0]
        return Call(self.value(function), given)

    def assigned(self, node: "Node") -> Expression:
        return self.value(node.child_by_field_name("right"))


_COMPARISONS = ("<", ">", "<=", ">=", "==", "!=", "<=>")
_STATEMENTS: dict[str, Callable[[_Lowering, "Node"], list[Step]]] = {
    "expression_statement": _Lowering.effect,
    "declaration": _Lowering.declaration,
    "if_statement": _Lowering.branch,
    "for_statement": _Lowering.counted,
    "for_range_loop": _Lowering.ranged,
    "while_statement": _Lowering.repeated,
    "do_statement": _Lowering.repeated,
    "switch_statement": _Lowering.switch,
}
_EXPRESSIONS: dict[str, Callable[[_Lowering, "Node"], Expression]] = {
    "number_literal": _Lowering.number,
    "string_literal": _Lowering.literal,
    "subscript_expression": _Lowering.element,
    "field_expression": _Lowering.field,
    "pointer_expression": _Lowering.pointer,
    "binary_expression": _Lowering.binary,
    "unary_expression": _Lowering.unary,
    "conditional_expression": _Lowering.choice,
    "call_expression": _Lowering.call,
    "assignment_expression": _Lowering.assigned,
}


def _text(node: "Node") -> str:
    return node.text.decode("utf-8", errors="replace") if node.text is not None else ""


def _sign(node: "Node") -> str:
    operator = node.child_by_field_name("operator")
    return _text(operator) if operator is not None else ""


def _declared(node: "Node | None") -> str:
    """The name at the core of a declarator; empty where a parameter has none."""
    for inner in _declarators(node):
        if inner.type in _NAMES or inner.type.startswith(("qualified", "operator", "destructor")):
            return _text(inner).rpartition("::")[2]
    return ""


def _declarators(node: "Node | None") -> Iterator["Node"]:
    while node is not None:
        yield node
        inner = node.child_by_field_name("declarator")
        if inner is None and node.type == "reference_declarator" and node.named_children:
            inner = node.named_children[-1]
        node = inner
