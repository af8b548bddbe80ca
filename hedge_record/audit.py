"""Has a record folder audited: runs the `auditor` command line, never its code."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPORT_NAME = "report.html"
# The auditor's exit codes; 2 means that it could not audit.
VERDICTS = {0: "valid", 1: "invalid", 3: "undecided"}


def audit_folder(folder: Path) -> Iterator[str]:
    """Yields lines to print: the verdict, why a dynamic audit was refused, where the report is."""
    code, output, reason = _run_auditor(folder, "--dynamic")
    if code not in VERDICTS:
        yield f"dynamic audit refused: {reason or f'exit code {code}'}; static audit alone"
        code, output, reason = _run_auditor(folder)
    if code not in VERDICTS:
        yield f"audit failed: {reason or f'exit code {code}'}"
        return
    yield f"audit: {VERDICTS[code]}"
    yield from output.splitlines()


def _run_auditor(folder: Path, *options: str) -> tuple[int, str, str]:
    """The auditor's exit code, its output, and the last line of its errors."""
    command = [sys.executable, "-m", "auditor.cli", "audit", str(folder)]
    command += [*options, "--format", "html", "--output", str(folder / REPORT_NAME)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    errors = result.stderr.strip().splitlines()
    return result.returncode, result.stdout, errors[-1] if errors else ""
