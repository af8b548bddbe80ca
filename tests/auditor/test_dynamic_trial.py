"""A trial: a script on given data, with what every line had cost; nothing else of the machine."""

import json
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.dynamic.trial import Trial, run_trial
from auditor.errors import AuditError

SCRIPT = """\
import os, pathlib, torch
print("start")
total = torch.zeros(())
x = torch.randn(600, 600)
for _ in range(40):
    total += (x @ x).sum()
block = torch.ones(40_000_000)
print("worked", flush=True)
print(os.environ["WORD"], pathlib.Path("/data/words.txt").read_text())
print(pathlib.Path("beside.txt").read_text(), torch.cuda.is_available())
pathlib.Path("left.bin").write_bytes(b"\\x00left")
try:
    pathlib.Path("/data/words.txt").write_text("changed")
except OSError:
    print("read-only")
if os.environ.get("FAIL"):
    raise ValueError("no more")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train_gpt.py"
    path.write_text(SCRIPT)
    (tmp_path / "beside.txt").write_text("near")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "words.txt").write_text("tokens")
    return path


def trial(script: Path, **environment: str) -> Trial:
    folder = script.parent
    return Trial(
        script,
        data=folder / "data",
        files=[folder / "beside.txt"],
        environment={"WORD": "given", **environment},
        keep=["left.bin", "absent.bin"],
        seconds=100,
    )


def test_every_line_comes_with_what_it_had_cost(script: Path) -> None:
    outcome = run_trial(trial(script))
    assert outcome.problem is None
    texts = [text for _, _, text in outcome.lines]
    assert texts == ["start", "worked", "given tokens", "near True", "read-only"]
    cpu = [seconds for seconds, _, _ in outcome.lines]
    peak = [memory for _, memory, _ in outcome.lines]
    assert cpu == sorted(cpu)
    assert cpu[1] > cpu[0]
    assert peak[1] - peak[0] > 100_000_000  # the block has 160 MB
    assert outcome.kept == {"left.bin": b"\0left"}


def test_a_script_that_fails_keeps_its_lines(script: Path) -> None:
    outcome = run_trial(trial(script, FAIL="1"))
    assert outcome.problem == "ValueError: no more"
    assert outcome.lines[-1][2] == "read-only"


def test_files_share_one_folder(script: Path) -> None:
    with pytest.raises(AuditError, match="a plain name of its own"):
        run_trial(Trial(script, files=[script]))
    with pytest.raises(AuditError, match="no such folder"):
        run_trial(Trial(script, data=script.parent / "absent"))


def test_the_command_prints_one_object(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = script.parent / "out"
    arguments = ["trial", str(script), "--data", str(script.parent / "data"), "--set", "WORD=w"]
    arguments += ["--file", str(script.parent / "beside.txt"), "--keep", "left.bin"]
    assert main([*arguments, "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["problem"] is None
    assert printed["lines"][2][2] == "w tokens"
    assert (out / "left.bin").read_bytes() == b"\0left"
