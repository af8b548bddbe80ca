"""The one-file script: what is in it, what is not, and that environment variables reach it."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hedge_record
from hedge_record.bundle import (
    SourceModule,
    build_bundle,
    check_names,
    merge_imports,
    modules_in_order,
    pack_source,
    read_module,
)
from hedge_record.config import PRESETS, RecordConfig, tiny
from hedge_record.environment import config_expression, environment_name, environment_of
from hedge_record.errors import RecordError

PACKAGE_FOLDER = Path(hedge_record.__file__).parent
ALLOWED_PACKAGES = {"numpy", "sentencepiece", "torch", "zstandard"}
NETWORK_MODULES = {"http", "urllib", "socket", "ssl", "subprocess", "tarfile"}


@pytest.fixture(scope="module")
def source() -> str:
    return build_bundle(tiny(), "./data/somewhere", "./data/somewhere/t.model")


def config_in_bundle(folder: Path, source: str, **environment: str) -> dict[str, Any]:
    """The CONFIG that the script builds under the given environment variables."""
    (folder / "train_gpt.py").write_text(source, encoding="utf-8")
    code = (
        "import runpy, json; names = runpy.run_path('train_gpt.py');"
        "print(json.dumps(names['CONFIG'].to_json()))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    content: dict[str, Any] = json.loads(output)
    return content


def test_imports_are_those_that_training_and_evaluation_need(source: str) -> None:
    roots = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(str(node.module).split(".")[0])
    assert {"torch", "sentencepiece", "zstandard"} <= roots
    # FlashAttention is used where it is installed.
    foreign = roots - set(sys.stdlib_module_names) - {"flash_attn_interface"}
    assert foreign <= ALLOWED_PACKAGES
    assert roots & NETWORK_MODULES == set()


def test_docstrings_go_and_comments_stay(source: str) -> None:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            assert ast.get_docstring(node) is None, node.name
    assert "# Compiling pays on CUDA alone" in source


def test_presets_are_baked_in_exactly(tmp_path: Path) -> None:
    for preset in PRESETS.values():
        config = replace(preset(), seed=7)
        namespace: dict[str, Any] = {"os": os}
        exec("from hedge_record.config import *", namespace)
        assert eval(config_expression(config), namespace) == config
    source = build_bundle(tiny(), "./data/x", "./data/x/t.model")
    assert config_in_bundle(tmp_path, source) == json.loads(json.dumps(tiny().to_json()))


def test_environment_variables_override_the_preset(source: str, tmp_path: Path) -> None:
    config = config_in_bundle(
        tmp_path,
        source,
        SEED="42",
        ITERATIONS="5",
        MODEL_DIM="96",
        VE_LAYERS="1,3",
        MAX_WALLCLOCK_SECONDS="2.5",
        TTT_LR="1e-3",
        LN_SCALE="0",
        MIXER="off",
    )
    assert config["seed"] == 42
    assert config["training"]["iterations"] == 5
    assert config["training"]["seconds"] == 2.5
    assert config["model"]["width"] == 96
    assert config["model"]["value_embedding_layers"] == [1, 3]
    assert config["model"]["depth_scale"] is False
    assert config["evaluation"]["ttt_lr"] == 1e-3
    assert config["evaluation"]["mixer"] == "off"


def test_the_switches_of_the_original_work(source: str, tmp_path: Path) -> None:
    config = config_in_bundle(
        tmp_path,
        source,
        USE_MIXER="0",
        USE_POLYAK="0",
        ADAPTIVE_LR="0",
        SOFT_ROUND_QAT="1",
        BETA1="0.8",
        MUON_WD="0.1",
        ADAM_WD="0.2",
        TTT_FREEZE_BLOCKS="1",
    )
    assert config["evaluation"]["mixer"] == "off"
    assert config["evaluation"]["ttt_polyak_decay"] == 0
    assert config["evaluation"]["ttt_lr_ramp"] == 1
    assert config["evaluation"]["ttt_unfrozen_blocks"] == 1
    assert config["training"]["qat_rounding"] == "soft"
    assert config["training"]["adam_betas"] == [0.8, 0.95]
    assert config["training"]["weight_decay"] == 0.1
    assert config["training"]["adam_weight_decay"] == 0.2


def test_a_switch_for_what_there_is_not_is_refused(source: str, tmp_path: Path) -> None:
    (tmp_path / "train_gpt.py").write_text(source, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "train_gpt.py"],
        cwd=tmp_path,
        env=os.environ | {"QTTT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: environment variable QTTT=1")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_script_under_the_variables_of_a_preset_is_that_preset(
    source: str, tmp_path: Path, name: str
) -> None:
    preset = PRESETS[name]()
    found = config_in_bundle(tmp_path, source, **environment_of(preset))
    assert {**found, "name": name} == json.loads(json.dumps(preset.to_json()))


def test_the_packed_script_is_the_script(source: str, tmp_path: Path) -> None:
    packed = pack_source(source)
    assert len(packed) < len(source) / 3
    assert config_in_bundle(tmp_path, packed) == config_in_bundle(tmp_path, source)


def test_every_number_has_a_variable_of_its_own() -> None:
    names = [
        environment_name(f"{section}.{field}" if field else section)
        for section, members in RecordConfig().to_json().items()
        for field in (members if isinstance(members, dict) else [""])
    ]
    assert len(set(names)) == len(names)


def test_top_level_names_are_unique_in_the_whole_package() -> None:
    paths = sorted(PACKAGE_FOLDER.rglob("*.py"))
    modules = [
        read_module(
            ".".join(("hedge_record", *path.relative_to(PACKAGE_FOLDER).with_suffix("").parts))
        )
        for path in paths
        if path.name != "__init__.py"
    ]
    assert len(modules) > 30
    check_names(modules)


def module(name: str, *names: str, imports: tuple[str, ...] = ()) -> SourceModule:
    return replace(
        read_module("hedge_record.errors"),
        name=name,
        names=frozenset(names),
        foreign_imports=imports,
    )


def test_a_name_with_two_origins_is_refused() -> None:
    with pytest.raises(RecordError, match="f is defined in a and in b"):
        check_names([module("a", "f"), module("b", "f")])
    with pytest.raises(RecordError, match="F is imported from import and from x"):
        check_names(
            [
                module("a", imports=("import torch.F as F",)),
                module("b", imports=("from x import F",)),
            ]
        )
    with pytest.raises(RecordError, match="json is defined in import and in b"):
        check_names([module("a", imports=("import json",)), module("b", "json")])


def test_modules_come_after_what_they_import() -> None:
    order = [module.name for module in modules_in_order("hedge_record.standalone")]
    for module_ in modules_in_order("hedge_record.standalone"):
        for needed in module_.own_imports:
            assert order.index(needed) < order.index(module_.name)
    assert order[-1] == "hedge_record.standalone"


def test_imports_are_merged() -> None:
    lines = ["from a import c", "import os", "from a import b as x", "import os", "from a import c"]
    assert merge_imports(lines) == ["import os", "from a import b as x, c"]
