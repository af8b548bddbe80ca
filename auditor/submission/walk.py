"""Walks the statements of a packed script in order, folds what they do, and finds what they run."""

import ast
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from auditor.submission.decoders import DecodeError
from auditor.submission.fold import Folder, bind
from auditor.submission.values import (
    CONSTANTS,
    DECODERS,
    MISFITS,
    CannotFoldError,
    Code,
    FilePath,
    Function,
    Handle,
    ModuleSpec,
    Ref,
    as_text,
)
from auditor.submission.workspace import Layer, Workspace, decode_source

MAX_DEPTH = 6
MAX_CALL_DEPTH = 6
MAX_TURNS = 512
SINKS = {"builtins.exec", "builtins.eval", "runpy.run_path"}
SPAWNERS = ("subprocess.", "os.exec", "os.spawn", "os.system", "os.popen")
# Modules that only prepare the run of a payload: what is done to them is no part of the program.
MACHINERY = frozenset(
    {
        *("base64", "binascii", "brotli", "bz2", "gzip", "lzma", "zlib"),
        *("builtins", "contextlib", "fcntl", "importlib", "io", "linecache", "os", "pathlib"),
        *("runpy", "shutil", "subprocess", "sys", "tempfile", "types", "warnings"),
    }
)


Expand = Callable[[str, dict[str, Any]], str]


@dataclass(frozen=True)
class Payload:
    """Source that the script runs, itself unpacked. `shipped`: it is a file of the submission."""

    source: str
    shipped: bool


