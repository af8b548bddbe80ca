"""Finds the code that turns logits and targets into a loss per position while it keeps counts.

Such a class is a *scorer*: a mixer, an n-gram cache, a blend. Found by what happens to its
parameters (`scorer_flow`), never by names: the scoring method is the one where one parameter is
normalised over a vocabulary and another picks an entry of it. Every other parameter gets its role
in the same way, so that a probe can call the scorer without knowing the script.

A plain function with these two parameters is a scorer without counts.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from auditor.program.index import Module, Program
from auditor.program.scorer_flow import Flow, FunctionNode, Use, Value, bind, own_name


class Role(StrEnum):
    """What a parameter is for. `RESULT` takes an item of what scoring returned."""

    LOGITS = "logits"
    INPUTS = "inputs"
    TARGETS = "targets"
    LENGTHS = "lengths"
    MASK = "mask"
    TOKENS = "tokens"
    START = "start"
    END = "end"
    RESULT = "result"
    VOCABULARY = "vocabulary"
    BUCKETS = "buckets"
    DEVICE = "device"
    INSTANCE = "instance"  # an object of a class of the script, made without arguments
    DEFAULT = "default"  # left at its own default
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Parameter:
    """One parameter. `item` is the place in the scoring method's result for `Role.RESULT`; `value`
    is an integer default; `kind` is the annotated class for `Role.INSTANCE`."""

    name: str
    role: Role
    item: int | None = None
    value: int | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Method:
    """A callable by name, with its parameters after the object itself."""

    name: str
    line: int
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class Bucket:
    """An integer literal that sizes and bounds a hashed table: where it stands and its value."""

    line: int
    column: int
    value: int


@dataclass(frozen=True)
class ScorerBinding:
    """How to call one scorer. `construct` is None for a function. `gates` are the counts that its
    code compares with, below which it may do nothing. `called` tells whether anything calls it."""

    name: str
    module: str
    path: str
    line: int
    construct: Method | None
    score: Method
    count: Method | None
    learn: Method | None
    gates: tuple[int, ...]
    buckets: tuple[Bucket, ...]
    called: bool

    @property
    def unknown(self) -> tuple[str, ...]:
        """The required parameters whose role stayed open, as `method(parameter)`."""
        methods = [m for m in (self.construct, self.score, self.count, self.learn) if m]
        return tuple(
            f"{m.name}({p.name})" for m in methods for p in m.parameters if p.role == Role.UNKNOWN
        )


def find_scorers(program: Program) -> tuple[ScorerBinding, ...]:
    """Every scorer of the main script and of the modules beside it that it imports."""
    found: list[ScorerBinding] = []
    calls = [node for module in program.modules for node in _scopes(module)]
    for module in program.modules:
        functions = {n: f for n, f in module.functions.items() if "." not in n}
        for name, node in module.classes.items():
            if "." not in name:
                scorer = _class_scorer(module, node, functions, calls)
                if scorer is not None:
                    found.append(scorer)
        found += _function_scorers(module, functions, calls)
    return tuple(found)


def _class_scorer(
    module: Module,
    node: ast.ClassDef,
    functions: Mapping[str, FunctionNode],
    scopes: Sequence[ast.AST],
) -> ScorerBinding | None:
    methods = _methods(module, node)
    flow = Flow(methods, functions)
    constructor = methods.get("__init__")
    fields = _fields(node) if constructor is None else ()
    if constructor is not None:
        own = own_name(constructor)
        flow.enter(constructor, _labelled(_arguments(constructor)[1:], "new."), own)
    for field in fields:
        flow.attributes[field.arg] = Value(frozenset({f"new.{field.arg}"}))
    for name, method in methods.items():
        if name != "__init__":
            own = own_name(method)
            arguments = _arguments(method)[own is not None :]
            flow.enter(method, _labelled(arguments, f"{name}."), own)

    scoring = [m for m in methods.values() if _is_scoring(flow, m)]
    outer = [m for m in scoring if m.name not in flow.entered] or scoring
    if not outer:
        return None
    call, chosen = _first_call(outer, scopes)
    score = _scoring_method(flow, chosen)
    counting = _counting_method(flow, methods, chosen, scopes)
    construct = Method("__init__", node.lineno, _construction(module, flow, constructor, fields))
    if counting is None and not any(Use.COUNT in uses for uses in flow.uses.values()):
        return None  # a layer or a loss: nothing is remembered between calls
    return ScorerBinding(
        name=node.name,
        module=module.name,
        path=module.path,
        line=node.lineno,
        construct=construct,
        score=score,
        count=counting,
        learn=_learning_method(methods, score, counting, call),
        gates=_gates(methods.values(), construct),
        buckets=_bucket_literals(flow),
        called=call is not None,
    )


def _function_scorers(
    module: Module, functions: Mapping[str, FunctionNode], scopes: Sequence[ast.AST]
) -> Iterator[ScorerBinding]:
    for name, node in functions.items():
        flow = Flow({}, functions)
        flow.enter(node, _labelled(_arguments(node), f"{name}."), None)
        if _is_scoring(flow, node, own=False):
            call, _ = _first_call([node], scopes)
            score = _scoring_method(flow, node, own=False)
            called = call is not None
            yield ScorerBinding(
                name, module.name, module.path, node.lineno, None, score, None, None, (), (), called
            )


def _methods(module: Module, node: ast.ClassDef) -> dict[str, FunctionNode]:
    """Its methods, with those of base classes of the same module."""
    found: dict[str, FunctionNode] = {}
    for base in node.bases:
        parent = module.classes.get(base.id) if isinstance(base, ast.Name) else None
        if parent is not None and parent is not node:
            found |= _methods(module, parent)
    for item in node.body:
        if isinstance(item, FunctionNode):
            found[item.name] = item
    return found


def _fields(node: ast.ClassDef) -> tuple[ast.arg, ...]:
    """The fields of a dataclass or named tuple, as the parameters of its constructor."""
    return tuple(
        ast.arg(item.target.id, item.annotation)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and not item.value
    )


def _arguments(function: FunctionNode) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _labelled(arguments: Sequence[ast.arg], prefix: str) -> dict[str, Value]:
    return {a.arg: Value(frozenset({prefix + a.arg})) for a in arguments}


def _is_scoring(flow: Flow, method: FunctionNode, *, own: bool = True) -> bool:
    roles = {p.role for p in _scoring_method(flow, method, own=own).parameters}
    return {Role.LOGITS, Role.TARGETS} <= roles and method.name != "__init__"


def _scoring_method(flow: Flow, method: FunctionNode, *, own: bool = True) -> Method:
    skip = 1 if own and own_name(method) is not None else 0
    defaults = _defaults(method)
    parameters = []
    for argument in _arguments(method)[skip:]:
        role = _scoring_role(flow.uses[f"{method.name}.{argument.arg}"])
        if argument.arg in defaults:
            role = Role.DEFAULT
        parameters.append(Parameter(argument.arg, role))
    return Method(method.name, method.lineno, tuple(parameters))


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


def _counting_method(
    flow: Flow, methods: Mapping[str, FunctionNode], score: FunctionNode, scopes: Sequence[ast.AST]
) -> Method | None:
    """The outermost method that changes the object's tables at indices taken from a parameter."""
    candidates = []
    for name, method in methods.items():
        skip = 1 if own_name(method) is not None else 0
        defaults = _defaults(method)
        required = [a for a in _arguments(method)[skip:] if a.arg not in defaults]
        counted = [a for a in required if Use.COUNT in flow.uses[f"{name}.{a.arg}"]]
        if counted and name not in ("__init__", score.name) and name not in flow.entered:
            candidates.append(method)
    if not candidates:
        return None
    _, chosen = _first_call(candidates, scopes)
    parameters: list[Parameter] = []
    bounds = [Role.START, Role.END]
    defaults = _defaults(chosen)
    for argument in _arguments(chosen)[1:]:
        uses = flow.uses[f"{chosen.name}.{argument.arg}"]
        if argument.arg in defaults:
            role = Role.DEFAULT
        elif not any(p.role == Role.TOKENS for p in parameters) and Use.COUNT in uses:
            role = Role.TOKENS
        else:
            role = bounds.pop(0) if bounds and Use.LENGTH in uses else Role.UNKNOWN
        parameters.append(Parameter(argument.arg, role))
    return Method(chosen.name, chosen.lineno, tuple(parameters))


