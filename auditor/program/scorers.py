"""Finds the code that turns logits and targets into a loss per position while it keeps counts.

Such a class is a *scorer*: a mixer, an n-gram cache, a blend. Found by what happens to its
parameters (`scorer_flow`), never by names: the scoring method is the one where one parameter is
normalised over a vocabulary and another picks an entry of it. Every other parameter gets its role
in the same way, so that a probe can call the scorer without knowing the script.

Plain losses and layers keep no counts and are none: they are normalised by `cross_entropy` itself,
or belong to training, where a loss need not be a code.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping

from auditor.program.index import Module, Program
from auditor.program.scorer_binding import Bucket, Method, Parameter, Role, ScorerBinding
from auditor.program.scorer_calls import (
    CallSite,
    arguments_of,
    calls_of,
    first_call,
    result_names,
)
from auditor.program.scorer_flow import Flow, FunctionNode, is_static
from auditor.program.scorer_values import Use, Value
from auditor.syntax import walk


def find_scorers(program: Program) -> tuple[ScorerBinding, ...]:
    """Every scorer of the main script and of the modules beside it that it imports."""
    found: list[ScorerBinding] = []
    for module in program.modules:
        for name in module.classes:
            if "." not in name:
                scorer = _ClassReader(program, module, name).binding()
                if scorer is not None:
                    found.append(scorer)
    return tuple(found)


class _ClassReader:
    """Reads the roles of one class."""

    def __init__(self, program: Program, module: Module, name: str) -> None:
        self.program = program
        self.module = module
        self.node = module.classes[name]
        self.flow = _flow(program)
        self.methods = self.flow.classes[name]
        constructor = self.methods.get("__init__")
        if constructor is not None:
            self.arguments, self.defaults = arguments(constructor)[1:], _defaults(constructor)
        else:
            self.arguments, self.defaults = _fields(self.node), {}
        made = [Value(frozenset({f"new.{a.arg}"})) for a in self.arguments]
        self.flow.construct(name, [], dict(zip((a.arg for a in self.arguments), made, strict=True)))
        if constructor is None:
            for argument, value in zip(self.arguments, made, strict=True):
                self.flow.hold(name, argument.arg, value)
        own = Value(state=True, kinds=frozenset({name}))
        for method in self.methods.values():
            if method.name != "__init__":
                labelled = {
                    a.arg: self._labelled(method, a) for a in arguments(method)[_skip(method) :]
                }
                names = arguments(method)
                first = {} if is_static(method) or not names else {names[0].arg: own}
                self.flow.enter(method, first | labelled)

    def binding(self) -> ScorerBinding | None:
        """The class as a scorer, or None if it is none."""
        scoring = [m for m in self.methods.values() if _is_scoring(self._scoring(m))]
        outer = [m for m in scoring if m not in self.flow.entered] or scoring
        if not outer:
            return None
        site, chosen = first_call(self.program, outer)
        counting = self._counting(chosen)
        if counting is None and not any(Use.COUNT in uses for uses in self.flow.uses.values()):
            return None  # a layer or a loss: nothing is remembered between calls
        makers = [s for _, s in calls_of(self.program, [self.node.name])]
        score, construct = self._scoring(chosen), self._construction(makers[0] if makers else None)
        return ScorerBinding(
            name=self.node.name,
            module=self.module.name,
            path=self.module.path,
            line=self.node.lineno,
            construct=construct,
            score=score,
            count=counting,
            learn=self._learning(score, counting, site),
            gates=_gates(self.program, self.flow, self.methods.values(), construct),
            buckets=_bucket_literals(self.flow),
            called=site is not None and bool(makers),
            guards=tuple(makers[0].guards()) if makers else (),
        )

    def _labelled(self, method: FunctionNode, argument: ast.arg) -> Value:
        kinds = {_annotated(argument)} & self.flow.classes.keys()
        return Value(frozenset({f"{method.name}.{argument.arg}"}), kinds=frozenset(kinds))

    def _scoring(self, method: FunctionNode) -> Method:
        defaults = _defaults(method)
        parameters = []
        for argument in arguments(method)[_skip(method) :]:
            role = _scoring_role(self.flow.uses[f"{method.name}.{argument.arg}"])
            maker = None
            kind = _annotated(argument)
            if argument.arg in defaults:
                role = Role.DEFAULT
            elif kind in self.flow.classes:
                maker = _maker(self.program, kind)
                role = Role.CONTEXT if maker else Role.UNKNOWN
            parameters.append(Parameter(argument.arg, role, maker=maker))
        return Method(method.name, method.lineno, tuple(parameters))

    def _counting(self, score: FunctionNode) -> Method | None:
        """The outermost method that changes the object's tables at indices from a parameter."""
        found: dict[FunctionNode, Method] = {}
        for method in self.methods.values():
            if method.name not in ("__init__", score.name) and method not in self.flow.entered:
                parameters = tuple(self._count_roles(method))
                if any(p.role == Role.TOKENS for p in parameters):
                    found[method] = Method(method.name, method.lineno, parameters)
        if not found:
            return None
        callable_ = [m for m in found if not _has_unknown(found[m])] or list(found)
        return found[first_call(self.program, callable_)[1]]

    def _count_roles(self, method: FunctionNode) -> Iterator[Parameter]:
        defaults = _defaults(method)
        required = [a.arg for a in arguments(method)[_skip(method) :] if a.arg not in defaults]
        uses = {name: self.flow.uses[f"{method.name}.{name}"] for name in required}
        tokens = next((name for name in required if Use.COUNT in uses[name]), None)
        bounds = [n for n in required if n != tokens and Use.LENGTH in uses[n]]
        ends = dict(zip(reversed(bounds), (Role.END, Role.START), strict=False))
        for argument in arguments(method)[_skip(method) :]:
            name = argument.arg
            role = ends.get(name, Role.UNKNOWN)
            if name in defaults:
                role = Role.DEFAULT
            elif name == tokens:
                role = Role.TOKENS
            yield Parameter(name, role)

    def _construction(self, site: CallSite | None) -> Method:
        names = [a.arg for a in self.arguments]
        given = arguments_of(site.call, names) if site else {}
        uses = {name: self.flow.uses[f"new.{name}"] for name in names}
        ranks = {name: _vocabulary_rank(uses[name], self.defaults.get(name)) for name in names}
        parameters = []
        for name in names:
            value = given.get(name)
            text = site.text(value) if site and value else None
            if {Use.MODULUS, Use.DIMENSION} <= uses[name]:
                role = Role.BUCKETS
                if text is None and name in self.defaults:
                    text = ast.unparse(self.defaults[name])
            elif ranks[name] and ranks[name] == max(ranks.values()):
                role = Role.VOCABULARY
            elif Use.DEVICE in uses[name]:
                role = Role.DEVICE
            elif text is not None:
                role = Role.SETTING
            else:
                role = Role.DEFAULT if name in self.defaults else Role.UNKNOWN
            if role == Role.DEFAULT:
                text = ast.unparse(self.defaults[name])
            optional = name in self.defaults
            parameters.append(Parameter(name, role, text=text, optional=optional))
        return Method("__init__", self.node.lineno, tuple(parameters))

    def _learning(
        self, score: Method, counting: Method | None, site: CallSite | None
    ) -> Method | None:
        """The method that is handed what scoring returned, found where both are called."""
        if site is None:
            return None
        results = result_names(site)
        given = arguments_of(site.call, [p.name for p in score.parameters])
        roles = {p.name: p.role for p in score.parameters}
        known = {ast.unparse(value): roles[name] for name, value in given.items()}
        others = (score.name, counting and counting.name)
        for node in walk(site.scope):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            method = self.methods.get(node.func.attr)
            if method is None or method.name in others:
                continue
            defaults = _defaults(method)
            names = [a.arg for a in arguments(method)[_skip(method) :]]
            passed = {n: ast.unparse(v) for n, v in arguments_of(node, names).items()}
            parameters = []
            for name in names:
                text = passed.get(name, "")
                if text in results:
                    parameters.append(Parameter(name, Role.RESULT, results[text]))
                elif text in known or name not in defaults:
                    seen = _scoring_role(self.flow.uses[f"{method.name}.{name}"])
                    parameters.append(Parameter(name, known.get(text, seen)))
                else:
                    parameters.append(Parameter(name, Role.DEFAULT))
            if any(p.role == Role.RESULT for p in parameters):
                return Method(method.name, method.lineno, tuple(parameters))
        return None


