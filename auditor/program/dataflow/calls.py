"""Calls: who is called, with which arguments; the script's own, or a library's."""

import ast
import math
from collections.abc import Callable
from typing import Any

from auditor.program.dataflow import arithmetic, library
from auditor.program.dataflow.access import folder_of
from auditor.program.dataflow.arrays import ARRAY_HANDLERS, Arguments, Handler, keyed
from auditor.program.dataflow.containers import CONTAINER_HANDLERS, Containers
from auditor.program.dataflow.expressions import (
    choices,
    computed,
    operator_method,
    parameters_of,
)
from auditor.program.dataflow.heap import element, instances, own, stored_in_model
from auditor.program.dataflow.machine import outcomes
from auditor.program.dataflow.marks import MODEL, NONE, Source, Token, Train, of_kind, weighed
from auditor.program.dataflow.values import (
    NOTHING,
    UNSET,
    Bound,
    Cell,
    Class,
    External,
    Function,
    Instance,
    Value,
    all_marks,
    constant,
    join,
    linear_of,
)

_FOLDED: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "abs": abs,
    "round": round,
    "math.log": math.log,
    "math.log2": math.log2,
    "math.exp": math.exp,
    "math.sqrt": math.sqrt,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "numpy.log": math.log,
    "numpy.log2": math.log2,
    "min": min,
    "max": max,
    "len": len,
}
_STRING = {"lower", "upper", "strip", "split", "startswith", "endswith", "replace", "isdigit"}
_CONTAINERS = ("ModuleList", "ModuleDict", "ParameterList", "Sequential", "ParameterDict")
_TRANSPARENT = ("Path", "PurePath", "DistributedDataParallel", "DDP", "DataParallel")
_PARTS = ("parameters", "named_parameters", "modules", "named_modules", "buffers", "children")
_MODES = frozenset(
    [
        "train",
        "eval",
        "requires_grad_",
        "to",
        "cuda",
        "cpu",
        "float",
        "half",
        "bfloat16",
        "double",
        "compile",
    ]
)
_CALLABLE = (Function, Bound, Class, External)
_HANDLERS: dict[str, Handler] = {**ARRAY_HANDLERS, **CONTAINER_HANDLERS}


