"""Executables that scripts call: `nvidia-smi`, `lrzip`, `pyminify`, as small programs on PATH."""

import os
import shutil
import sys
from pathlib import Path

_SMI = """\
#!/bin/sh
cat <<'TABLE'
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 570.00.00              Driver Version: 570.00.00      CUDA Version: 12.8     |
|   0  NVIDIA H100 80GB HBM3          On  |   00000000:00:00.0 Off |                    0 |
+-----------------------------------------------------------------------------------------+
TABLE
"""

# lrzip's command line on LZMA of the standard library: FILE -> FILE.lrz, `-d` back, `-o` elsewhere.
_LRZIP = """\
import lzma, pathlib, sys
arguments = sys.argv[1:]
back = any(a.startswith("-") and not a.startswith("--") and "d" in a[1:] for a in arguments)
back = back or "--decompress" in arguments or sys.argv[0].endswith("lrunzip")
values = {"-o", "--outfile", "-O", "--outdir", "-S", "--suffix", "-w", "--window", "-L", "--level",
    "-p", "--threads", "-N", "--nice-level", "-m", "--maxram"}
files, output, skip = [], None, None
for argument in arguments:
    if skip:
        output, skip = (argument if skip in ("-o", "--outfile") else output), None
    elif argument in values:
        skip = argument
    elif argument.startswith("--outfile="):
        output = argument.split("=", 1)[1]
    elif not argument.startswith("-") or argument == "-":
        files.append(argument)
act = lzma.decompress if back else lambda data: lzma.compress(data, preset=0)
if not files or files == ["-"]:
    sys.stdout.buffer.write(act(sys.stdin.buffer.read()))
for name in files:
    if name != "-":
        there = name.removesuffix(".lrz") if back else name + ".lrz"
        pathlib.Path(output or there).write_bytes(act(pathlib.Path(name).read_bytes()))
"""

# python-minifier's command line: the tree of a script, unparsed, without comments.
_PYMINIFY = """\
import ast, pathlib, sys
arguments = sys.argv[1:]
files = [a for a in arguments if not a.startswith("-")]
output = None
if "--output" in arguments or "-o" in arguments:
    at = arguments.index("--output" if "--output" in arguments else "-o")
    output = arguments[at + 1]
    files = [f for f in files if f != output]
text = sys.stdin.read() if not files or "-" in arguments else pathlib.Path(files[0]).read_text()
try:
    small = ast.unparse(ast.parse(text))
except SyntaxError:
    small = text
target = output or (files[0] if "--in-place" in arguments else None)
pathlib.Path(target).write_text(small) if target else sys.stdout.write(small)
"""


def install(folder: Path) -> None:
    """Writes the programs to `folder` and puts it in front of PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "nvidia-smi", _SMI)
    start = f"#!{sys.executable} -SsPB\n"
    for name, body in (("lrzip", _LRZIP), ("lrunzip", _LRZIP), ("pyminify", _PYMINIFY)):
        if shutil.which(name) is None:
            _write(folder / name, start + body)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
