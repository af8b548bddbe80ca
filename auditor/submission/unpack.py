"""Opens packed scripts: finds the source that a script would hand to `exec`, without running it.

A packed `train_gpt.py` is a few statements around a long literal: decode, decompress, then `exec`,
or write to a file and run that. Its statements are walked in order (`walk.py`) and folded
(`fold.py`); whatever reaches an `exec`, a `run_path`, an imported or a spawned file is a payload,
and is opened in its turn.
"""

import ast
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from auditor.submission.model import SourceFile
from auditor.submission.walk import Walker, free_names
from auditor.submission.workspace import Layer, Workspace, decode_source
from auditor.syntax import tree_of, walk

# A script without any of these runs no source but its own and that of the modules it imports.
RUNS_SOURCE = re.compile(
    r"\b(?:exec|exec_module|run_path|run_module|__import__|builtins|importlib|"
    r"[ab](?:85|64|32|16)decode|unhexlify|fromhex)\b"
)
# Texts are long: a word is looked for at once, and its bounds where it was found alone.
WORDS = (
    *("exec", "run_path", "run_module", "__import__", "builtins", "importlib"),
    *("85decode", "64decode", "32decode", "16decode", "unhexlify", "fromhex"),
)
CALLS_EVAL = re.compile(r"eval\((?<![.\w]eval\()")
LAUNCHER_STATEMENTS = (
    60  # a script this short that runs what cannot be read is nothing but a launcher
)
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True)
class Unpacked:
    """The source that runs.

    `source` is the script's text with its payload in its place; environment settings made before
    the payload stand above it. `layers` is empty for a script that is not packed. `files` holds
    what the script writes before it runs its payload. `problem` says why the source could not be
    had; `notes` name places that run source which was not had.
    """

    source: str
    layers: tuple[Layer, ...] = ()
    problem: str | None = None
    files: Mapping[str, SourceFile] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def unpack(main: SourceFile, files: Mapping[str, SourceFile]) -> Unpacked:
    """The source of `main` as it runs; `files` are those beside it, by relative path."""
    try:
        text = decode_source(main.data)
    except (SyntaxError, UnicodeError) as error:
        return Unpacked("", problem=f"not Python source: {error}")
    if not text.strip():
        return Unpacked(text, problem="the script is empty")
    path = posixpath.join("/", posixpath.normpath(main.path))
    name = next((name for name, file in files.items() if file == main), posixpath.basename(path))
    workspace = Workspace(path.removesuffix("/" + name) or "/", files)
    source = _expand(workspace, text, {"__file__": path, "__name__": "__main__"}, 0)
    notes = tuple(dict.fromkeys(workspace.notes))
    if source == text:
        problem = notes[0] if notes and _is_launcher(text) else None
        return Unpacked(text, problem=problem, notes=notes)
    return Unpacked(source, tuple(workspace.layers), None, workspace.written_files(), notes)


def _expand(workspace: Workspace, text: str, names: dict[str, Any], depth: int) -> str:
    """The source that running `text` amounts to."""
    if not _may_run_source(text):
        return text
    try:
        tree = tree_of(text)
    except UNPARSABLE:
        return text  # whoever parses the result names what is wrong
    walker = Walker(
        workspace,
        names,
        depth,
        lambda inner, scope: _expand(workspace, inner, scope, depth + 1),
    )
    walker.run(tree.body)
    if any(word in text for word in ("exec", "eval", "run_path")):
        walker.note_unseen(tree)
    borrowed = {name for payload in walker.found for name in free_names(payload.source)}
    if walker.is_wrapper and not borrowed & walker.assigned:
        return "\n".join([*walker.environment, *(payload.source for payload in walker.found)])
    # A shipped module that is loaded by its path stays a file of its own beside the script.
    own = [payload.source for payload in walker.found if not payload.shipped]
    return "\n\n".join([text, *(f"# unpacked from the code above:\n{source}" for source in own)])


def _may_run_source(text: str) -> bool:
    worded = any(word in text for word in WORDS) and RUNS_SOURCE.search(text) is not None
    return worded or CALLS_EVAL.search(text) is not None


def _is_launcher(text: str) -> bool:
    try:
        return sum(isinstance(n, ast.stmt) for n in walk(tree_of(text))) < LAUNCHER_STATEMENTS
    except UNPARSABLE:
        return False