class _ReturnError(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class Walker(Folder):
    """Walks the statements of one text in order, and folds what they do."""

    def __init__(
        self, workspace: Workspace, names: dict[str, Any], depth: int, expand: Expand
    ) -> None:
        super().__init__(names, workspace.budget)
        self.workspace = workspace
        self.depth = depth
        self.expand = expand
        self.found: list[Payload] = []
        self.environment: list[str] = []
        self.called: set[ast.stmt] = set()
        self.opaque = False
        self.sink_lines: set[int] = set()
        self.call_depth = 0

    def run(self, body: list[ast.stmt]) -> None:
        """Walks statements; those that cannot be folded are passed over."""
        for statement in body:
            try:
                self._statement(statement)
            except CannotFoldError:
                for name in _assigned(statement):
                    self.names.pop(name, None)
                if not self._prepares_only(statement):
                    self.opaque = True

    def is_wrapper(self, tree: ast.Module) -> bool:
        """True if the text does nothing of its own beside running its payload."""
        definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        own = [s for s in tree.body if isinstance(s, definitions) and s not in self.called]
        return not self.opaque and not own

    def note_unseen(self, tree: ast.Module) -> None:
        """Names every call that runs source which was not had."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.lineno not in self.sink_lines:
                name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
                plain = isinstance(node.func, ast.Name) and name in {"exec", "eval"}
                if plain or name in {"run_path", "exec_module"}:
                    self._note(node, "a value that only running would show")

    def _note(self, node: ast.AST, what: str) -> None:
        line = getattr(node, "lineno", 0)
        where = f"line {line}" if self.depth == 0 else f"line {line} of layer {self.depth}"
        self.workspace.notes.append(f"{where} runs source that was not read: {what}")

    # Statements ------------------------------------------------------------------------------

    def _statement(self, node: ast.stmt) -> None:
        self.budget.step()
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
        elif isinstance(node, ast.Assign):
            self._assign(node.targets, self.fold(node.value), node)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._assign([node.target], self.fold(node.value), node)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            left = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
            value = self.fold(ast.copy_location(ast.BinOp(left, node.op, node.value), node))
            self.names[node.target.id] = value
        elif isinstance(node, ast.Expr):
            self.fold(node.value)
        elif isinstance(node, ast.Return):
            raise _ReturnError(self.fold(node.value) if node.value else None)
        elif isinstance(node, ast.FunctionDef):
            self.names[node.name] = Function(node)
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
        elif not isinstance(node, ast.Pass | ast.Global | ast.ClassDef | ast.AsyncFunctionDef):
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
            if isinstance(node, ast.ImportFrom):
                module, name = node.module or "", f"{node.module}.{alias.name}"
                self.names[alias.asname or alias.name] = _known(name)
            else:
                module, name = alias.name, alias.name
                self.names[alias.asname or name.split(".")[0]] = Ref(
                    name if alias.asname else name.split(".")[0]
                )
            self._run_written(module, node)

    def _run_written(self, module: str, node: ast.stmt | ast.Call) -> bool:
        """Runs a module that the script wrote beforehand, where there is one of that name."""
        for path in list(self.workspace.written):
            if path.endswith(f"/{module.replace('.', '/')}.py"):
                self._execute(self.workspace.written[path], "file", node, path)
                return True
        return False

    def _assign(self, targets: list[ast.expr], value: Any, node: ast.stmt) -> None:
        for target in targets:
            if isinstance(target, ast.Subscript) and self._is_environ(target.value):
                self._environment(node)
            elif isinstance(target, ast.Name | ast.Tuple | ast.List):
                bind(self.names, target, value)
            else:
                raise CannotFoldError("an assignment to an attribute or an element")

    def _is_environ(self, node: ast.expr) -> bool:
        try:
            return bool(self.fold(node) == Ref("os.environ"))
        except CannotFoldError:
            return False

    def _environment(self, node: ast.stmt | ast.Call) -> None:
        """Keeps a statement that sets environment variables, with its values folded in."""
        if not self.environment:
            self.environment.append("import os")
        self.environment.append(ast.unparse(_Substitute(self).visit(_copied(node))))

    def _prepares_only(self, node: ast.stmt) -> bool:
        """True if an unfolded statement touches nothing but the machinery of unpacking."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef | ast.ClassDef | ast.Lambda):
                return False
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
                value = self.names.get(inner.id, Ref(f"builtins.{inner.id}"))
                if isinstance(value, Ref) and value.name.split(".")[0] not in MACHINERY:
                    return False
        return True

    # Calls with an effect ----------------------------------------------------------------------

    def call(self, name: str, node: ast.Call) -> Any:
        """Decoders, files, and everything that runs source."""
        if name in DECODERS:
            return self._decode(name, node)
        if name in SINKS:
            return self._sink(name, node)
        if name.startswith(SPAWNERS):
            return self._spawn(node)
        if name.startswith("os.environ.") or name == "os.putenv":
            if name in {"os.environ.setdefault", "os.environ.update", "os.putenv"}:
                self._environment(node)
                return None
            raise CannotFoldError("the environment of the run is not known")
        if name in {
            "os.makedirs",
            "os.mkdir",
            "sys.path.insert",
            "sys.path.append",
            "builtins.print",
        }:
            return None
        if name == "builtins.compile":  # the other arguments change nothing
            return Code(self.fold(node.args[0]))
        arguments, keywords = self.arguments(node)
        first = as_text(arguments[0]) if arguments else None
        if name in {"builtins.open", "io.open"}:
            return Handle(str(first), "b" not in str([*arguments[1:2], keywords.get("mode", "")]))
        if name in {"pathlib.Path", "pathlib.PurePath", "pathlib.PosixPath"}:
            return FilePath(
                posixpath.join(*(str(as_text(a)) for a in arguments)) if arguments else "."
            )
        if name == "importlib.util.spec_from_file_location":
            return ModuleSpec(
                str(as_text(arguments[1] if len(arguments) > 1 else keywords["location"]))
            )
        if name == "importlib.util.module_from_spec":
            return arguments[0]
        if name in {"importlib.import_module", "builtins.__import__"} and self._run_written(
            str(first), node
        ):
            return None
        if name == "builtins.getattr" and isinstance(arguments[0], Ref):
            return _known(f"{arguments[0].name}.{arguments[1]}")
        return super().call(name, node)

    def method(self, value: Any, name: str, node: ast.Call) -> Any:
        """Reads and writes of files; the rest as the folder does it."""
        path, text = "", True
        if isinstance(value, Handle):
            path, text = value.path, value.text
        elif isinstance(value, FilePath):
            path, text = value.path, not name.endswith("bytes")
        if isinstance(value, ModuleSpec) and name == "exec_module":
            self.sink_lines.add(node.lineno)
            return self._execute(self._readable(value.path, node), "file", node, value.path)
        if isinstance(value, FilePath) and name == "open":
            arguments, keywords = self.arguments(node)
            return Handle(path, "b" not in str([*arguments[:1], keywords.get("mode", "")]))
        if path and name in {"read", "read_text", "read_bytes"}:
            data = self.workspace.read(path)
            return decode_source(data) if text else data
        if path and name in {"write", "write_text", "write_bytes"}:
            data = self.fold(node.args[0])
            self.workspace.write(path, data, append=name == "write" and isinstance(value, Handle))
            return len(data)
        if path and name in {"close", "flush", "mkdir", "unlink", "exists", "is_file"}:
            return None if name in {"close", "flush", "mkdir", "unlink"} else self._exists(path)
        return super().method(value, name, node)

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

    def _decode(self, name: str, node: ast.Call) -> bytes:
        kind, decoder = DECODERS[name]
        arguments, keywords = self.arguments(node)
        try:
            out = decoder(*arguments, **keywords)
        except DecodeError as error:
            self._note(node, f"{kind}: {error}")
            raise CannotFoldError(str(error)) from None
        self.workspace.layers.append(Layer(kind, len(arguments[0]), len(out), node.lineno))
        return out

    def _sink(self, name: str, node: ast.Call) -> Any:
        self.sink_lines.add(node.lineno)
        try:
            value = as_text(self.fold(node.args[0]))
        except CannotFoldError as error:
            self._note(node, str(error))
            raise
        if name == "runpy.run_path":
            return self._execute(self._readable(value, node), "file", node, value)
        source = value.source if isinstance(value, Code) else value
        if name == "builtins.eval" and len(source) < 80:
            raise CannotFoldError("a short expression")
        return self._execute(source, "exec", node, None)

    def _readable(self, path: str, node: ast.Call) -> bytes:
        try:
            return self.workspace.read(path)
        except CannotFoldError as error:
            self._note(node, str(error))
            raise

    def _exists(self, path: str) -> bool:
        try:
            self.workspace.read(path)
        except CannotFoldError:
            return False
        return True

    def _spawn(self, node: ast.Call) -> None:
        """Runs a file that the script wrote, where a spawned command names it."""
        for argument in ast.walk(node):
            if isinstance(argument, ast.expr) and argument is not node:
                try:
                    value = as_text(self.fold(argument))
                except CannotFoldError:
                    continue
                if isinstance(value, str) and self.workspace.wrote(value):
                    self._execute(self.workspace.read(value), "file", node, value)
                    return
        raise CannotFoldError("a command is not folded")

    def _execute(self, source: Any, kind: str, node: ast.AST, path: str | None) -> None:
        line = getattr(node, "lineno", 0)
        if self.depth >= MAX_DEPTH:
            self._note(node, f"packed more than {MAX_DEPTH} times")
            raise CannotFoldError("packed too deeply")
        try:
            text = source if isinstance(source, str) else decode_source(bytes(source))
        except (*MISFITS, SyntaxError) as error:
            self._note(node, f"not Python source: {error}")
            raise CannotFoldError("not Python source") from None
        self.workspace.layers.append(Layer(kind, len(source), len(text), line))
        names = self.names if path is None else {"__file__": path, "__name__": "__main__"}
        shipped = path is not None and self.workspace.shipped(path)
        self.found.append(Payload(self.expand(text, dict(names)), shipped))


class _Substitute(ast.NodeTransformer):
    """Replaces names by their folded values."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = self.folder.names.get(node.id)
        return ast.Constant(value) if isinstance(value, str | int | float) else node


def _copied(node: ast.stmt | ast.Call) -> ast.AST:
    return ast.parse(ast.unparse(node)).body[0]


def _assigned(node: ast.stmt) -> list[str]:
    return [
        inner.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
    ]


def _known(name: str) -> Any:
    return CONSTANTS.get(name, Ref(name))
