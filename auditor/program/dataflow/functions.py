"""Runs the script's own functions, constructors and instances."""

import ast
from abc import abstractmethod
from typing import Any

from auditor.program.configuration import Configuration
from auditor.program.dataflow.calls import Calls
from auditor.program.dataflow.expressions import parameters_of
from auditor.program.dataflow.machine import BudgetError
from auditor.program.dataflow.marks import (
    MODEL,
    Marks,
    Pass,
    Positions,
    Source,
    Token,
    Weights,
    of_kind,
)
from auditor.program.dataflow.values import (
    NOTHING,
    Bound,
    Cell,
    Class,
    External,
    Function,
    Instance,
    Scope,
    Value,
    all_marks,
    constant,
    join,
)
from auditor.program.index import Program
from auditor.program.logged import Logged

STEP_BUDGET = 600_000  # expressions; the field's largest scripts take about a third
DEPTH_LIMIT = 60


class Functions(Calls):
    """Calls of what the script defines."""

    @abstractmethod
    def block(self, statements: list[ast.stmt]) -> bool:
        """Runs statements; true where control leaves the block before its end."""

    def __init__(self, program: Program, configuration: Configuration) -> None:
        super().__init__(configuration.environment, STEP_BUDGET)
        self.logs = Logged(program, configuration)
        self.doubted: set[Value] = set()  # tests of branches that the logs know nothing of
        self.program = program
        self.scopes: tuple[Scope, ...] = ()
        self.loaded: dict[str, Scope] = {}
        self.stack: list[Function] = []
        self.functions: list[Function] = []  # all that were defined
        self.returned: list[list[Value]] = []
        self.handed: list[list[Value]] = []

    def exhausted(self) -> None:
        """The budget is spent."""
        raise BudgetError

    def yielded(self, value: Value) -> None:
        """A generator's caller gets `value`."""
        if self.handed:
            self.handed[-1].append(value)

    def function(self, node: ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef) -> Value:
        """A function value; its defaults are evaluated where it is defined."""
        arguments = node.args
        defaults: dict[str, Value] = {}
        positional = [*arguments.posonlyargs, *arguments.args]
        for argument, default in zip(
            reversed(positional), reversed(arguments.defaults), strict=False
        ):
            defaults[argument.arg] = self.eval(default)
        for argument, given in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            if given is not None:
                defaults[argument.arg] = self.eval(given)
        scopes = tuple(s for s in self.scopes if not isinstance(s, ClassScope))
        made = Function(node, self.path, scopes, defaults)
        self.functions.append(made)
        return Value(objects=(made,))

    def invoke(
        self, function: Any, args: list[Value], named: dict[str, Value], node: ast.AST
    ) -> Value:
        """Runs a function, a class's constructor, an instance, or something of a library."""
        if isinstance(function, Function):
            return self._run(function, args, named)
        if isinstance(function, Value):
            return join([self.invoke(f, args, named, node) for f in function.objects] or [NOTHING])
        if isinstance(function, Bound):
            self._notice_step(function, node)
            result = self.invoke(
                function.function, [*function.first, *args], {**function.named, **named}, node
            )
            values = [*args, *named.values()]
            if self.hooks:
                self._run_hooks(function, values, node)
            return self._of_network(function, result, values, node)
        if isinstance(function, Class):
            return self._instantiate(function, args, named, node)
        if isinstance(function, Instance):
            return self._call_instance(function, args, named, node)
        if isinstance(function, External):
            return self.external(function.name, args, named, node)
        return NOTHING

    def _of_network(
        self, function: Bound, result: Value, args: list[Value], node: ast.AST
    ) -> Value:
        """A module's result depends on the tokens it was given, wherever its inside moved them.

        That a network is causal is not read off its code here: flips measure it.
        """
        modules = [
            thing
            for thing in (function.first[0].objects if function.first else ())
            if isinstance(thing, Instance)
            and thing.cls is not None
            and thing.cls.descends_from("Module")
        ]
        deps = result.all_deps()
        if not modules or not deps:
            return result
        given = frozenset().union(*(a.tokens() for a in args))
        if any(_of_split(token, "train") for token in given):
            self.trace.last_pass = Pass(self.place(node), self.tick(), self.loops)
        inside: Marks = of_kind(deps, Token) - given
        inside |= of_kind(deps, Positions) - _positions(args)
        weights = frozenset().union(*map(_weights, modules))
        kept = tuple(o for o in result.objects if not (isinstance(o, Cell) and o.deps & inside))
        return result.replace(deps=(deps - inside) | weights, objects=kept)

    def _run_hooks(self, method: Bound, args: list[Value], node: ast.AST) -> None:
        """What was hooked into a network sees what flows through it."""
        this = method.first[0] if method.first else NOTHING
        roots = {o.root() for o in this.objects if isinstance(o, Instance)}
        flow = Value(frozenset({MODEL}).union(*(a.all_deps() for a in args)))
        self.watched |= Source("val") in flow.deps
        for root, hook in tuple(self.hooks.values()):
            if root in roots:
                self.invoke(hook, [this, self.sequence(node, "tuple", [flow]), flow], {}, node)

    def _notice_step(self, method: Bound, node: ast.AST) -> None:
        """The script's own optimizer makes a step."""
        this = method.first[0].objects if method.first else ()
        for thing in this:
            if (
                isinstance(thing, Instance)
                and thing.kind == "optimizer"
                and isinstance(method.function, Function)
                and method.function.name == "step"
            ):
                self.step(node, thing.parameters)

    def _instantiate(
        self, cls: Class, args: list[Value], named: dict[str, Value], node: ast.AST
    ) -> Value:
        values = [*args, *named.values()]
        instance = self.instance(cls, cls.name)
        if cls.descends_from("Optimizer"):
            instance.parameters, instance.kind = parameters_of(values), "optimizer"
        result = Value(objects=(instance,))
        init = cls.find("__init__")
        if init is not None:
            self.invoke(init, [result, *args], named, node)
        else:
            for name, value in [*zip(cls.fields, args, strict=False), *named.items()]:
                instance.attributes[name] = value
            finish = cls.find("__post_init__")
            if finish is not None:
                self.invoke(finish, [result], {}, node)
        return result

    def _call_instance(
        self, instance: Instance, args: list[Value], named: dict[str, Value], node: ast.AST
    ) -> Value:
        this = Value(objects=(instance,))
        if instance.cls is not None:
            for name in ("__call__", "forward"):
                method = instance.cls.find(name)
                if method is not None:
                    return self.invoke(Bound(method, (this,)), args, named, node)
        last = instance.kind.rpartition(".")[2]
        if last.endswith("Loss") and len(args) > 1:
            return self.external("torch.nn.functional.cross_entropy", args, named, node)
        deps = all_marks([*args, *named.values()])
        return Value(deps | _weights(instance))

    def _run(self, function: Function, args: list[Value], named: dict[str, Value]) -> Value:
        node = function.node
        if len(self.stack) > DEPTH_LIMIT or self.stack.count(function) > 1:
            return Value(all_marks([*args, *named.values()]))
        scope = Scope(function.defaults)
        self._bind_arguments(node.args, scope, args, named)
        outer = self.path, self.scopes
        self.path, self.scopes = function.module, (scope, *function.scopes)
        self.stack.append(function)
        self.trace.called.add(function.name)
        try:
            if isinstance(node, ast.Lambda):
                return self.eval(node.body)
            self.returned.append([])
            self.handed.append([])
            self.block(node.body)
            handed = self.handed.pop()
            returned = self.returned.pop()
            if handed:
                return self.collection(node, join(handed))
            return join(returned) if returned else constant(None)
        finally:
            self.stack.pop()
            self.path, self.scopes = outer

    def _bind_arguments(
        self, spec: ast.arguments, scope: Scope, args: list[Value], named: dict[str, Value]
    ) -> None:
        names = [a.arg for a in (*spec.posonlyargs, *spec.args)]
        for name in names + [a.arg for a in spec.kwonlyargs]:
            if name not in scope:
                scope[name] = NOTHING
        scope.update(zip(names, args, strict=False))
        if spec.vararg is not None:
            scope[spec.vararg.arg] = self.sequence(spec.vararg, "tuple", args[len(names) :])
        if not named and spec.kwarg is None:
            return
        extra = {n: v for n, v in named.items() if n not in scope}
        scope.update({n: v for n, v in named.items() if n in scope})
        if spec.kwarg is not None:
            cell = self.cell("dict", spec.kwarg)
            cell.items.update(extra)
            scope[spec.kwarg.arg] = Value(objects=(cell,))


def _of_split(token: Token, split: str) -> bool:
    return isinstance(token.stream, frozenset) and Source(split) in token.stream


def _positions(args: list[Value]) -> Marks:
    return frozenset(m for a in args for m in a.all_deps() if type(m) is Positions)


def _weights(instance: Instance) -> Marks:
    root = instance.root()
    return root.trained | {MODEL, Weights(root)}


class ClassScope(Scope):
    """Names of a class body: methods do not see them."""
