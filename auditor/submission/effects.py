"""What a packed script's calls do beside returning a value: decode, write, read, and run source."""

import ast
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from auditor.submission.decoders import DecodeError
from auditor.submission.fold import Folder
from auditor.submission.values import (
    CONSTANTS,
    DECODERS,
    MISFITS,
    CannotFoldError,
    Code,
    FilePath,
    Handle,
    ModuleSpec,
    Ref,
    as_text,
)
from auditor.submission.workspace import Layer, Workspace, decode_source
from auditor.syntax import walk

MAX_DEPTH = 6
SHORT_EXPRESSION = 80  # what `eval` is given of at most this length is no program
SINKS = {"builtins.exec", "builtins.eval", "runpy.run_path"}
SPAWNERS = ("subprocess.", "os.exec", "os.spawn", "os.system", "os.popen")
ENVIRONMENT_CALLS = {"os.environ.setdefault", "os.environ.update", "os.putenv"}
WITHOUT_RESULT = {"os.makedirs", "os.mkdir", "sys.path.insert", "sys.path.append", "builtins.print"}

Expand = Callable[[str, dict[str, Any]], str]


@dataclass(frozen=True)
class Payload:
    """Source that the script runs, itself unpacked. `shipped`: it is a file of the submission."""

    source: str
    shipped: bool


class EffectFolder(Folder):
    """Folds calls with an effect. `expand` opens what is run; `depth` counts the layers above."""

    def __init__(
        self, workspace: Workspace, names: dict[str, Any], depth: int, expand: Expand
    ) -> None:
        super().__init__(names, workspace.budget)
        self.workspace = workspace
        self.depth = depth
        self.expand = expand
        self.found: list[Payload] = []
        self.environment: list[str] = []
        self.sink_lines: set[int] = set()

    def call(self, name: str, node: ast.Call) -> Any:
        """Decoders, files, and everything that runs source."""
        if name in DECODERS:
            return self._decode(name, node)
        if name in SINKS:
            return self._sink(name, node)
        if name.startswith(SPAWNERS):
            return self._spawn(node)
        if name in ENVIRONMENT_CALLS:
            self.keep_environment(node)
        if name in ENVIRONMENT_CALLS | WITHOUT_RESULT:
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
        if name in {"importlib.import_module", "builtins.__import__"} and self.run_written(
            str(first), node
        ):
            return None
        if name == "builtins.getattr" and isinstance(arguments[0], Ref):
            return known(f"{arguments[0].name}.{arguments[1]}")
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

    def keep_environment(self, node: ast.stmt | ast.Call) -> None:
        """Keeps a statement that sets environment variables, with its values folded in."""
        if not self.environment:
            self.environment.append("import os")
        self.environment.append(ast.unparse(_Substitute(self).visit(_copied(node))))

    def note(self, node: ast.AST, what: str) -> None:
        """Names a place that runs source which was not had."""
        line = getattr(node, "lineno", 0)
        where = f"line {line}" if self.depth == 0 else f"line {line} of layer {self.depth}"
        self.workspace.notes.append(f"{where} runs source that was not read: {what}")

    def run_written(self, module: str, node: ast.stmt | ast.Call) -> bool:
        """Runs a module that the script wrote beforehand, where there is one of that name."""
        for path in list(self.workspace.written):
            if path.endswith(f"/{module.replace('.', '/')}.py"):
                self._execute(self.workspace.written[path], "file", node, path)
                return True
        return False

    def _decode(self, name: str, node: ast.Call) -> bytes:
        kind, decoder = DECODERS[name]
        arguments, keywords = self.arguments(node)
        try:
            out = decoder(*arguments, **keywords)
        except DecodeError as error:
            self.note(node, f"{kind}: {error}")
            raise CannotFoldError(str(error)) from None
        self.workspace.layers.append(Layer(kind, len(arguments[0]), len(out), node.lineno))
        return out

    def _sink(self, name: str, node: ast.Call) -> Any:
        self.sink_lines.add(node.lineno)
        try:
            value = as_text(self.fold(node.args[0]))
        except CannotFoldError as error:
            self.note(node, str(error))
            raise
        if name == "runpy.run_path":
            return self._execute(self._readable(value, node), "file", node, value)
        source = value.source if isinstance(value, Code) else value
        if name == "builtins.eval" and len(source) <= SHORT_EXPRESSION:
            raise CannotFoldError("a short expression")
        return self._execute(source, "exec", node, None)

    def _readable(self, path: str, node: ast.Call) -> bytes:
        try:
            return self.workspace.read(path)
        except CannotFoldError as error:
            self.note(node, str(error))
            raise

    def _exists(self, path: str) -> bool:
        try:
            self.workspace.read(path)
        except CannotFoldError:
            return False
        return True

    def _spawn(self, node: ast.Call) -> None:
        """Runs a Python file that the script wrote, where a spawned command names it."""
        for argument in walk(node):
            if isinstance(argument, ast.expr) and argument is not node:
                try:
                    value = as_text(self.fold(argument))
                except CannotFoldError:
                    continue
                if str(value).endswith(".py") and self.workspace.wrote(value):
                    self._execute(self.workspace.read(value), "file", node, value)
                    return
        raise CannotFoldError("a command is not folded")

    def _execute(self, source: Any, kind: str, node: ast.AST, path: str | None) -> None:
        line = getattr(node, "lineno", 0)
        if self.depth >= MAX_DEPTH:
            self.note(node, f"packed more than {MAX_DEPTH} times")
            raise CannotFoldError("packed too deeply")
        try:
            text = source if isinstance(source, str) else decode_source(bytes(source))
        except (*MISFITS, SyntaxError) as error:
            self.note(node, f"not Python source: {error}")
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


def known(name: str) -> Any:
    """A constant of a module, or a reference to something in one, by its dotted name."""
    return CONSTANTS.get(name, Ref(name))
