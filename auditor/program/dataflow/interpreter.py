"""Runs a program abstractly: statements, definitions, function calls, in order of evaluation.

Every loop body is evaluated once: what an earlier iteration may have done is decided afterwards,
from the loops that an event lies in and from the identity of the objects it touches.
"""

import ast
from collections.abc import Callable
from typing import Any

from auditor.program.configuration import Configuration
from auditor.program.dataflow.control_flow import FALLS, LEAVES, ControlFlow
from auditor.program.dataflow.expressions import operator_method, swayed
from auditor.program.dataflow.functions import ClassScope
from auditor.program.dataflow.heap import Index, element, entries, instances, own
from auditor.program.dataflow.machine import BudgetError, Trace
from auditor.program.dataflow.marks import GRADIENT, MODEL
from auditor.program.dataflow.values import (
    UNSET,
    Bound,
    Class,
    External,
    Function,
    Instance,
    ModuleObject,
    Scope,
    Value,
    constant,
    join,
    linear_of,
)
from auditor.program.index import Module, Program
from auditor.syntax import statements


def interpret(program: Program, configuration: Configuration) -> Trace:
    """Interprets the main script under the given run configuration.

    Never raises: what stopped the interpretation is the trace's `problem`.
    """
    if program.tree is None:
        return Trace(problem=program.problem)
    run = Interpreter(program, configuration)
    try:
        run.module(program.main)
    except BudgetError:
        run.trace.problem = "the script is too large to be followed to its end"
    except RecursionError:
        run.trace.problem = "the script is nested too deeply to be followed"
    run.let_go()
    return run.trace


