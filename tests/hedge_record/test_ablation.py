"""The ablation: what its variants change, what they share, how differences are taken."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from hedge_record import ablation
from hedge_record.ablation import (
    AblationRow,
    Variant,
    VariantScores,
    ablation_base,
    ablation_variants,
    run_ablation,
)
from hedge_record.ablation_report import ablation_table, final_differences, write_ablation
from hedge_record.cli import build_parser
from hedge_record.config import RecordConfig, embedded, tiny
from hedge_record.data.folder import DataFolder
from hedge_record.progress import SilentReporter


def flat(config: RecordConfig) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, values in asdict(config).items()
        if isinstance(values, dict)
        for name, value in values.items()
    }


def test_every_variant_differs_from_the_base_in_one_setting() -> None:
    base = embedded()
    first, *others = ablation_variants(base)
    assert first.config == base
    changed: list[str] = []
    for variant in others:
        differing = {n for n, value in flat(variant.config).items() if value != flat(base)[n]}
        assert len(differing) == 1, variant.name
        changed += differing
    assert set(changed) == {
        "training.crown_q_lambda", "training.qat_rounding", "export.gptq", "export.prune_fraction",
        "evaluation.stride", "evaluation.ttt_epochs", "evaluation.mixer",
        "evaluation.mixer_experts",
    }  # fmt: skip
    strides = {v.config.evaluation.stride for v in others if v.part == "stride"}
    epochs = {v.config.evaluation.ttt_epochs for v in others if v.part == "TTT epochs"}
    assert strides == {32, 64}
    assert epochs == {0, 3, 4, 8}


def test_the_quick_base_is_smaller_and_scores_a_part() -> None:
    base, targets = ablation_base(quick=True)
    assert base.model == tiny().model
    assert targets == 8192
    assert ablation_base(quick=False) == (embedded(), None)


class CountingRun:
    """Stands in for `RecordRun`: scores that follow from the seed, and a list of what was run."""

    calls: list[str]

    def __init__(
        self, config: RecordConfig, _data: DataFolder, artifact: Path, *_rest: object
    ) -> None:
        self.config, self.artifact = config, artifact

    def train(self, _log: object) -> None:
        self.calls.append("train")

    def export(self, _code_bytes: int, _log: object) -> None:
        self.calls.append("export")
        self.artifact.write_bytes(b"weights")

    def score_quantized(self, _log: object) -> dict[str, Any]:
        return {"score": {"nats": 3.0, "tokens": 1, "bytes": 1}}

    def score_adaptive(self, _log: object) -> dict[str, Any]:
        self.calls.append("score")
        nats = 1.0 + self.config.seed + 0.1 * self.config.evaluation.ttt_epochs
        score = {"nats": nats, "tokens": 1, "bytes": 1}
        return {"score": score, "neural": score}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[AblationRow]:
    CountingRun.calls = []
    monkeypatch.setattr(ablation, "RecordRun", CountingRun)
    return ablate(tmp_path)


def ablate(folder: Path) -> list[AblationRow]:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return run_ablation(
        tiny(),
        DataFolder(folder, folder / "none.model"),
        [1, 2],
        work=work,
        validation_targets=None,
        device=torch.device("cpu"),
        reporter=SilentReporter(),
    )


def test_variants_share_artifacts_and_a_second_run_repeats_nothing(
    rows: list[AblationRow], tmp_path: Path
) -> None:
    variants = len(ablation_variants(tiny()))
    # Six exports a seed: the base, three trained otherwise, two exported otherwise.
    assert CountingRun.calls.count("export") == 2 * 6
    assert CountingRun.calls.count("score") == 2 * variants
    CountingRun.calls.clear()
    assert ablate(tmp_path) == rows
    assert not CountingRun.calls


def test_differences_are_taken_seed_by_seed(rows: list[AblationRow], tmp_path: Path) -> None:
    differences = final_differences(rows)
    assert differences[0] == [0.0, 0.0]
    names = [(row.variant.part, row.variant.name) for row in rows]
    # The tiny preset adapts for one epoch; a tenth of a nat per epoch more.
    eight = differences[names.index(("TTT epochs", "8"))]
    assert eight == pytest.approx([0.7 / 0.6931471805599453] * 2)
    (tmp_path / "manifest.json").write_text(json.dumps({"sha256": {}, "counts": {}}))
    data = DataFolder(tmp_path, tmp_path / "none.model")
    write_ablation(tmp_path, tiny(), data, [1, 2], 8192, rows)
    table = (tmp_path / "ablation.md").read_text()
    assert "| TTT epochs | 8 | 4.3281 ± 0.0000 | 4.7609 ± 1.0201 |" in table
    assert "| +1.0099 ± 0.0000 |" in table
    assert "first 8,192 validation targets, seeds 1, 2" in table
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "ablation.json").read_text())["rows"]) == len(rows)


def test_one_seed_has_no_deviation() -> None:
    row = AblationRow(Variant("base", "as it is", tiny()), (VariantScores(3.0, 2.0, 1.0, 5),))
    assert "| base | as it is | 3.0000 | 2.0000 | 1.0000 |  | 5 |" in ablation_table([row])


def test_seeds_are_a_list_and_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    options = build_parser().parse_args(["run", "--seeds", "1337,42,7"])
    assert options.seeds == [1337, 42, 7]
    assert build_parser().parse_args(["run", "--seed", "3"]).seeds == [3]
    with pytest.raises(SystemExit):
        build_parser().parse_args(["run", "--seeds", "1,1"])
    assert "names a seed twice" in capsys.readouterr().err
