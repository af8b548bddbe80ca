"""Runs one script on given data on the virtual GPU, in the sandbox, and says what it cost.

A rehearsal shrinks a submission to data of its own and judges it; a trial changes nothing: whoever
asks names the data, the environment and the files. Whatever comes back was in the hands of the
script: figures of a script that is not trusted are evidence, not truth.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import auditor
from auditor.dynamic import sandbox
from auditor.dynamic.limits import MIB
from auditor.dynamic.rehearsal import LIMITS, PACKAGE, read_frames
from auditor.errors import AuditError

FOLDER = "trial"  # where the script runs, below the work folder
DATA = "/data"  # where the data folder is mounted


@dataclass(frozen=True)
class Trial:
    """What is to be run. `data` is shown read-only under `/data`; `files` lie beside the script,
    and those named in `keep` come back."""

    script: Path
    data: Path | None = None
    files: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    keep: Sequence[str] = ()
    seconds: float = 600.0


@dataclass(frozen=True)
class Outcome:
    """How it ended: `problem` is None where the script ended by itself with exit code 0.

    `lines` are what it printed: CPU seconds and peak resident bytes by then, and the text.
    """

    problem: str | None
    lines: Sequence[tuple[float, int, str]]
    kept: Mapping[str, bytes]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Everything but the files."""
        return {"problem": self.problem, "seconds": self.seconds, "lines": list(self.lines)}


def run_trial(trial: Trial) -> Outcome:
    """Runs it.

    Raises `AuditError` for a file that cannot be read, and `SandboxUnavailable` where nothing can
    be isolated; whatever the script does becomes a `problem`.
    """
    names = [path.name for path in (trial.script, *trial.files)]
    if len(set(names)) < len(names) or any("/" in name for name in trial.keep):
        raise AuditError("files of a trial lie in one folder: give each a plain name of its own")
    try:
        inputs = {f"{FOLDER}/{p.name}": p.read_bytes() for p in (trial.script, *trial.files)}
    except OSError as error:
        raise AuditError(f"{error.filename}: {error.strerror}") from None
    mounts = {f"{PACKAGE}/auditor": Path(auditor.__file__).parent}
    if trial.data is not None:
        if not trial.data.is_dir():
            raise AuditError(f"{trial.data}: no such folder")
        mounts[DATA] = trial.data.resolve()
    job = {
        "script": f"{FOLDER}/{trial.script.name}",
        "folder": FOLDER,
        "capture": {"auditor.dynamic.capture.timing": {"keep": list(trial.keep)}},
        "seconds": trial.seconds,
    }
    box = sandbox.Box(
        inputs={**inputs, "job.json": json.dumps(job).encode()},
        mounts=mounts,
        environment={
            **trial.environment,
            "PYTHONPATH": PACKAGE,
            "HOME": "/tmp",
            "PYTHONUNBUFFERED": "1",
        },
    )
    limits = replace(
        LIMITS, seconds=trial.seconds, cpu_seconds=int(2 * trial.seconds), memory=16384 * MIB
    )
    done = sandbox.run([*sandbox.python(), "-m", "auditor.dynamic.device.main"], box, limits)
    return _outcome(done)


def _outcome(done: sandbox.Completed) -> Outcome:
    found = read_frames(done.result).get("", {})
    try:
        state = json.loads(found["exit.json"])
        lines = [(float(c), int(p), str(t)) for c, p, t in json.loads(found["timing.json"])]
        problem = str(state["error"]) if state["code"] else None
    except (KeyError, ValueError, TypeError):
        return Outcome(done.complaint(), (), {}, done.seconds)
    prefix = "kept:"
    kept = {n.removeprefix(prefix): data for n, data in found.items() if n.startswith(prefix)}
    return Outcome(done.complaint() if done.stopped else problem, lines, kept, done.seconds)
