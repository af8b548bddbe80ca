"""Compiled modules are used exactly where they were made from the present source."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from auditor import compilation, compiled
from auditor.compiled import ROOT, SWITCH, digest, use

USES = """
import sys
from pathlib import Path
from auditor.compiled import use
used = use(Path(sys.argv[1]))
from auditor.program import steps
print(used, steps.__file__.endswith(".py"), steps.Name("x") == steps.Name("x"))
"""


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    copy = tmp_path / "auditor"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.parametrize("name", ["syntax.py", "program/index.py", "program/dataflow/marks.py"])
def test_a_changed_line_is_another_digest(source: Path, name: str) -> None:
    assert digest(source) == digest()
    with (source / name).open("a", encoding="utf-8") as text:
        text.write("# changed\n")
    assert digest(source) != digest()


def test_what_was_compiled_from_another_source_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    finders = list(sys.meta_path)
    monkeypatch.setattr(sys, "meta_path", list(finders))
    assert not use(tmp_path / "nowhere")
    (tmp_path / ("0" * 32)).mkdir()
    assert not use(tmp_path)
    (tmp_path / digest()).mkdir()
    monkeypatch.setenv(SWITCH, "1")
    assert not use(tmp_path)
    assert sys.meta_path == finders
    monkeypatch.delenv(SWITCH)
    assert use(tmp_path)
    assert sys.meta_path[1:] == finders
    assert sys.meta_path[0].find_spec("auditor.syntax", None) is None  # the folder is empty


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_module_is_compiled_and_loaded(tmp_path: Path) -> None:
    pytest.importorskip("mypyc")
    pytest.importorskip("setuptools")
    store = tmp_path / "compiled"
    (store / "older").mkdir(parents=True)
    assert compilation.compile_into(store, ["program/steps.py"]) is None
    assert [path.name for path in store.iterdir()] == [digest()]
    command = [sys.executable, "-c", USES, str(store)]
    environment = {name: value for name, value in os.environ.items() if name != SWITCH}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["True", "False", "True"]


def test_where_it_cannot_be_done_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compilation, "STORE", tmp_path)
    monkeypatch.setattr(compilation, "find_spec", lambda _: None)
    assert compilation.main() == 0
    assert "plain Python: mypyc or setuptools is not installed" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert compiled.STORE.is_relative_to(sys.prefix)
