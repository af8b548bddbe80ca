"""What folding knows: the kinds of values, the pure functions, and the decoders."""

import ast
import base64
import binascii
import json
import lzma
import operator
import posixpath
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from auditor.submission.decoders import (
    brotli_decompress,
    bz2_decompress,
    gzip_decompress,
    lzma_decompress,
    zlib_decompress,
)


class CannotFoldError(Exception):
    """The expression depends on something that only running would show."""


@dataclass(frozen=True)
class Ref:
    """A module or an attribute of one, by its dotted name: `lzma`, `lzma.decompress`."""

    name: str


@dataclass(frozen=True)
class FilePath:
    """A `pathlib.Path`."""

    path: str


@dataclass(frozen=True)
class Handle:
    """An open file."""

    path: str
    text: bool


@dataclass(frozen=True)
class Code:
    """What `compile` returns."""

    source: str | bytes


@dataclass(frozen=True)
class ModuleSpec:
    """What `spec_from_file_location` and `module_from_spec` return, and the spec's loader."""

    path: str


@dataclass(frozen=True)
class Function:
    """A function or lambda of the script, to be folded through when called."""

    node: ast.FunctionDef | ast.Lambda


DECODERS: dict[str, tuple[str, Callable[..., bytes]]] = {
    "base64.b85decode": ("base85", base64.b85decode),
    "base64.a85decode": ("ascii85", base64.a85decode),
    "base64.b64decode": ("base64", base64.b64decode),
    "base64.urlsafe_b64decode": ("base64", base64.urlsafe_b64decode),
    "base64.standard_b64decode": ("base64", base64.b64decode),
    "base64.decodebytes": ("base64", base64.decodebytes),
    "base64.b32decode": ("base32", base64.b32decode),
    "base64.b16decode": ("base16", base64.b16decode),
    "binascii.a2b_base64": ("base64", binascii.a2b_base64),
    "binascii.unhexlify": ("base16", binascii.unhexlify),
    "builtins.bytes.fromhex": ("base16", bytes.fromhex),
    "lzma.decompress": ("lzma", lzma_decompress),
    "zlib.decompress": ("zlib", zlib_decompress),
    "gzip.decompress": ("gzip", gzip_decompress),
    "bz2.decompress": ("bzip2", bz2_decompress),
    "brotli.decompress": ("brotli", brotli_decompress),
}
CONSTANTS: dict[str, object] = {
    **{f"lzma.{name}": getattr(lzma, name) for name in dir(lzma) if name.isupper()},
    "zlib.MAX_WBITS": zlib.MAX_WBITS,
    "os.sep": "/",
    "os.curdir": ".",
}
TEMPORARY = "/unpacked"
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        f"builtins.{kind.__name__}": kind
        for kind in (str, bytes, bytearray, int, len, ord, chr, list, tuple, dict, bool)
    },
    "builtins.zip": lambda *columns: list(zip(*columns, strict=False)),
    "builtins.reversed": lambda items: list(reversed(items)),
    "builtins.enumerate": lambda items, start=0: list(enumerate(items, start)),
    "builtins.sorted": lambda items: sorted(items),
    "json.loads": json.loads,
    "os.path.join": posixpath.join,
    "os.path.dirname": posixpath.dirname,
    "os.path.basename": posixpath.basename,
    "os.path.splitext": posixpath.splitext,
    "os.path.abspath": posixpath.normpath,
    "os.path.realpath": posixpath.normpath,
    "os.path.normpath": posixpath.normpath,
    "os.fspath": lambda path: path,
    "tempfile.mkdtemp": lambda **_: TEMPORARY,
    "tempfile.gettempdir": lambda: TEMPORARY,
}
_TEXT_METHODS = {
    *("strip", "lstrip", "rstrip", "removeprefix", "removesuffix"),
    *("split", "rsplit", "splitlines", "partition", "startswith", "endswith"),
}
METHODS: dict[type, frozenset[str]] = {
    str: frozenset({"encode", "upper", "lower", *_TEXT_METHODS}),
    bytes: frozenset({"decode", "hex", *_TEXT_METHODS}),
    dict: frozenset({"get", "keys", "values", "items"}),
}
OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.BitXor: operator.xor,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.RShift: operator.rshift,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
BUILTINS = frozenset(
    {
        *("exec", "eval", "compile", "open", "print", "globals", "locals", "__import__", "getattr"),
        *("str", "bytes", "bytearray", "int", "bool", "len", "ord", "chr"),
        *("list", "tuple", "dict", "zip", "reversed", "enumerate", "sorted"),
    }
)


# What the operations above raise on values that do not fit them.
MISFITS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    OSError,
)


def as_text(value: Any) -> Any:
    """A path as the string that it stands for; anything else as it is."""
    return value.path if isinstance(value, FilePath) else value


def path_attribute(value: FilePath, name: str) -> Any:
    """An attribute of a `pathlib.Path`."""
    path = value.path
    stem, suffix = posixpath.splitext(posixpath.basename(path))
    simple: Mapping[str, Any] = {
        "parent": FilePath(posixpath.dirname(path)),
        "name": posixpath.basename(path),
        "stem": stem,
        "suffix": suffix,
    }
    if name in simple:
        return simple[name]
    if name == "parents":
        parents = []
        while posixpath.dirname(path) != path:
            path = posixpath.dirname(path)
            parents.append(FilePath(path))
        return parents
    raise CannotFoldError(f"the attribute {name} of a path is not folded")


def path_method(value: FilePath, name: str, arguments: list[str]) -> FilePath | str:
    """The result of a method of a `pathlib.Path`."""
    folder, base = posixpath.split(value.path)
    if name in {"resolve", "absolute", "expanduser"}:
        return FilePath(posixpath.normpath(value.path))
    if name == "joinpath":
        return FilePath(posixpath.join(value.path, *arguments))
    if name == "with_suffix":
        return FilePath(posixpath.join(folder, posixpath.splitext(base)[0] + arguments[0]))
    if name == "with_name":
        return FilePath(posixpath.join(folder, arguments[0]))
    if name == "as_posix":
        return value.path
    raise CannotFoldError(f"the method {name} of a path is not folded")
