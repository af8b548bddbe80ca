"""Runs a program abstractly: statements, definitions, function calls, in order of evaluation.

Every loop body is evaluated once: what an earlier iteration may have done is decided afterwards,
from the loops that an event lies in and from the identity of the objects it touches.
"""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from auditor.program.configuration import Configuration
from auditor.program.dataflow import arithmetic
from auditor.program.dataflow.expressions import length_of, operator_method
from auditor.program.dataflow.functions import ClassScope, Functions
from auditor.program.dataflow.heap import Index, element, instances, own
from auditor.program.dataflow.machine import BudgetError, Trace
from auditor.program.dataflow.marks import GRADIENT, MODEL, Loop
from auditor.program.dataflow.values import (
    NOTHING,
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

# What a block of statements ends with.
FALLS, LEAVES = False, True


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
    return run.trace


class Interpreter(Functions):
    """One abstract run."""

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
        if isinstance(target, ast.Name):
            self._scope_of(target.id)[target.id] = value
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
        if base.objects:
            self.store(target, base, index, value)
        elif isinstance(target.value, ast.Name | ast.Attribute | ast.Subscript):
            deps = base.deps | value.all_deps()
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
        new = arithmetic.binary(type(node.op), old, change, self.place(node))
        if isinstance(node.target, ast.Subscript):
            base, index = self.eval(node.target.value), self.index(node.target.slice)
            self._store(node.target, base, index, change)
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

    def _if(self, node: ast.If) -> bool:
        test = self.eval(node.test)
        truth = self.truth(test)
        seen = self.logs.show(node)
        if truth is False and seen is True:
            truth = None  # the log holds a line that only this branch prints
        if seen is False and truth is not False:
            self.doubted.add(test)
        if truth is None:
            return self._either(node, test)
        branch = node.body if truth else node.orelse
        if branch and isinstance(branch[-1], ast.Raise):
            return FALLS  # the script did run: what refuses to run was not reached
        return self._doubting(node, test) if truth else self.block(branch)

    def _doubting(self, node: ast.If, test: Value) -> bool:
        """Runs the branch of a true test, in doubt if the logs know nothing of what it prints."""
        outer = self.doubt
        if test in self.doubted:
            self.doubt = self.place(node)
        leaves = self.block(node.body)
        self.doubt = outer
        return leaves

    def _either(self, node: ast.If, test: Value) -> bool:
        """Runs both branches and joins what they leave behind."""
        scope = self.scopes[0]
        before = dict(scope)
        outer = self.first_only
        self.first_only = outer | _first_iteration(node.test, test)
        since = len(self.weighed)
        left = self._doubting(node, test)
        self.first_only = outer
        after = dict(scope)
        scope.clear()
        scope.update(before)
        trained = [(root, root.trained) for root, _ in self.weighed[since:]]
        for root, previous in reversed(self.weighed[since:]):
            root.trained = previous  # one branch does not train what the other scores
        right = self.block(node.orelse)
        for root, carried in trained:
            root.trained |= carried
        if left and right:
            return LEAVES
        if right:
            scope.clear()
            scope.update(after)
        elif not left:
            _merge(scope, after)
        return FALLS

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        iterable = self.eval(node.iter)
        length = length_of(iterable)
        if length == 0:
            self.block(node.orelse)
            return
        loop = Loop(self.place(node), length == 1)
        self._enter(node, loop)
        self.assign(node.target, element(iterable).with_deps((loop,)))
        self.block(node.body)
        self.loops = self.loops[:-1]
        self.block(node.orelse)

    def _while(self, node: ast.While) -> None:
        loop = Loop(self.place(node))
        self._enter(node, loop)
        test = self.eval(node.test)
        if self.truth(test) is not False:
            self.block(node.body)
        self.loops = self.loops[:-1]
        self.block(node.orelse)

    def _enter(self, node: ast.For | ast.AsyncFor | ast.While, loop: Loop) -> None:
        """Names that the body rebinds are no constants in it; a counter changes with the loop."""
        self.loops = (*self.loops, loop)
        scope = self.scopes[0]
        for name, counts in _carried(node).items():
            value = scope.get(name)
            if value is not None and not value.objects and not loop.once:
                deps = value.deps | {loop} if counts else value.deps
                scope[name] = Value(deps, start=value.start, linear=value.linear)

    def _with(self, node: ast.With | ast.AsyncWith) -> bool:
        for item in node.items:
            value = self.eval(item.context_expr)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, value)
        return self.block(node.body)

    def _try(self, node: ast.Try) -> bool:
        left = self.block(node.body)
        if not left:
            left = self.block(node.orelse)
        scope = self.scopes[0]
        for handler in node.handlers:
            before = dict(scope)
            if handler.name:
                scope[handler.name] = NOTHING
            leaves = self.block(handler.body)
            if leaves:
                scope.clear()
                scope.update(before)
            else:
                _merge(scope, before)
                left = FALLS
        return self.block(node.finalbody) or left

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.scopes[0].pop(target.id, None)

    def _match(self, node: ast.Match) -> None:
        self.eval(node.subject)
        for case in node.cases:
            self.block(case.body)


def _merge(scope: Scope, other: Mapping[str, Value]) -> None:
    for name, value in other.items():
        mine = scope.get(name)
        if mine is not value:
            scope[name] = value if mine is None else join([mine, value])


def _first_iteration(node: ast.expr, test: Value) -> frozenset[Loop]:
    """The loops of which a test `variable == 0` admits the first iteration alone."""
    if (
        isinstance(node, ast.Compare)
        and isinstance(node.ops[0], ast.Eq)
        and isinstance(node.comparators[0], ast.Constant)
        and node.comparators[0].value == 0
    ):
        return frozenset(m for m in test.deps if type(m) is Loop)
    return frozenset()


def _carried(node: ast.For | ast.AsyncFor | ast.While) -> dict[str, bool]:
    """Names that a loop's body rebinds: true where it adds to them, or it is a `while`."""
    names: dict[str, bool] | None = getattr(node, "_carried", None)
    if names is None:
        names = {}
        for inner in ast.walk(node):
            if isinstance(inner, ast.AugAssign):
                if isinstance(inner.target, ast.Name):
                    names[inner.target.id] = True
            elif isinstance(inner, ast.Assign):
                for target in inner.targets:
                    for leaf in target.elts if isinstance(target, ast.Tuple) else [target]:
                        if isinstance(leaf, ast.Name):
                            names.setdefault(leaf.id, isinstance(node, ast.While))
        node._carried = names  # type: ignore[union-attr]
    return names


def _changing(node: ast.ClassDef) -> frozenset[str]:
    """Attributes that methods other than the constructor rebind on their instance."""
    names = set()
    for method in node.body:
        if not isinstance(method, ast.FunctionDef) or not method.args.args:
            continue
        this = method.args.args[0].arg
        for inner in ast.walk(method):
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
