"""A run that is interrupted anywhere ends as it would have ended, log included."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from hedge_record.config import RecordConfig, tiny
from hedge_record.data.corpus import Corpus, prepare_folder
from hedge_record.data.folder import DataFolder
from hedge_record.errors import RecordError
from hedge_record.pipeline import ARTIFACT_NAME, evaluate_artifact, run_record
from hedge_record.progress import SilentReporter
from hedge_record.result import RecordResult
from hedge_record.stages import FreshStages
from hedge_record.work_folder import WorkFolder, without_repeated_steps

CPU = torch.device("cpu")
WORDS = [
    "the",
    "king",
    "and",
    "queen",
    "of",
    "night",
    "came",
    "to",
    "see",
    "a",
    "fool",
    "who",
    "made",
    "them",
    "laugh",
    "at",
    "love",
]


def text(lines: int, seed: int) -> str:
    """Lines of a small language with some structure."""
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(WORDS), (lines, 7), generator=generator).tolist()
    return "\n".join(
        " ".join(WORDS[(a * b + 1) % len(WORDS)] for a, b in pairwise(p)) for p in picks
    )


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    corpus = Corpus("small", {}, (text(900, 1),), (text(120, 2),))
    folder = tmp_path_factory.mktemp("data")
    return prepare_folder(corpus, folder, 300, reporter=SilentReporter())


@pytest.fixture(scope="module")
def config() -> RecordConfig:
    base = tiny()
    return replace(
        base,
        model=replace(base.model, vocab_size=300, layers=2, width=32, value_embedding_layers=(1,)),
        training=replace(
            base.training,
            iterations=12,
            batch_tokens=256,
            micro_batches=2,
            warmdown_steps=8,
            warmup_steps=1,
            log_every=1,
            checkpoint_every_seconds=0.0,
        ),
        evaluation=replace(base.evaluation, ttt_chunk_tokens=256),
    )


class Interrupting(SilentReporter):
    """Keeps log lines, and stands for a user who presses Ctrl-C when one starts with `at`."""

    def __init__(self, at: str = "never") -> None:
        self.at = at
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(self.at):
            raise KeyboardInterrupt


def run(
    config: RecordConfig, data: DataFolder, work: WorkFolder, reporter: Interrupting
) -> RecordResult:
    return run_record(
        config,
        data,
        work.path / ARTIFACT_NAME,
        code_bytes=1000,
        device=CPU,
        reporter=reporter,
        stages=work,
        checkpoints=work.path,
    )


def timeless(lines: list[str]) -> list[str]:
    """Log lines without clock readings, and without the lines that only a resumed run has."""
    kept = (line for line in lines if not line.startswith(("resumed:", "warmup_step:")))
    return [re.sub(r"(_time|_avg):[\d.]+ms| in [\d.]+s", "", line) for line in kept]


@pytest.fixture(scope="module")
def whole(
    config: RecordConfig, data: DataFolder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RecordResult, bytes, list[str]]:
    """The result, artifact and log of a run that nobody interrupted."""
    work = WorkFolder(tmp_path_factory.mktemp("whole"))
    result = run(config, data, work, Interrupting())
    return result, (work.path / ARTIFACT_NAME).read_bytes(), work.log_lines()


def test_parts_add_up_to_the_final_score(whole: tuple[RecordResult, bytes, list[str]]) -> None:
    result = whole[0]
    assert sum(part.bpb for part in result.parts) == pytest.approx(
        result.adaptive.score.bpb, abs=1e-12
    )
    assert [part.symbol for part in result.parts] == ["L", "Q", "T", "M"]
    scores = (result.trained, result.quantized, result.adaptive.neural, result.adaptive.score)
    assert len({(score.tokens, score.bytes) for score in scores}) == 1


@pytest.mark.parametrize(
    "interruptions",
    [
        ("step:7/12", "step:11/12"),
        ("Serialized model:",),
        ("pre_quantization_sliding_window_exact", "final_int5_sliding_window "),
        ("ttt_chunk [2/",),
    ],
)
def test_an_interrupted_run_ends_the_same(
    config: RecordConfig,
    data: DataFolder,
    whole: tuple[RecordResult, bytes, list[str]],
    interruptions: tuple[str, ...],
    tmp_path: Path,
) -> None:
    for line in interruptions:
        with pytest.raises(KeyboardInterrupt):
            run(config, data, WorkFolder(tmp_path), Interrupting(at=line))
    work = WorkFolder(tmp_path)
    result = run(config, data, work, Interrupting())
    expected, artifact, log = whole
    assert replace(result, seconds=expected.seconds) == expected
    assert (tmp_path / ARTIFACT_NAME).read_bytes() == artifact
    assert timeless(work.log_lines()) == timeless(log)


def test_finished_stages_are_not_run_again(
    config: RecordConfig, data: DataFolder, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(config, data, WorkFolder(tmp_path), Interrupting(at="ttt_chunk"))
    second = Interrupting()
    run(config, data, WorkFolder(tmp_path), second)
    assert not [line for line in second.lines if line.startswith(("step:", "final_int5_sliding"))]
    assert [line for line in second.lines if line.startswith("final_int5_ttt_exact")]


def test_evaluation_alone_gives_the_same_score(
    config: RecordConfig,
    data: DataFolder,
    whole: tuple[RecordResult, bytes, list[str]],
    tmp_path: Path,
) -> None:
    (tmp_path / ARTIFACT_NAME).write_bytes(whole[1])
    quantized, adaptive = evaluate_artifact(
        config, data, tmp_path / ARTIFACT_NAME, device=CPU, reporter=SilentReporter()
    )
    assert quantized == whole[0].quantized
    assert adaptive == whole[0].adaptive


def test_only_the_artifact_crosses_to_evaluation(
    config: RecordConfig, data: DataFolder, tmp_path: Path
) -> None:
    """Without validation shards training and export still work: nothing of them is read before."""
    blind = DataFolder(tmp_path / "blind", data.tokenizer)
    blind.path.mkdir()
    (blind.path / "fineweb_train_000000.bin").symlink_to(data.path / "fineweb_train_000000.bin")
    work = WorkFolder(tmp_path / "work")
    with pytest.raises(RecordError, match="no shard fineweb_val"):
        run(config, blind, work, Interrupting())
    assert (work.path / ARTIFACT_NAME).is_file()


def test_code_and_model_above_the_limit_fail_the_run(
    config: RecordConfig, data: DataFolder, tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match=r"16,000,000"):
        run_record(
            config,
            data,
            tmp_path / ARTIFACT_NAME,
            code_bytes=15_999_999,
            device=CPU,
            reporter=SilentReporter(),
            stages=FreshStages(),
        )


def test_a_diverging_run_says_so(config: RecordConfig, data: DataFolder, tmp_path: Path) -> None:
    wild = replace(config.training, matrix_lr=1e30, embedding_lr=1e30, scalar_lr=1e30)
    with pytest.raises(RecordError, match=r"training loss is .* lower the learning rates"):
        run(replace(config, training=wild), data, WorkFolder(tmp_path), Interrupting())


def test_steps_after_the_last_checkpoint_are_logged_once() -> None:
    lines = ["step:1/9 a", "step:2/9 a", "late_qat", "step:3/9 a", "resumed:step:2/9", "step:3/9 b"]
    assert without_repeated_steps(lines) == [
        "step:1/9 a",
        "step:2/9 a",
        "late_qat",
        "resumed:step:2/9",
        "step:3/9 b",
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_from_its_checkpoint(
    config: RecordConfig,
    data: DataFolder,
    whole: tuple[RecordResult, bytes, list[str]],
    tmp_path: Path,
) -> None:
    work = WorkFolder(tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        run(config, data, work, Interrupting(at="step:6/"))
    log = work.path / "training.log"
    log.unlink()
    log.symlink_to("/dev/full")
    with pytest.raises(RecordError, match=r"training.log: cannot be written \(No space left"):
        run(config, data, work, Interrupting())
    log.unlink()
    result = run(config, data, work, Interrupting())
    assert result.losses == whole[0].losses
    assert (work.path / ARTIFACT_NAME).read_bytes() == whole[1]