class Interpreter(ControlFlow):
    """One abstract run."""

    def let_go(self) -> None:
        """Undoes the cycles among what was defined and made, so that nothing has to look for them.

        The trace's marks stay: which object an event is about, and when that was made.
        """
        for function in self.functions:
            function.scopes, function.cls = (), None
        for instance in self.instances:
            instance.attributes, instance.trained = {}, frozenset()

    def module(self, module: Module) -> Scope:
        """Runs a module's body once."""
        if module.name in self.loaded:
            return self.loaded[module.name]
        scope = self.loaded[module.name] = Scope()
        scope["__name__"] = constant(module.name)
        scope["__file__"] = constant(module.path)
        outer = self.path, self.scopes
        self.path, self.scopes = module.path, (scope,)
        self.block(module.tree.body)
        self.path, self.scopes = outer
        return scope

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            name = alias.name if alias.asname else bound
            self.scopes[0][bound] = self._imported(name)

    def _import_from(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        for alias in node.names:
            if alias.name == "*":
                for name, value in self._sibling(base).items():
                    self.scopes[0].setdefault(name, value)
                continue
            sibling = self._sibling(base)
            name = f"{base}.{alias.name}".lstrip(".")
            self.scopes[0][alias.asname or alias.name] = (
                sibling[alias.name] if alias.name in sibling else self._imported(name)
            )

    def _sibling(self, name: str) -> Scope:
        found = self.program.siblings.get(name)
        return self.module(found) if found is not None else Scope()

    def _imported(self, name: str) -> Value:
        if name in self.program.siblings:
            return Value(objects=(ModuleObject(self._sibling(name)),))
        return Value(objects=(External(name),))

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        value = self.function(node)
        function = value.objects[0]
        for decorator in reversed(node.decorator_list):
            if isinstance(decorator, ast.Name) and decorator.id in _KINDS:
                function.kind = _KINDS[decorator.id]
                continue
            wrapper = self.eval(decorator)
            for thing in wrapper.objects:
                if isinstance(thing, Function | Bound):
                    wrapped = self.invoke(thing, [value], {}, node)
                    if any(isinstance(o, Function | Bound) for o in wrapped.objects):
                        value = wrapped
        self.scopes[0][node.name] = value

    def _class(self, node: ast.ClassDef) -> None:
        cls = Class(node.name, self.path)
        for base in node.bases:
            for thing in self.eval(base).objects:
                if isinstance(thing, Class):
                    cls.bases.append(thing)
                elif isinstance(thing, External):
                    cls.foreign.append(thing.name)
        cls.changing = _changing(node)
        scope = ClassScope()
        with self.within(scope):
            self.block(node.body)
        cls.attributes = dict(scope)
        for parent in cls.bases:
            cls.fields += parent.fields
        cls.fields += [
            s.target.id
            for s in node.body
            if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
        ]
        for value in scope.values():
            for thing in value.objects:
                if isinstance(thing, Function) and thing.cls is None:
                    thing.cls = cls
        self.scopes[0][node.name] = Value(objects=(cls,))

    def block(self, statements: list[ast.stmt]) -> bool:
        """Runs statements; true where control leaves the block before its end."""
        for statement in statements:
            handler = _STATEMENTS.get(type(statement))
            if handler is not None and handler(self, statement) is LEAVES:
                return LEAVES
        return FALLS

    def _expression(self, node: ast.Expr) -> None:
        self.eval(node.value)

    def _return(self, node: ast.Return) -> bool:
        if self.returned:
            self.returned[-1].append(self.eval(node.value) if node.value else constant(None))
        return LEAVES

    def _leave(self, _: ast.stmt) -> bool:
        return LEAVES

    def _assign(self, node: ast.Assign) -> None:
        value = self.eval(node.value)
        if value.origin is None and MODEL in value.deps:
            value = value.replace(origin=self.place(node), position=value.affine())
        for target in node.targets:
            self.assign(target, value)

    def _annotated(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.eval(node.value))

    def assign(self, target: ast.expr, value: Value) -> None:
        """Binds a name, an attribute, an element or several."""
        if self.swayed:
            value = swayed(value, self.swayed)
        if isinstance(target, ast.Name):
            scope = self.scopes[0]
            if "<outer>" in scope:
                scope = self._scope_of(target.id)
            scope[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target.elts, value)
        elif isinstance(target, ast.Attribute):
            self._set_attribute(self.eval(target.value), target.attr, value, target)
        elif isinstance(target, ast.Subscript):
            base, index = self.eval(target.value), self.index(target.slice)
            if any(isinstance(o, External) and o.name == "os.environ" for o in base.objects):
                name = index.value().const
                if isinstance(name, str) and value.const is not UNSET:
                    self.environment = {**self.environment, name: str(value.const)}
                return
            self._store(target, base, index, value)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, self.collection(target, value))

    def _store(self, target: ast.Subscript, base: Value, index: Index, value: Value) -> None:
        """Into a cell; a computed array has none, so its name is bound to what it is now."""
        if base.cells():
            self.store(target, base, index, value)
        elif isinstance(target.value, ast.Name | ast.Attribute | ast.Subscript):
            deps = base.deps.union(value.all_deps(), *map(entries, index.parts))
            linear = base.linear | linear_of(value)
            self.assign(target.value, base.replace(deps=deps, linear=linear))

    def _scope_of(self, name: str) -> Scope:
        declared = self.scopes[0].get("<outer>")
        if declared is not None and name in declared.const:
            for scope in self.scopes[1:]:
                if name in scope:
                    return scope
            return self.scopes[-1]
        return self.scopes[0]

    def _declare(self, node: ast.Global | ast.Nonlocal) -> None:
        known = self.scopes[0].get("<outer>", constant(()))
        self.scopes[0]["<outer>"] = constant((*known.const, *node.names))

    def _unpack(self, targets: list[ast.expr], value: Value) -> None:
        cells = [c for c in value.cells() if c.kind in ("tuple", "list") and c.rest is None]
        whole = element(value)
        for number, target in enumerate(targets):
            found = [c.items[number] for c in cells if number in c.items]
            starred = any(isinstance(t, ast.Starred) for t in targets)
            part = join(found) if found and not starred else whole
            if value.deps and found:
                part = part.with_deps(value.deps)
            self.assign(target, part)

    def _set_attribute(self, base: Value, name: str, value: Value, node: ast.AST) -> None:
        if name in ("data", "grad"):
            self._overwrite(base, value, node)
            return
        several = len(base.objects) > 1
        for thing in base.objects:
            if isinstance(thing, Instance):
                if thing.cls is not None and thing.cls.changes(name):
                    value = value.replace(const=UNSET, position=None)
                old = thing.attributes.get(name) if several else None
                thing.attributes[name] = join([old, value]) if old is not None else value
                own(thing, value)
            elif isinstance(thing, Class):
                thing.attributes[name] = value
            elif isinstance(thing, ModuleObject):
                thing.scope[name] = value

    def _overwrite(self, base: Value, value: Value, node: ast.AST) -> None:
        """`p.data = ...`: training if a gradient went in."""
        for cell in base.cells():
            cell.absorb(value)
        if GRADIENT in value.all_deps():
            self.train(node, instances(base), value.all_deps())

    def _augmented(self, node: ast.AugAssign) -> None:
        old = self.eval(node.target)
        change = self.eval(node.value)
        method = operator_method(old, type(node.op))
        if method is not None:
            self.assign(node.target, self.invoke(method, [old, change], {}, node))
            return
        new = self.operate(node, type(node.op), old, change)
        if isinstance(node.target, ast.Subscript):
            self._augmented_item(node.target, old, new, change)
            return
        if isinstance(node.target, ast.Attribute) and node.target.attr == "data":
            self._overwrite(self.eval(node.target.value), change, node)
            return
        for cell in old.cells():
            if cell.kind == "list":
                cell.absorb(element(change))
                held = element(change)
                cell.rest = held if cell.rest is None else join([cell.rest, held])
            else:
                cell.absorb(change)
        if old.cells():
            new = old.replace(mixed=new.mixed)
        if any(isinstance(o, Instance) for o in old.objects) and GRADIENT in change.all_deps():
            self.train(node, instances(old), change.all_deps())
            new = old
        self.assign(node.target, new)

    def _augmented_item(self, target: ast.Subscript, old: Value, new: Value, change: Value) -> None:
        """`table[key] += change`: an array takes the change in; a container holds the sum, or the
        array that took it in.
        """
        base, index = self.eval(target.value), self.index(target.slice)
        if not base.cells() or any(cell.kind == "array" for cell in base.cells()):
            self._store(target, base, index, change)
            return
        for cell in old.cells():
            cell.absorb(change)
        self._store(target, base, index, old if old.cells() else new)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.scopes[0].pop(target.id, None)