class Calls(Containers):
    """Dispatch of calls, and library semantics by the last name of what is called."""

    def call(self, node: ast.Call) -> Value:
        """Evaluates the callee, the arguments, then what the call does."""
        function = node.func
        if not isinstance(function, ast.Attribute):
            callee = self.eval(function)
            args, named = self._arguments(node)
            results = self._results(callee, NOTHING, args, named, node)
            return join(results) if results else self._opaque(callee, args, named)
        if _is_super(function.value):
            return self._super(node)
        receiver = self.eval(function.value)
        callee = self._callee(receiver, function) if receiver.objects else NOTHING
        args, named = self._arguments(node)
        results = self._results(callee, receiver, args, named, node) if callee.objects else []
        if results:
            self._also_foreign(node, function.attr, receiver, args, named)
            return join(results)
        return self.library(Arguments(function.attr, node, [receiver, *args], named))

    def _results(
        self,
        callee: Value,
        receiver: Value,
        args: list[Value],
        named: dict[str, Value],
        node: ast.Call,
    ) -> list[Value]:
        """What each alternative of the callee gives that can be called."""
        return [
            self.invoke(thing, args, named, node)
            for thing in callee.objects
            if isinstance(thing, _CALLABLE)
            or (isinstance(thing, Instance) and thing not in receiver.objects)
        ] or [self._in_turn(cell, args, node) for cell in callee.cells() if args]

    def _in_turn(self, layers: Cell, args: list[Value], node: ast.AST) -> Value:
        """`Sequential(...)(x)`: each layer is called with what the one before it made."""
        value = args[0]
        for layer in layers.items.values():
            value = self.invoke(layer, [value], {}, node)
        return value

    def _also_foreign(
        self, node: ast.Call, name: str, receiver: Value, args: list[Value], named: dict[str, Value]
    ) -> None:
        """The same method of those alternatives that are a library's: `for o in optimizers`."""
        if len(receiver.objects) < 2:
            return
        foreign = tuple(o for o in receiver.objects if isinstance(o, Instance) and o.cls is None)
        if foreign and len(foreign) < len(receiver.objects):
            self.library(Arguments(name, node, [Value(objects=foreign), *args], named))

    def _callee(self, base: Value, node: ast.Attribute) -> Value:
        found = [
            value
            for thing in base.objects
            if type(thing) is not Cell
            and (value := self._member(base, thing, node.attr, node)) is not None
        ]
        return join(found) if found else NOTHING

    def _super(self, node: ast.Call) -> Value:
        """`super().method(...)`: the bases' own, if the script has it."""
        args, named = self._arguments(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        this = self.scopes[0].get("self", NOTHING)
        for thing in this.objects:
            if isinstance(thing, Instance) and thing.cls is not None:
                for base in thing.cls.bases:
                    if (method := base.find(name)) is not None:
                        return join(
                            [self.invoke(f, [this, *args], named, node) for f in method.objects]
                            or [NOTHING]
                        )
                thing.parameters |= parameters_of([*args, *named.values()])
        return Value(all_marks(args))

    def _arguments(self, node: ast.Call) -> tuple[list[Value], dict[str, Value]]:
        args: list[Value] = []
        for arg in node.args:
            if isinstance(arg, ast.Starred):
                value = self.eval(arg.value)
                cells = [c for c in value.cells() if c.rest is None and c.kind != "array"]
                args += list(cells[0].items.values()) if cells else [element(value)]
            else:
                args.append(self.eval(arg))
        named: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.eval(keyword.value)
            if keyword.arg is not None:
                named[keyword.arg] = value
                continue
            for cell in value.cells():
                named.update({k: v for k, v in cell.items.items() if isinstance(k, str)})
        return args, named

    def _opaque(self, callee: Value, args: list[Value], named: dict[str, Value]) -> Value:
        values = [callee, *args, *named.values()]
        return Value(all_marks(values))

    def external(
        self, name: str, args: list[Value], named: dict[str, Value], node: ast.AST
    ) -> Value:
        """A call of something of a library, by dotted name."""
        last = name.rpartition(".")[2]
        if name in _FOLDED and args and not named and all(a.const is not UNSET for a in args):
            try:
                folded = _FOLDED[name](*(a.const for a in args))
            except (TypeError, ValueError, ArithmeticError):
                return NOTHING
            return Value(args[0].deps, const=folded)
        if name in ("os.environ.get", "os.getenv"):
            return self.environ(
                args[0] if args else NOTHING, args[1] if len(args) > 1 else constant(None)
            )
        if name == "os.environ.setdefault" and len(args) == 2 and isinstance(args[0].const, str):
            self.environment = {args[0].const: str(args[1].const), **self.environment}
            return NOTHING
        if name.endswith(".at") and args:  # numpy.add.at
            self.store(node, args[0], keyed(args[1:2]), args[-1])
            return NOTHING
        if last[:1].isupper() and last not in library.SAME:
            return self._construct(name, last, args, named, node)
        result = self.library(Arguments(last, node, args, named))
        if name in ("max", "min") and len(args) == 2 and not result.objects:
            return result.replace(position=computed(name, args))
        if name.startswith("json."):  # text, whatever the file is called after
            return result.replace(start=None)
        return result

    def _construct(
        self, name: str, last: str, args: list[Value], named: dict[str, Value], node: ast.AST
    ) -> Value:
        """A library's class is called; capital letters are the libraries' convention."""
        values = [*args, *named.values()]
        if last in _CONTAINERS:
            if len(args) == 1 and args[0].cells():
                return args[0]
            return self.sequence(node, "dict" if last.endswith("Dict") else "list", args)
        if last in _TRANSPARENT:
            return args[0] if args else NOTHING
        if last in ("Counter", "OrderedDict"):
            return Value(objects=(self.cell("dict", node),))
        instance = self.instance(None, name, parameters_of(values))
        instance.attributes.update(named)
        deps = all_marks(values)
        sources = of_kind(deps, Source)
        if last == "Parameter":
            cell = self.cell("array", node)
            return Value(objects=(cell, instance))
        return Value(sources, objects=(instance,))

    def library(self, call: Arguments) -> Value:
        """A library function or method by its last name."""
        base = call.get(0)
        for thing in base.objects:
            if isinstance(thing, Instance):
                found = self._on_instance(thing, call)
                if found is not None:
                    return found
        handler = _HANDLERS.get(call.name)
        if handler is not None:
            return handler(self, call)
        if call.name == "sum":
            items = element(base)
            method = operator_method(items, ast.Add)
            if method is not None:  # of the script's own objects
                total = self.invoke(method, [items, items], {}, call.node)
                return join([total, *call.values[1:]])
        if base.const is not UNSET and isinstance(base.const, str) and call.name in _STRING:
            return self._string(call)
        values = call.all()
        for value in values:
            for thing in value.objects:
                if isinstance(thing, Function | Bound):
                    return self._higher_order(thing, value, call)
        if call.name in library.SAME or call.name.endswith("_"):
            return base if not call.name.endswith("_") else self._in_place(call)
        return self._computed(call, base, values)

    def _computed(self, call: Arguments, base: Value, values: list[Value]) -> Value:
        """What is known of a function that no handler knows: it depends on all that it is given."""
        deps = all_marks(values)
        linear = NONE.union(*map(linear_of, values)) if call.name in library.LINEAR else NONE
        if call.name in library.REDUCING:
            linear = weighed(linear)
        if call.name in library.EQUALITY:
            deps |= self.match(call.node, values)
        if call.name == "where" and len(call.values) == 3:
            options = call.values[1].all_deps() | call.values[2].all_deps()
            deps |= outcomes(choices(base), options)
        if call.name in library.MASKING and MODEL in deps:
            deps |= arithmetic.unread(deps)
        if call.name == "dirname":
            return folder_of(base)
        if call.name == "argsort" and MODEL in deps:
            deps -= of_kind(deps, Token)  # an order of computed values names no token
        mixed = arithmetic.mix(*values) if call.name in library.HASHES else base.mixed
        return Value(deps, linear=linear, mixed=mixed)

    def _on_instance(self, thing: Instance, call: Arguments) -> Value | None:
        """Methods of modules and optimizers that no class of the script defines."""
        base, node, name = call.values[0], call.node, call.name
        if name == "step":
            self.invoke(call.get(1, "closure"), [], {}, node)
            self.step(node, thing.parameters | instances(base))
            return NOTHING
        if name in ("register_forward_hook", "register_forward_pre_hook"):
            handle = self.instance(None, "hook")
            self.hooks[handle] = thing.root(), call.get(1)
            return Value(objects=(handle,))
        if name == "remove" and thing in self.hooks:
            for handle in base.objects:  # any element of a list of handles stands for all
                self.hooks.pop(handle, None)
            return NOTHING
        if name in _PARTS:
            own_value = Value(objects=(thing,))
            if name.startswith("named"):
                return self.collection(node, self.sequence(node, "tuple", [NOTHING, own_value]))
            return self.collection(node, own_value)
        if name == "state_dict":
            return Value(base.deps | thing.root().trained | {MODEL})
        if name == "load_state_dict":
            deps = call.get(1, "state_dict").all_deps()
            self.weigh(thing.root(), of_kind(deps, Train))
            return NOTHING
        if name == "zero_grad":
            self.stale = True
            return NOTHING
        if name in ("add_module", "register_module", "register_parameter", "register_buffer"):
            key = call.get(1).const
            if isinstance(key, str):
                value = call.get(2)
                if call.get(3, "persistent").const is not False:
                    value = stored_in_model(value)
                thing.attributes[key] = value
                own(thing, value)
            return NOTHING
        if name in _MODES:
            return base
        if name in ("copy_", "add_", "sub_", "addcdiv_", "add", "lerp_"):
            return self._in_place(call)
        return None

    def _string(self, call: Arguments) -> Value:
        base = call.get(0)
        consts = [v.const for v in call.values[1:]]
        if any(c is UNSET for c in consts):
            return Value(base.deps)
        try:
            result = getattr(base.const, call.name)(*consts)
        except (TypeError, ValueError):
            return NOTHING
        if isinstance(result, list):
            return self.sequence(call.node, "list", [Value(base.deps, const=r) for r in result])
        return Value(base.deps, const=result)

    def _higher_order(self, thing: Any, value: Value, call: Arguments) -> Value:
        """A function is passed to a library: wrapped and handed back, or applied to the rest."""
        rest, name = [v for v in call.values if v is not value], call.name
        if name == "partial":
            return Value(objects=(Bound(thing, tuple(rest), call.named),))
        if name in ("map", "imap", "starmap", "filter"):
            args = [element(v) for v in rest if not isinstance(v.const, int)]
            return self.collection(call.node, self.invoke(thing, args, {}, call.node))
        if name in ("submit", "apply", "apply_async", "call", "run", "checkpoint"):
            return self.invoke(thing, rest[1:] if name != "checkpoint" else rest, {}, call.node)
        return value


def _is_super(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )
