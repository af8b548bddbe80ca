"""From a user's text to an audited record folder, by the commands that a user types."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = ["".join(letters) for letters in product("bglm", "aeiou", "nt")]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
REPOSITORY = Path(__file__).resolve().parents[2]
FINAL_LINE = "final_int5_ttt_exact "


def run_module(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


def small_text() -> str:
    """About 64,000 characters in which a word depends on the two before it."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(3, (16000,), generator=generator).tolist()
    words, a, b = [], 1, 2
    for index, shift in enumerate(noise):
        a, b = b, (3 * a + 5 * b + shift) % len(WORDS)
        words.append(WORDS[b] + (".\n" if index % 9 == 8 else " "))
    return "".join(words)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `hedge-record run` has been run with two seeds."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "small.txt").write_text(small_text(), encoding="utf-8")
    result = run_module(
        folder,
        *("hedge_record.cli", "run", "--preset", "tiny", "--text", "small.txt"),
        *("--seeds", "1337,42", "--out", "record", "--author", "A. Writer"),
        *("--github-id", "writer"),
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def submission(home: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((home / "record" / "submission.json").read_text())
    return content


def exact_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith(FINAL_LINE)]
    assert len(lines) == 1
    return lines[0]


def test_the_folder_is_whole_and_nothing_else_is_left(home: Path) -> None:
    assert {path.name for path in (home / "record").iterdir()} == {
        "README.md",
        "chunk_bpb.png",
        "final_model.int5.ptz",
        "loss_curve.png",
        "requirements.txt",
        "submission.json",
        "train_gpt.py",
        "train_seed1337.log",
        "train_seed42.log",
    }
    assert list((home / "runs").iterdir()) == []


def test_claims_are_those_of_logs_and_files(home: Path, submission: dict[str, Any]) -> None:
    record = home / "record"
    code, model = ((record / n).stat().st_size for n in ("train_gpt.py", "final_model.int5.ptz"))
    for seed, entry in submission["seed_results"].items():
        log = (record / f"train_seed{seed}.log").read_text()
        assert f"val_bpb:{entry['val_bpb']:.8f}" in exact_line(log)
        assert f"Code size: {code} bytes" in log
        assert f"Total submission size int5+zstd: {entry['bytes_total']} bytes" in log
        assert sum(entry["parts_bpb"].values()) == pytest.approx(entry["val_bpb"], abs=1e-9)
    assert submission["seed_results"]["1337"]["bytes_total"] == code + model
    scores = [entry["val_bpb"] for entry in submission["seed_results"].values()]
    assert len(set(scores)) == 2
    assert submission["val_bpb"] == pytest.approx(sum(scores) / 2)
    assert submission["seeds"] == [1337, 42]
    assert (submission["author"], submission["github_id"]) == ("A. Writer", "writer")
    readme = (record / "README.md").read_text()
    assert f"**val_bpb {submission['val_bpb']:.4f}**" in readme
    size = f"| code and artifact within the limit | yes | {submission['bytes_total']:,} bytes |"
    assert size in readme
    assert f"| 8xH100 | **no** | {submission['hardware']} |" in readme
    assert "| three seeds | **no** | 2 here |" in readme
    assert "| what is scored sums to one over the vocabulary | yes |" in readme


def test_the_mixer_gains_on_the_model_alone(submission: dict[str, Any]) -> None:
    for entry in submission["seed_results"].values():
        assert entry["parts_bpb"]["M"] < 0


def test_the_one_file_script_gives_the_same_score_and_artifact(home: Path) -> None:
    folder = home / "alone"
    folder.mkdir()
    (folder / "data").symlink_to(home / "data")
    script = folder / "train_gpt.py"
    script.write_bytes((home / "record" / "train_gpt.py").read_bytes())
    # Outside the repository, so that nothing but the file itself can be imported.
    result = subprocess.run(
        [sys.executable, "-P", "train_gpt.py"],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    log = (home / "record" / "train_seed1337.log").read_text()
    assert exact_line(result.stdout) == exact_line(log)
    artifact = (folder / "final_model.int5.ptz").read_bytes()
    assert artifact == (home / "record" / "final_model.int5.ptz").read_bytes()
    assert (folder / "logs" / "train_seed1337.log").read_text() == result.stdout


def test_evaluate_reproduces_the_claim(home: Path) -> None:
    result = run_module(home, "hedge_record.cli", "evaluate", "record")
    assert result.returncode == 0, result.stderr
    assert "difference          +0.0e+00 bpb" in result.stdout


def test_the_auditor_finds_it_valid_and_ready_but_for_the_hardware(home: Path) -> None:
    result = run_module(home, "auditor.cli", "audit", "record", "--format", "json")
    assert result.stderr == ""
    audit = json.loads(result.stdout)
    assert audit["validity"] == "valid"
    failed = {item["rule"] for item in audit["findings"] if item["status"] == "fail"}
    assert failed <= {"F2"}
    assert result.returncode == 0


def test_another_record_is_not_overwritten(home: Path, submission: dict[str, Any]) -> None:
    (home / "other.txt").write_text(small_text()[::-1], encoding="utf-8")
    result = run_module(
        home,
        *("hedge_record.cli", "run", "--preset", "tiny", "--text", "other.txt"),
        *("--out", "record"),
    )
    assert result.returncode == 2
    assert "record: holds another record" in result.stderr
    assert json.loads((home / "record" / "submission.json").read_text()) == submission
