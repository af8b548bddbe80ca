"""A validation shard under the name of a training shard, as a README or a script makes it."""

import pytest

from auditor.evidence.renamed_shards import renamed_shards
from auditor.submission.model import SourceFile, Submission


def found(name: str, text: str) -> list[int]:
    main = SourceFile.of("train_gpt.py", b"")
    files = {"train_gpt.py": main, name: SourceFile.of(name, text.encode())}
    return [evidence.line for evidence in renamed_shards(Submission(main, files))]


@pytest.mark.parametrize("name", ["README.md", "run.sh"])
@pytest.mark.parametrize(
    "command",
    [
        "ln -s /data/fineweb_val_000000.bin /only/fineweb_train_000000.bin",
        "$ cp -r -v d/fineweb_val_*.bin e/fineweb_train_000000.bin",
    ],
)
def test_a_validation_shard_becomes_a_training_shard(name: str, command: str) -> None:
    assert found(name, f"# how it was run\n{command}\n") == [2]


@pytest.mark.parametrize(
    "text",
    [
        "ln -s /data/fineweb_val_000000.bin /other/fineweb_val_000000.bin",
        "ln -s /data/fineweb_train_000000.bin /other/fineweb_train_000001.bin",
        "ln -s /data/fineweb_train_000000.bin /other/fineweb_val_000000.bin",
        "The file fineweb_val_000000.bin is not fineweb_train_000000.bin",
    ],
)
def test_other_links_are_left_alone(text: str) -> None:
    assert found("README.md", text) == []


def test_only_readme_and_scripts_are_read() -> None:
    assert found("train.log", "ln -s a/fineweb_val_0.bin b/fineweb_train_0.bin") == []
