"""The sweep: what it searches, that it goes on, gives up and tells chance from effect."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from scipy.stats import ttest_rel

from hedge_record import sweep
from hedge_record.ablation import VariantScores
from hedge_record.cli import main
from hedge_record.config import RecordConfig, embedded, tiny
from hedge_record.data.folder import DataFolder
from hedge_record.errors import RecordError
from hedge_record.progress import SilentReporter
from hedge_record.sweep import (
    HYPERPARAMETERS,
    Candidate,
    against_base,
    base_of,
    parse_choices,
    run_sweep,
)
from hedge_record.sweep_report import sweep_table, write_sweep

CHOICES = {"ttt-epochs": (1, 0, 4), "crown-q": (0.01, 0.0, 0.3)}


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[RecordConfig]:
    """Replaces training: more epochs help, CROWN-Q hurts, and seeds scatter a little."""
    configs: list[RecordConfig] = []

    def scores(config: RecordConfig, *_: object) -> VariantScores:
        configs.append(config)
        final = 3 - 0.1 * config.evaluation.ttt_epochs + config.training.crown_q_lambda
        return VariantScores(3.0, 2.0, final + 0.001 * (config.seed % 7), 5)

    monkeypatch.setattr(sweep, "scores_of", scores)
    return configs


def search(folder: Path, trials: int, seeds: Sequence[int] = (1, 2, 3)) -> list[Candidate]:
    return run_sweep(
        tiny(),
        CHOICES,
        DataFolder(folder, folder / "none.model"),
        seeds,
        trials=trials,
        storage=f"sqlite:///{folder / 'study.db'}",
        work=folder,
        validation_targets=None,
        device=torch.device("cpu"),
        reporter=SilentReporter(),
    )


def test_every_hyperparameter_changes_one_setting() -> None:
    for base in (tiny(), embedded()):
        for name, (own, *others) in parse_choices([], base).items():
            parameter = HYPERPARAMETERS[name]
            assert parameter.of(base) == own
            assert parameter.set(base, own) == base
            for value in others:
                changed = parameter.set(base, value)
                assert parameter.of(changed) == value
                before, after = asdict(base), asdict(changed)
                assert {s for s in before if before[s] != after[s]} == {parameter.section}


def test_the_base_is_always_among_what_is_searched() -> None:
    assert parse_choices(["ttt-epochs=4,8"], tiny()) == {"ttt-epochs": (1, 4, 8)}
    for setting, problem in (("width=3", "no such hyperparameter"), ("stride=x", "invalid")):
        with pytest.raises(RecordError, match=problem):
            parse_choices([setting], tiny())


def test_the_base_comes_first_and_a_second_call_goes_on(
    scored: list[RecordConfig], tmp_path: Path
) -> None:
    first = search(tmp_path, 3)
    assert first[0].is_base
    assert first[0].scores == pytest.approx({1: 2.911, 2: 2.912, 3: 2.913})
    tried = len(scored)
    assert search(tmp_path, 3) == first
    assert len(scored) == tried
    more = search(tmp_path, 12)
    assert more[:3] == first
    assert len(more) == 12


def test_what_does_worse_than_the_median_is_given_up(
    scored: list[RecordConfig], tmp_path: Path
) -> None:
    candidates = search(tmp_path, 25)
    given_up = [c for c in candidates if c.pruned]
    assert given_up
    assert all(len(c.scores) < 3 for c in given_up)
    assert all(len(c.scores) == 3 for c in candidates if not c.pruned)
    assert len(scored) == sum(len(c.scores) for c in candidates)
    assert min(candidates, key=lambda c: c.mean).values == {"ttt-epochs": 4, "crown-q": 0.0}


def test_a_storage_of_another_study_is_left_alone(
    scored: list[RecordConfig], tmp_path: Path
) -> None:
    search(tmp_path, 1)
    with pytest.raises(RecordError, match="another base, grid or seeds"):
        search(tmp_path, 1, seeds=(4,))
    assert len(scored) == 3
    with pytest.raises(RecordError, match="no study can be opened"):
        search(tmp_path / "absent", 1)


def test_differences_are_tested_in_pairs() -> None:
    base = Candidate({"x": 0}, {1: 2.0, 2: 2.5, 3: 1.5}, False, is_base=True)
    other = Candidate({"x": 1}, {1: 1.9, 2: 2.45, 3: 1.3}, False)
    against = against_base(other, base)
    assert against.mean == pytest.approx(-0.35 / 3)
    expected = ttest_rel(list(other.scores.values()), list(base.scores.values()))
    assert against.p_value == pytest.approx(expected.pvalue)
    alone = against_base(Candidate({"x": 1}, {1: 1.9}, True), base)
    assert alone.mean == pytest.approx(-0.1)
    assert alone.deviation is None
    assert alone.p_value is None
    assert against_base(base, base).p_value == 1.0
    assert base_of([Candidate({"x": 0}, {1: 2.0}, True, is_base=True), base]) is base


def test_the_report_has_table_plot_and_figures(tmp_path: Path) -> None:
    base = Candidate({"stride": 16}, {1: 2.0, 2: 2.5}, False, is_base=True)
    better = Candidate({"stride": 8}, {1: 1.9, 2: 2.45}, False)
    worse = Candidate({"stride": 64}, {1: 2.3}, True)
    table = sweep_table([base, worse, better])
    assert table.splitlines()[2:] == [
        "| 8 | 2 | 2.1750 | -0.0750 ± 0.0354 | 0.205 |",
        "| 16 | 2 | 2.2500 | base |  |",
        "| 64 | 1 (given up) | 2.3000 | +0.3000 |  |",
    ]
    write_sweep(tmp_path, tiny(), {"stride": (16, 8, 64)}, [1, 2], [base, worse, better])
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert table in (tmp_path / "sweep.md").read_text()
    assert len(json.loads((tmp_path / "sweep.json").read_text())["candidates"]) == 3


def test_a_wrong_name_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--vary", "width", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: --vary width: no such hyperparameter")
