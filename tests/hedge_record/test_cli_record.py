"""The command line: help, exit codes, one clear line for every bad input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hedge_record.cli import build_parser, main
from hedge_record.commands import bundle_data_paths
from hedge_record.data.corpus import Corpus, prepare_folder
from hedge_record.data.folder import DataFolder
from hedge_record.data.shards import write_shard
from hedge_record.progress import SilentReporter

SHOW_HELP = """
import sys
from hedge_record.cli import main
try:
    main(["--help"])
except SystemExit:
    print("torch" in sys.modules)
"""
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    corpus = Corpus("t", {}, ("to be or not to be that is the question\n" * 50,), ("x y " * 900,))
    return prepare_folder(corpus, tmp_path / "data", 300, reporter=SilentReporter())


def fails_with(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command ends with."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def run_tiny(data: Path, out: Path) -> tuple[str, ...]:
    work = str(out.parent / "runs")
    return "run", "--preset", "tiny", "--data", str(data), "--out", str(out), "--work-root", work


def test_help_answers_at_once_and_names_every_command() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SHOW_HELP],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "100"},
    )
    for word in ("run", "evaluate", "bundle", "data", "torchrun", "examples"):
        assert word in result.stdout
    assert result.stdout.endswith("False\n")


@pytest.mark.parametrize(
    "arguments",
    [(), ("run", "--preset", "unknown"), ("run", "--text", "a", "--data", "b"), ("data",)],
)
def test_usage_errors_exit_with_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args(arguments)
    assert stop.value.code == 2


def test_bad_input_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], data: DataFolder, tmp_path: Path
) -> None:
    out = tmp_path / "record"
    assert "absent: no such folder" in fails_with(capsys, *run_tiny(tmp_path / "absent", out))
    assert "300 pieces, but the model has 384" in fails_with(capsys, *run_tiny(data.path, out))
    (tmp_path / "small.txt").write_text("too small")
    error = fails_with(capsys, "run", "--text", str(tmp_path / "small.txt"), "--out", str(out))
    assert "small.txt: 9 characters are too few" in error
    write_shard(data.path / "fineweb_val_000000.bin", [5] * 1000)
    assert "1,000 validation tokens are too few" in fails_with(capsys, *run_tiny(data.path, out))
    assert "submission.json: cannot be read" in fails_with(capsys, "evaluate", str(tmp_path))


def test_a_folder_that_cannot_be_written_is_found_before_training(
    capsys: pytest.CaptureFixture[str], data: DataFolder, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    error = fails_with(capsys, *run_tiny(data.path, tmp_path / "file" / "record"))
    assert "cannot be written to" in error


def test_missing_and_damaged_shards_are_named(
    capsys: pytest.CaptureFixture[str], data: DataFolder, tmp_path: Path
) -> None:
    shard = data.path / "fineweb_val_000000.bin"
    whole = shard.read_bytes()
    shard.unlink()
    assert "no shard fineweb_val_*.bin" in fails_with(capsys, *run_tiny(data.path, tmp_path / "r"))
    shard.write_bytes(whole)
    write_shard(data.path / "fineweb_train_000000.bin", [383, 384])
    (data.path / "t.model").unlink(missing_ok=True)
    (data.path / "t_300_bpe.model").unlink()
    assert "exactly one tokenizer" in fails_with(capsys, *run_tiny(data.path, tmp_path / "r"))


def test_bundle_writes_a_script_that_parses(tmp_path: Path, data: DataFolder) -> None:
    assert main(["bundle", str(tmp_path / "b"), "--preset", "as-submitted"]) == 0
    source = (tmp_path / "b" / "train_gpt.py").read_text(encoding="utf-8")
    compile(source, "train_gpt.py", "exec")
    assert '"./data/fineweb10B_sp1024"' in source.replace("'", '"')
    assert bundle_data_paths(data) == ("./data/data", "./data/data/t_300_bpe.model")


def test_an_installation_without_torch_says_what_to_install() -> None:
    hide_torch = "import sys; sys.modules['torch'] = None; from hedge_record.cli import main"
    result = subprocess.run(
        [sys.executable, "-c", f"{hide_torch}; sys.exit(main(['run', '--preset', 'tiny']))"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    mend = "pip install 'parameter-golf-proof[record]'"
    assert result.stderr == f"error: torch is not installed: {mend}\n"