def _flow(program: Program) -> Flow:
    classes: dict[str, Mapping[str, FunctionNode]] = {}
    functions: dict[str, FunctionNode] = {}
    for module in program.modules:
        classes |= {n: _methods(module, c) for n, c in module.classes.items() if "." not in n}
        functions |= {n: f for n, f in module.functions.items() if "." not in n}
    return Flow(classes, functions)


def _methods(module: Module, node: ast.ClassDef) -> dict[str, FunctionNode]:
    """Its methods, with those of base classes of the same module."""
    found: dict[str, FunctionNode] = {}
    for base in node.bases:
        parent = module.classes.get(base.id) if isinstance(base, ast.Name) else None
        if parent is not None and parent is not node:
            found |= _methods(module, parent)
    return found | {item.name: item for item in node.body if isinstance(item, FunctionNode)}


def _fields(node: ast.ClassDef) -> list[ast.arg]:
    """The required fields of a dataclass or named tuple, as parameters of its constructor."""
    return [
        ast.arg(item.target.id, item.annotation)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and not item.value
    ]


def arguments(function: FunctionNode) -> list[ast.arg]:
    """Its parameters in order, keyword-only ones last."""
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _skip(method: FunctionNode) -> int:
    return 0 if is_static(method) else 1


def _annotated(argument: ast.arg) -> str:
    return argument.annotation.id if isinstance(argument.annotation, ast.Name) else ""


