"""Proof that anybody can repeat: the script, what was done to it, and the numbers that came out."""

import base64
import hashlib
import json
import platform
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import AuditError

SCHEMA = 1
_FILE_LIMIT = 16_000_000  # bytes of one unpacked file
_RUNTIME = ("torch", "python")


@dataclass(frozen=True)
class Witness:
    """One measurement. `files` are the script's files, packed; `task` is everything that the
    numbers depend on; `answer` is what the sandboxed process said. `probe` is `mass` for a scorer
    on its own, and `run:` with the probe's name for a run of the whole script."""

    path: str
    files: Mapping[str, str]
    task: Mapping[str, Any]
    answer: Mapping[str, Any]
    probe: str = "mass"

    def to_json(self) -> dict[str, Any]:
        """The file that `auditor replay` reads."""
        return {
            "schema": SCHEMA,
            "probe": self.probe,
            "script": self.path,
            "sha256": _hashes(self.files),
            "machine": platform.machine(),
            "files": dict(self.files),
            "task": dict(self.task),
            "answer": dict(self.answer),
            "replay": "auditor replay WITNESS.json",
        }


@dataclass(frozen=True)
class Replay:
    """Whether a witness was reproduced bit for bit, and if not, why."""

    script: str
    reproduced: bool
    lines: tuple[str, ...]


def pack_files(files: Mapping[str, bytes]) -> dict[str, str]:
    """Files as zlib inside base64, so that the witness is one JSON file."""
    return {p: base64.b64encode(zlib.compress(data, 9)).decode() for p, data in files.items()}


def unpack_files(packed: Mapping[str, str]) -> dict[str, bytes]:
    """The files of a witness. Raises `AuditError` for damaged or oversized ones."""
    files = {}
    for path, text in packed.items():
        if path.startswith("/") or ".." in Path(path).parts:
            raise AuditError(f"{path}: a witness holds relative paths only")
        inflate = zlib.decompressobj()
        try:
            files[path] = inflate.decompress(base64.b64decode(text, validate=True), _FILE_LIMIT)
        except (ValueError, zlib.error) as error:
            raise AuditError(f"{path}: damaged in the witness ({error})") from None
        if not inflate.eof:
            raise AuditError(f"{path}: damaged in the witness, or over {_FILE_LIMIT:,} bytes")
    return files


def write_witness(witness: Witness, path: Path) -> None:
    """Writes one JSON file."""
    path.write_text(json.dumps(witness.to_json(), indent=1) + "\n", encoding="utf-8")


def read_witness(path: Path) -> Witness:
    """Reads one JSON file. Raises `AuditError` where it is no witness or was changed."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        probe = str(held["probe"])
        if held["schema"] != SCHEMA or not (probe == "mass" or probe.startswith("run:")):
            raise AuditError(f"{path}: not a witness of schema {SCHEMA} that this version replays")
        witness = Witness(held["script"], held["files"], held["task"], held["answer"], probe)
        whole = _hashes(witness.files) == held["sha256"]
    except OSError as error:
        raise AuditError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"{path}: not a witness ({error!r})") from None
    if not whole:
        raise AuditError(f"{path}: the script inside does not have the hash it is filed under")
    return witness


def replay(path: Path, script: bytes | None = None) -> Replay:
    """Runs a witness again in the sandbox and compares every number bit for bit.

    With `script`, also says whether the witness is about that script. Raises `AuditError` for a
    file that is no witness and `SandboxUnavailable` where nothing can be isolated.
    """
    witness = read_witness(path)
    files = unpack_files(witness.files)
    problems = []
    if script is not None and script not in files.values():
        problems.append("the script differs from the one in the witness")
    answer = _repeat(witness, files)
    differing = {k for k in witness.answer.keys() | answer.keys() if k not in _RUNTIME}
    differing = {k for k in differing if witness.answer.get(k) != answer.get(k)}
    if differing:
        named = ", ".join(sorted(name or "the run itself" for name in differing))
        problems.append(f"not reproduced: {named} differ")
        problems += [
            f"{name} is {answer.get(name)} here and was {witness.answer.get(name)}"
            for name in _RUNTIME
            if witness.answer.get(name) != answer.get(name)
        ]
    if problems:
        return Replay(witness.path, False, tuple(problems))
    return Replay(witness.path, True, (f"reproduced bit for bit: {_losses(answer):,} losses",))


def _repeat(witness: Witness, files: Mapping[str, bytes]) -> dict[str, Any]:
    # The probes make witnesses, so they import this module.
    from auditor.dynamic.mass import run_task
    from auditor.dynamic.probes.proof import repeat

    return (run_task if witness.probe == "mass" else repeat)(files, witness.task)


def _losses(answer: Mapping[str, Any]) -> int:
    positions = sum(len(position["nll"]) for position in answer.get("positions", ()))
    variants = [told for told in answer.values() if isinstance(told, dict)]
    return positions + sum(len(told["losses"]) for told in variants)


def _hashes(packed: Mapping[str, str]) -> dict[str, str]:
    return {p: hashlib.sha256(d).hexdigest() for p, d in unpack_files(packed).items()}
