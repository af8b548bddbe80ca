"""Finds the hot modules as machine code, where `auditor.compilation` compiled them.

What was compiled lies beside the environment's packages, under a digest of the source and of the
interpreter. A changed line leads to another digest, so that what runs is never older than the
source: until it is compiled again, Python reads the source, as it does where nothing was compiled.
`AUDITOR_PURE_PYTHON=1` asks for that.
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent
STORE = Path(sys.prefix) / "share" / "parameter-golf-proof" / "compiled"
SWITCH = "AUDITOR_PURE_PYTHON"
SUFFIX = EXTENSION_SUFFIXES[0]
_SOURCES = ("syntax.py", "program/**/*.py")  # the hot modules, and what they know by type


class _Finder(MetaPathFinder):
    """Finds the modules that lie in a folder, each under its full name."""

    def __init__(self, folder: Path) -> None:
        self.files = {p.name.removesuffix(SUFFIX): p for p in folder.glob(f"*{SUFFIX}")}

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What loads a module, if it is one of them."""
        file = self.files.get(fullname)
        return spec_from_file_location(fullname, file) if file is not None else None


def digest(root: Path = ROOT) -> str:
    """The name of what was compiled from this source for this interpreter."""
    found = hashlib.sha256(f"{sys.version} {SUFFIX}".encode())
    for pattern in _SOURCES:
        for path in sorted(root.glob(pattern)):
            found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:32]


def use(store: Path = STORE) -> bool:
    """Lets the hot modules be loaded as machine code, if they were compiled from this source."""
    if not store.is_dir() or os.environ.get(SWITCH):
        return False
    folder = store / digest()
    if not folder.is_dir():
        return False
    sys.meta_path.insert(0, _Finder(folder))
    return True
