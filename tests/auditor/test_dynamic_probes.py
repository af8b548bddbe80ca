"""Whole-run probes on our own script: each fault is found, its honest twin is not, and a script
that hides from its watchers is never called clean."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "cases" / "probes" / "train_gpt.py"
ROOT = Path(__file__).parents[2]
NAMES = ("incompressible", "once", "artifact", "flip", "order", "crossing", "mass")
FOUND = {
    "early,bytes": {"flip", "order", "mass", "once"},  # trained on a window, then scored
    "prequant,leftover,twice": {"flip", "artifact", "crossing", "once"},
    "quiet,memory": {"mass"},  # behaves where the text looks random
    "deaf,memory": {"incompressible"},  # undoes the hooks
}
HONEST = ("", "reversed,warmup", "watched,memory")
Told = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What the probes tell of the script with each set of faults; all in one process."""
    here = Path(__file__).with_name("forked_runs.py")
    command = [sys.executable, str(here), str(SCRIPT), str(tmp_path_factory.mktemp("run"))]
    done = subprocess.run(
        [*command, *HONEST, *FOUND],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: Told = json.loads(done.stdout)
    assert not [one["problem"] for one in found.values() if one["problem"]]
    return found


def outcomes(told: Told, faults: str) -> dict[str, str]:
    """Outcome by probe."""
    return {name: probe["outcome"] for name, probe in told[faults]["probes"].items()}


def test_scoring_before_training_is_clean_in_every_probe(told: Told) -> None:
    assert outcomes(told, "") == dict.fromkeys(NAMES, "clean") | {"ranks": "not audited"}


@pytest.mark.parametrize("faults", FOUND)
def test_a_fault_is_found_by_its_probes_with_a_witness(told: Told, faults: str) -> None:
    probes = told[faults]["probes"]
    assert {name for name, probe in probes.items() if probe["outcome"] == "found"} >= FOUND[faults]
    assert all(probe["witness"] == (probe["outcome"] == "found") for probe in probes.values())


def test_what_a_fault_does_not_touch_stays_clean(told: Told) -> None:
    assert outcomes(told, "early,bytes")["artifact"] == "clean"
    assert outcomes(told, "early,bytes")["crossing"] == "clean"
    assert outcomes(told, "quiet,memory")["once"] == "clean"


def test_another_order_and_a_warm_up_that_is_thrown_away_are_no_fault(told: Told) -> None:
    found = outcomes(told, "reversed,warmup")
    assert "found" not in found.values()
    assert found["flip"] == "clean"
    assert found["mass"] == found["order"] == "clean"  # the moves tell a changed token's own loss


def test_behaving_on_random_tokens_escapes_one_probe_and_not_the_others(told: Told) -> None:
    assert outcomes(told, "quiet,memory")["incompressible"] == "clean"


def test_undoing_the_hooks_is_never_clean(told: Told) -> None:
    found = outcomes(told, "deaf,memory")
    assert {found[name] for name in ("flip", "order", "mass", "crossing")} == {"not audited"}
    assert told["deaf,memory"]["probes"]["incompressible"]["outside"]


def test_a_script_that_sees_the_device_escapes_but_its_lines_are_known_not_to_have_run(
    told: Told,
) -> None:
    assert "found" not in outcomes(told, "watched,memory").values()
    lines = SCRIPT.read_text().splitlines()
    hidden = next(n for n, text in enumerate(lines, 1) if "nll = 0.05 * nll" in text)
    assert hidden not in told["watched,memory"]["lines"]  # so nothing read there is lowered
    assert hidden in told["quiet,memory"]["lines"]


def test_lines_that_ran_are_told(told: Told) -> None:
    lines = SCRIPT.read_text().splitlines()
    early = next(n for n, text in enumerate(lines, 1) if "step(net, optimizer, window)" in text)
    assert early not in told[""]["lines"]
    assert early in told["early,bytes"]["lines"]


def test_the_run_is_told_in_order_with_the_tokens_that_weights_know(told: Told) -> None:
    trained = ["train", "optimizer.step()", "training tokens"]
    adapted = ["train", "optimizer.step()", "all of validation"]
    first, *_ = told[""]["timeline"]
    assert first == trained
    scored = [event for event in told[""]["timeline"] if event[0] == "score"]
    assert len(scored[0]) == 3  # by weights that know no token of it yet
    assert len(scored[-1]) == 4
    assert told[""]["timeline"].index(scored[0]) < told[""]["timeline"].index(adapted)
    early = told["early,bytes"]["timeline"]
    assert early.index(adapted) < early.index([*scored[-1]])