def _has_unknown(method: Method) -> bool:
    return any(p.role == Role.UNKNOWN for p in method.parameters)


def _is_scoring(method: Method) -> bool:
    return {Role.LOGITS, Role.TARGETS} <= {p.role for p in method.parameters}


def _scoring_role(uses: set[Use]) -> Role:
    if Use.DISTRIBUTION in uses:
        return Role.LOGITS
    if Use.PICK in uses:
        return Role.TARGETS
    if Use.INDEX in uses:
        return Role.INPUTS
    if Use.BOOLEAN in uses and Use.LENGTH not in uses:
        return Role.MASK
    return Role.LENGTHS  # also what is never used: it has to be something


def _maker(program: Program, kind: str) -> tuple[str, str, str] | None:
    """A function that makes a `kind` from a token stream and positions: its name and theirs."""
    for module in program.modules:
        for name, node in module.functions.items():
            returns = node.returns
            if not isinstance(returns, ast.Name) or returns.id != kind or "." in name:
                continue
            flow = _flow(program)
            flow.enter(node, {a.arg: Value(frozenset({a.arg})) for a in arguments(node)})
            streams = [a.arg for a in arguments(node) if Use.INDEXED in flow.uses[a.arg]]
            places = [a.arg for a in arguments(node) if Use.INDEX in flow.uses[a.arg]]
            if len(streams) == len(places) == 1 and len(arguments(node)) == 2:
                return name, streams[0], places[0]
    return None


def _vocabulary_rank(uses: set[Use], default: ast.expr | None) -> int:
    """How much speaks for a vocabulary size: it sizes tables and normalises, but bounds no hash."""
    if Use.MODULUS in uses or (default is not None and _integer(default) is None):
        return 0
    return 2 * (Use.DIMENSION in uses) + (Use.NORMALISER in uses)


def _integer(node: ast.AST | None) -> int | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if type(value) is int else None


def _defaults(function: FunctionNode) -> dict[str, ast.expr]:
    positional = [*function.args.posonlyargs, *function.args.args]
    values = function.args.defaults
    last = positional[len(positional) - len(values) :]
    found = {a.arg: d for a, d in zip(last, values, strict=True)}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if default is not None:
            found[argument.arg] = default
    return found


def _gates(
    program: Program, flow: Flow, methods: Iterable[FunctionNode], construct: Method
) -> tuple[int, ...]:
    """Integers that the methods compare with, written there or given to the constructor."""
    expressions: list[ast.AST] = [
        side
        for method in methods
        for node in walk(method)
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
    ]
    for parameter in construct.parameters:
        if parameter.text and Use.LENGTH in flow.uses[f"new.{parameter.name}"]:
            given = ast.parse(parameter.text)
            names = {n.attr for n in walk(given) if isinstance(n, ast.Attribute)}
            expressions += [given, *_settings(program, names)]
    found = {_integer(node) for expression in expressions for node in walk(expression)}
    return tuple(sorted(g for g in found if g is not None and g > 1))


def _settings(program: Program, names: set[str]) -> Iterator[ast.expr]:
    """What class bodies assign to these names: the defaults of a configuration."""
    for module in program.modules:
        for item in (item for node in module.classes.values() for item in node.body):
            if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                if any(isinstance(t, ast.Name) and t.id in names for t in targets):
                    yield item.value


def _bucket_literals(flow: Flow) -> tuple[Bucket, ...]:
    """Literals that size a table and bound the hash into it; equal ones are taken together."""
    sizing = {Use.MODULUS, Use.DIMENSION}
    literals = {
        Bucket(*map(int, label.split(":"))): uses & sizing
        for label, uses in flow.uses.items()
        if label[0].isdigit()
    }
    together: dict[int, set[Use]] = {}
    for bucket, uses in literals.items():
        together[bucket.value] = together.get(bucket.value, set()) | uses
    found = [b for b, uses in literals.items() if uses and together[b.value] == sizing]
    return tuple(sorted(found, key=lambda b: (b.line, b.column)))