def _construction(
    module: Module, flow: Flow, constructor: FunctionNode | None, fields: Sequence[ast.arg]
) -> tuple[Parameter, ...]:
    arguments = _arguments(constructor)[1:] if constructor is not None else list(fields)
    defaults = _defaults(constructor) if constructor is not None else {}
    ranks = {
        a.arg: _vocabulary_rank(flow.uses[f"new.{a.arg}"], defaults.get(a.arg)) for a in arguments
    }
    parameters = []
    for argument in arguments:
        uses = flow.uses[f"new.{argument.arg}"]
        kind = argument.annotation.id if isinstance(argument.annotation, ast.Name) else None
        value = _integer(defaults.get(argument.arg))
        if Use.MODULUS in uses and Use.DIMENSION in uses:
            role = Role.BUCKETS
        elif ranks[argument.arg] and ranks[argument.arg] == max(ranks.values()):
            role = Role.VOCABULARY
        elif Use.DEVICE in uses:
            role = Role.DEVICE
        elif argument.arg in defaults:
            role = Role.DEFAULT
        else:
            role = Role.INSTANCE if kind in module.classes else Role.UNKNOWN
        held = kind if role == Role.INSTANCE else None
        parameters.append(Parameter(argument.arg, role, None, value, held))
    return tuple(parameters)