def _changing(node: ast.ClassDef) -> frozenset[str]:
    """Attributes that methods other than the constructor rebind on their instance."""
    names = set()
    for method in node.body:
        if not isinstance(method, ast.FunctionDef) or not method.args.args:
            continue
        this = method.args.args[0].arg
        for inner in statements(method):
            targets: list[ast.expr] = []
            if isinstance(inner, ast.AugAssign):
                targets = [inner.target]
            elif isinstance(inner, ast.Assign) and method.name != "__init__":
                targets = inner.targets
            for target in targets:
                if (
                    isinstance(target, ast.Attribute)
                    and isinstance(target.value, ast.Name)
                    and target.value.id == this
                ):
                    names.add(target.attr)
    return frozenset(names)


_KINDS = {
    "property": "property",
    "cached_property": "property",
    "staticmethod": "static",
    "classmethod": "class",
}
_STATEMENTS: dict[type[ast.stmt], Callable[[Any, Any], bool | None]] = {
    ast.Expr: Interpreter._expression,
    ast.Assign: Interpreter._assign,
    ast.AnnAssign: Interpreter._annotated,
    ast.AugAssign: Interpreter._augmented,
    ast.If: Interpreter._if,
    ast.For: Interpreter._for,
    ast.AsyncFor: Interpreter._for,
    ast.While: Interpreter._while,
    ast.With: Interpreter._with,
    ast.AsyncWith: Interpreter._with,
    ast.Try: Interpreter._try,
    ast.Return: Interpreter._return,
    ast.Raise: Interpreter._leave,
    ast.Continue: Interpreter._leave,
    ast.Break: Interpreter._leave,
    ast.FunctionDef: Interpreter._define,
    ast.AsyncFunctionDef: Interpreter._define,
    ast.ClassDef: Interpreter._class,
    ast.Import: Interpreter._import,
    ast.ImportFrom: Interpreter._import_from,
    ast.Global: Interpreter._declare,
    ast.Nonlocal: Interpreter._declare,
    ast.Delete: Interpreter._delete,
    ast.Match: Interpreter._match,
}
