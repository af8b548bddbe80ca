"""Walks the statements of a packed script in order, folds what they do, and finds what they run."""

import ast
from typing import Any

from auditor.submission.effects import EffectFolder, Expand, known
from auditor.submission.fold import bind
from auditor.submission.values import CannotFoldError, Function, Ref
from auditor.submission.workspace import Workspace
from auditor.syntax import tree_of, walk

MAX_CALL_DEPTH = 6
MAX_TURNS = 512
# Modules that only prepare the run of a payload: what is done to them is no part of the program.
MACHINERY = frozenset(
    {
        *("base64", "binascii", "brotli", "bz2", "gzip", "lzma", "zlib"),
        *("builtins", "contextlib", "fcntl", "importlib", "io", "linecache", "os", "pathlib"),
        *("runpy", "shutil", "subprocess", "sys", "tempfile", "types", "warnings"),
    }
)


class _ReturnError(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class Walker(EffectFolder):
    """Walks the statements of one text in order, and folds what they do."""

    def __init__(
        self, workspace: Workspace, names: dict[str, Any], depth: int, expand: Expand
    ) -> None:
        super().__init__(workspace, names, depth, expand)
        self.assigned: set[str] = set()
        self._bound: dict[ast.stmt, list[str]] = {}
        self.defined: set[ast.FunctionDef] = set()
        self.called: set[ast.FunctionDef] = set()
        self.opaque = False
        self.call_depth = 0

    def run(self, body: list[ast.stmt]) -> None:
        """Walks statements; those that cannot be folded are passed over."""
        for statement in body:
            self.assigned.update(self._assigned(statement))
            try:
                self._statement(statement)
            except CannotFoldError:
                for name in self._assigned(statement):
                    self.names.pop(name, None)
                self.opaque = self.opaque or not self._prepares_only(statement)

    @property
    def is_wrapper(self) -> bool:
        """True if the text does nothing of its own beside running its payload."""
        return bool(self.found) and not self.opaque and self.defined <= self.called

    def note_unseen(self, tree: ast.Module) -> None:
        """Names every call that runs source which was not had."""
        for node in walk(tree):
            if isinstance(node, ast.Call) and node.lineno not in self.sink_lines:
                name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
                plain = isinstance(node.func, ast.Name) and name in {"exec", "eval"}
                if plain or name in {"run_path", "exec_module"}:
                    self.note(node, "a value that only running would show")

    def _statement(self, node: ast.stmt) -> None:
        self.budget.step()
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
        elif self._sets_environment(node):
            self.keep_environment(node)
        elif isinstance(node, ast.Assign):
            self._assign(node.targets, self.fold(node.value))
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._assign([node.target], self.fold(node.value))
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            left = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
            value = self.fold(ast.copy_location(ast.BinOp(left, node.op, node.value), node))
            self.names[node.target.id] = value
        elif isinstance(node, ast.Expr):
            self.fold(node.value)
        elif isinstance(node, ast.Return):
            raise _ReturnError(self.fold(node.value) if node.value else None)
        elif isinstance(node, ast.FunctionDef):
            self.defined.add(node)
            self.names[node.name] = Function(node)
        elif isinstance(node, ast.ClassDef | ast.AsyncFunctionDef):
            self.opaque = True
        else:
            self._block(node)

    def _block(self, node: ast.stmt) -> None:
        if isinstance(node, ast.If):
            try:
                self.run(node.body if self.fold(node.test) else node.orelse)
            except CannotFoldError:
                self._perhaps(node.body)
                self._perhaps(node.orelse)
        elif isinstance(node, ast.With):
            for item in node.items:
                self._with_item(item)
            self.run(node.body)
        elif isinstance(node, ast.For):
            turns = self.fold(node.iter)
            if len(turns) > MAX_TURNS:
                raise CannotFoldError("too many turns of a loop")
            for item in turns:
                bind(self.names, node.target, item)
                self.run(node.body)
        elif isinstance(node, ast.While):
            self._perhaps(node.body)
        elif isinstance(node, ast.Try):
            for body in (node.body, *(h.body for h in node.handlers), node.orelse, node.finalbody):
                self._perhaps(body)
        elif not isinstance(node, ast.Pass | ast.Global):
            raise CannotFoldError(f"{type(node).__name__} is not walked")

    def _perhaps(self, body: list[ast.stmt]) -> None:
        """Walks statements that may or may not run: a `return` among them ends nothing else."""
        try:
            self.run(body)
        except _ReturnError:
            return

    def _with_item(self, item: ast.withitem) -> None:
        try:
            value = self.fold(item.context_expr)
        except CannotFoldError:
            return
        if item.optional_vars is not None:
            bind(self.names, item.optional_vars, value)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            module = alias.name
            if isinstance(node, ast.ImportFrom):
                module = node.module or ""
                self.names[alias.asname or alias.name] = known(f"{module}.{alias.name}")
                self.opaque |= alias.name == "*"  # any name may come from there
            elif alias.asname:
                self.names[alias.asname] = Ref(module)
            else:
                top = module.split(".")[0]
                self.names[top] = Ref(top)
            self.run_written(module, node)

    def _assign(self, targets: list[ast.expr], value: Any) -> None:
        for target in targets:
            if not isinstance(target, ast.Name | ast.Tuple | ast.List):
                raise CannotFoldError("an assignment to an attribute or an element")
            bind(self.names, target, value)

    def _sets_environment(self, node: ast.stmt) -> bool:
        """True for an assignment to `os.environ` or to one of its entries, known or not."""
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign):
            targets = [node.target]
        return any(
            self._is_environ(t.value if isinstance(t, ast.Subscript) else t)
            for t in targets
            if isinstance(t, ast.Subscript | ast.Attribute)
        )

    def _is_environ(self, node: ast.expr) -> bool:
        try:
            return bool(self.fold(node) == Ref("os.environ"))
        except CannotFoldError:
            return False

    def _prepares_only(self, node: ast.stmt) -> bool:
        """True if an unfolded statement touches nothing but the machinery of unpacking."""
        for inner in walk(node):
            if isinstance(inner, ast.FunctionDef | ast.ClassDef | ast.Lambda):
                return False
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
                value = self.names.get(inner.id, Ref(f"builtins.{inner.id}"))
                if isinstance(value, Ref) and value.name.split(".")[0] not in MACHINERY:
                    return False
        return True

    def _assigned(self, node: ast.stmt) -> list[str]:
        """The names that a statement binds, those of a function that it defines included."""
        if node not in self._bound:
            names = [
                inner.id
                for inner in walk(node)
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
            ]
            self._bound[node] = [*names, node.name] if isinstance(node, ast.FunctionDef) else names
        return self._bound[node]

    def invoke(self, function: Function, node: ast.Call) -> Any:
        """Walks one of the script's own functions with its arguments bound."""
        if self.call_depth >= MAX_CALL_DEPTH:
            raise CannotFoldError("calls nested too deeply")
        if isinstance(function.node, ast.Lambda):
            return super().invoke(function, node)
        outer, self.names = self.names, self._scope_of(function.node, node)
        self.call_depth += 1
        self.called.add(function.node)
        try:
            self.run(function.node.body)
        except _ReturnError as returned:
            return returned.value
        finally:
            self.names = outer
            self.call_depth -= 1
        return None

    def _scope_of(self, function: ast.FunctionDef, node: ast.Call) -> dict[str, Any]:
        """The names inside a called function; parameters whose argument is unknown are left out."""
        names = dict(self.names)
        parameters = [p.arg for p in (*function.args.posonlyargs, *function.args.args)]
        pairs = [*zip(parameters, node.args, strict=False)]
        pairs += [(keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg]
        for parameter, argument in pairs:
            names.pop(parameter, None)
            try:
                names[parameter] = self.fold(argument)
            except CannotFoldError:
                continue
        return names


def free_names(source: str) -> set[str]:
    """The names that a text reads and never binds; none if it cannot be parsed."""
    try:
        nodes = walk(tree_of(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    read: set[str] = set()
    held: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else held).add(node.id)
        elif isinstance(node, ast.arg):
            held.add(node.arg)
        elif isinstance(node, ast.alias):
            held.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            held.add(node.name)
    return read - held
