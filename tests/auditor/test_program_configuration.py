"""Which variables the submitted run had, as its README and shell scripts tell."""

import pytest

from auditor.evidence.figures import Claims, JsonClaims, LogClaims, Setting
from auditor.finding import Evidence
from auditor.program.configuration import read_configuration
from auditor.submission.model import SourceFile, Submission

MAIN = SourceFile.of("train_gpt.py", b"")
ONLY_WITHOUT = "CACHE=0 torchrun train_gpt.py\n"
WITHOUT_AND_WITH = "CACHE=0 \\\n  torchrun train_gpt.py\nSEED=1 \\\n  torchrun train_gpt.py\n"


def settings(name: str, text: str) -> dict[str, str]:
    file = SourceFile.of(name, text.encode())
    found = read_configuration(
        Submission(MAIN, {MAIN.path: MAIN, name: file}, is_folder=True), Claims()
    )
    return {name: setting.value for name, setting in found.settings.items()}


@pytest.mark.parametrize(
    ("commands", "cache"),
    [
        (ONLY_WITHOUT, "0"),
        (ONLY_WITHOUT + ONLY_WITHOUT, "0"),
        (WITHOUT_AND_WITH, None),
        ("CACHE=0 torchrun train_gpt.py\nCACHE=1 torchrun train_gpt.py\n", "1"),
        ("torchrun train_gpt.py\nCACHE=1 torchrun train_gpt.py\n", "1"),
        ("export CACHE=0\ntorchrun train_gpt.py\n", "0"),
        ("# CACHE=1 torchrun train_gpt.py\nCACHE=0 torchrun train_gpt.py\n", "0"),
    ],
)
def test_what_one_of_several_commands_runs_did_run(commands: str, cache: str | None) -> None:
    assert settings("run.sh", commands).get("CACHE") == cache
    assert settings("README.md", f"```bash\n{commands}```\n").get("CACHE") == cache


def test_commands_of_separate_fences_are_seen_together() -> None:
    fences = "".join(f"```\n{line}\n```\n" for line in ["CACHE=0 torchrun a.py", "torchrun a.py"])
    assert "CACHE" not in settings("README.md", fences)


def test_a_fence_of_assignments_alone_is_a_configuration() -> None:
    assert settings("README.md", "```\nSEED=7\nCACHE=1  # on\n```\n")["CACHE"] == "1"
    assert "CACHE" not in settings("README.md", "```python\nif x:\nCACHE=1\n```\n")


def test_the_devices_that_are_named_are_the_launchers() -> None:
    described = JsonClaims(
        "submission.json", (), hardware=Evidence("submission.json", 3, "1x A100")
    )
    found = read_configuration(Submission(MAIN, {MAIN.path: MAIN}), Claims(described))
    assert found.environment["WORLD_SIZE"] == "1"
    assert read_configuration(Submission(MAIN, {}), Claims()).environment["WORLD_SIZE"] == "8"


def test_an_annotation_in_logged_source_is_no_setting() -> None:
    dump = {"rank": "int,", "seq_len": "int = 7", "order": "7", "kind": "float8"}
    logged = {name: Setting(value, Evidence("a.log", 1, value)) for name, value in dump.items()}
    claims = Claims(logs=(LogClaims("a.log", "", "utf-8", settings=logged),))
    log = SourceFile.of("a.log", b"\n")
    found = read_configuration(Submission(MAIN, {MAIN.path: MAIN, "a.log": log}), claims)
    assert {"ORDER", "KIND"} == found.environment.keys() - {"WORLD_SIZE"}