def _vocabulary_rank(uses: set[Use], default: ast.expr | None) -> int:
    """How much speaks for a vocabulary size: it sizes tables and normalises, but bounds no hash."""
    if Use.MODULUS in uses or (default is not None and _integer(default) is None):
        return 0
    return 2 * (Use.DIMENSION in uses) + (Use.NORMALISER in uses)


def _integer(node: ast.expr | None) -> int | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if type(value) is int else None


def _learning_method(
    methods: Mapping[str, FunctionNode],
    score: Method,
    counting: Method | None,
    call: tuple[ast.Call, ast.AST] | None,
) -> Method | None:
    """The method that is handed what scoring returned, found where both are called."""
    if call is None:
        return None
    results = _result_names(*call)
    roles = dict(_call_roles(score, call[0]))
    for node in ast.walk(call[1]):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        method = methods.get(node.func.attr)
        if method is None or method.name in (score.name, counting and counting.name):
            continue
        given = bind(method, [], {k.arg: Value() for k in node.keywords if k.arg}, None)
        names = [a.arg for a in _arguments(method)[1:]]
        texts = dict(zip(names, map(ast.unparse, node.args), strict=False))
        texts |= {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg in given}
        parameters = []
        for name in names:
            text = texts.get(name, "")
            if text in results:
                parameters.append(Parameter(name, Role.RESULT, results[text]))
            elif text in roles:
                parameters.append(Parameter(name, roles[text]))
            else:
                role = Role.DEFAULT if name in _defaults(method) else Role.UNKNOWN
                parameters.append(Parameter(name, role))
        if any(p.role == Role.RESULT for p in parameters):
            return Method(method.name, method.lineno, tuple(parameters))
    return None


def _result_names(call: ast.Call, scope: ast.AST) -> dict[str, int | None]:
    """What the call's result is bound to: name -> place in a tuple, None for the whole."""
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and node.value is call:
            target = node.targets[0]
            if isinstance(target, ast.Tuple):
                return {ast.unparse(e): place for place, e in enumerate(target.elts)}
            return {ast.unparse(target): None}
    return {}


def _call_roles(method: Method, call: ast.Call) -> Iterator[tuple[str, Role]]:
    for parameter, argument in zip(method.parameters, call.args, strict=False):
        yield ast.unparse(argument), parameter.role
    roles = {p.name: p.role for p in method.parameters}
    for keyword in call.keywords:
        if keyword.arg in roles:
            yield ast.unparse(keyword.value), roles[keyword.arg]


def _scopes(module: Module) -> list[ast.AST]:
    """Where calls are looked for: every top-level function and class, and the module's own body."""
    return [node for node in module.tree.body if isinstance(node, ast.stmt)]


def _first_call(
    candidates: Sequence[FunctionNode], scopes: Sequence[ast.AST]
) -> tuple[tuple[ast.Call, ast.AST] | None, FunctionNode]:
    """The first call of one of them from outside its own body, and which one it is."""
    by_name = {c.name: c for c in candidates}
    for scope in scopes:
        for node in ast.walk(scope):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else None
            if isinstance(function, ast.Name):
                name = function.id
            if name in by_name and not _within(by_name[name], node):
                return (node, scope), by_name[name]
    return None, candidates[0]


def _within(function: FunctionNode, node: ast.Call) -> bool:
    return function.lineno <= node.lineno <= (function.end_lineno or function.lineno)


def _defaults(function: FunctionNode) -> dict[str, ast.expr]:
    positional = [*function.args.posonlyargs, *function.args.args]
    values = function.args.defaults
    found = (
        {a.arg: d for a, d in zip(positional[-len(values) :], values, strict=True)}
        if values
        else {}
    )
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if default is not None:
            found[argument.arg] = default
    return found


def _gates(methods: Iterable[FunctionNode], construct: Method) -> tuple[int, ...]:
    """Integers that the methods compare with, and integer defaults of the constructor."""
    found = {p.value for p in construct.parameters if p.value and p.role == Role.DEFAULT}
    for method in methods:
        for node in ast.walk(method):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                found |= {
                    s.value for s in sides if isinstance(s, ast.Constant) and type(s.value) is int
                }
    return tuple(sorted(g for g in found if g > 1))


def _bucket_literals(flow: Flow) -> tuple[Bucket, ...]:
    """Literals that size a table and bound the hash into it; equal ones are taken together."""
    literals = {
        tuple(map(int, label.split(":"))): uses
        for label, uses in flow.uses.items()
        if label[0].isdigit()
    }
    together: dict[int, set[Use]] = {}
    for (_, _, value), uses in literals.items():
        together[value] = together.get(value, set()) | uses
    return tuple(
        Bucket(*label)
        for label, uses in sorted(literals.items())
        if {Use.MODULUS, Use.DIMENSION} <= together[label[2]]
        and uses & {Use.MODULUS, Use.DIMENSION}
    )
