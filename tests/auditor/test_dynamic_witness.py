"""Witnesses: written, read, refused when changed, and replayed bit for bit."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from auditor import demo
from auditor.dynamic import sandbox
from auditor.dynamic.sandbox import SandboxUnavailable
from auditor.dynamic.witness import (
    Witness,
    pack_files,
    read_witness,
    replay,
    unpack_files,
    write_witness,
)
from auditor.errors import AuditError
from auditor.finding import Basis, Finding, Status, Validity

FILES = {"script.py": b"x = 1\n", "helpers/mixer.py": b"y = 2\n"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A witness on disk that nobody replays."""
    written = tmp_path / "witness.json"
    write_witness(Witness("train_gpt.py", pack_files(FILES), {"a": 1}, {"b": [0.1, 2e-9]}), written)
    return written


def edited(path: Path, **changes: Any) -> Path:
    """The same file with other values at its top level."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_what_is_written_is_read_back(path: Path) -> None:
    witness = read_witness(path)
    assert unpack_files(witness.files) == FILES
    assert witness.answer == {"b": [0.1, 2e-9]}
    assert json.loads(path.read_text())["replay"].startswith("auditor replay")


def test_a_changed_script_is_refused(path: Path) -> None:
    other = pack_files({**FILES, "script.py": b"x = 2\n"})
    with pytest.raises(AuditError, match="hash"):
        read_witness(edited(path, files=other))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schema": 9}, "schema"),
        ({"files": {"../up.py": ""}}, "relative"),
        ({"files": {"/etc/x": ""}}, "relative"),
        ({"files": {"a.py": "no base64!"}}, "damaged"),
        ({"files": {"a.py": base64.b64encode(zlib.compress(bytes(17_000_000))).decode()}}, "bytes"),
        ({"files": None}, "not a witness"),
    ],
)
def test_damaged_or_hostile_files_get_one_clear_error(
    path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(AuditError, match=complaint):
        read_witness(edited(path, **changes))


def test_no_file_and_no_json_are_told(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="No such file"):
        read_witness(tmp_path / "missing.json")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(AuditError, match="not a witness"):
        read_witness(tmp_path / "text.json")


@pytest.fixture(scope="module")
def failure() -> Finding:
    """The measured failure of the demo, from a whole audit."""
    sandbox.require.cache_clear()
    try:
        sandbox.require()
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    audit = demo.run()
    assert audit.validity is Validity.INVALID
    (found,) = [f for f in audit.findings if f.status is Status.FAIL and f.basis is Basis.DYNAMIC]
    return found


def test_the_finding_carries_a_witness_that_replays_bit_for_bit(
    failure: Finding, tmp_path: Path
) -> None:
    assert failure.witness is not None
    path = tmp_path / "witness.json"
    path.write_text(json.dumps(failure.to_json()["witness"]))
    again = replay(path, demo.submission().main.data)
    assert again.reproduced, again.lines
    assert again.lines == ("reproduced bit for bit: 512 losses",)


def test_one_changed_digit_and_another_script_are_noticed(failure: Finding, tmp_path: Path) -> None:
    held = json.loads(json.dumps(failure.to_json()["witness"]))
    held["answer"]["positions"][0]["nll"][0] += 1e-9
    held["answer"]["torch"] = "0.1"
    path = tmp_path / "witness.json"
    path.write_text(json.dumps(held))
    result = replay(path, b"another script")
    assert not result.reproduced
    assert "script differs" in result.lines[0]
    assert "positions differ" in result.lines[1]
    assert any("torch is" in line and "0.1" in line for line in result.lines)
