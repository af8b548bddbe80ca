"""Compiles the hot modules with mypyc: the static audit takes two thirds of its time then.

    python -m auditor.compilation       # `make install` does so

Where there is no mypyc or no C compiler, the auditor runs as plain Python, and says the same.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from auditor.compiled import ROOT, STORE, SUFFIX, digest

HOT = (
    *("syntax.py", "program/steps.py", "program/token_marks.py", "program/token_gates.py"),
    "program/dataflow/*.py",
)


def compile_into(store: Path, hot: Sequence[str] = HOT) -> str | None:
    """Compiles modules, by their paths in the package; None, or why it was not done.

    What `store` held of another source is removed.
    """
    if find_spec("mypyc") is None or find_spec("setuptools") is None:
        return "mypyc or setuptools is not installed"
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        package = work / ROOT.name
        shutil.copytree(ROOT, package, ignore=shutil.ignore_patterns("__pycache__"))
        files = [path for pattern in hot for path in sorted(package.glob(pattern))]
        command = [sys.executable, "-m", "mypyc", "--ignore-missing-imports"]
        command += [str(p.relative_to(work)) for p in files]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
        shutil.rmtree(store, ignore_errors=True)
        part = store / "part"
        part.mkdir(parents=True)
        for path in [*work.glob(f"*{SUFFIX}"), *package.rglob(f"*{SUFFIX}")]:
            shutil.move(path, part / path.relative_to(work).as_posix().replace("/", "."))
        part.rename(store / digest())
    return None


def main() -> int:
    """Compiles for this environment, unless that was done; where it cannot be, it says so."""
    problem = None if (STORE / digest()).is_dir() else compile_into(STORE)
    if problem is None:
        print(f"compiled into {STORE}")
    else:
        print(f"not compiled, the auditor runs as plain Python: {problem}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
