"""Our implementation against another script of the challenge, in pairs on the same machine.

Both sides run as one file in the auditor's sandbox, on the virtual GPU, on one thread: `auditor
trial` is started as a child process and tells what every printed line had cost by then. Both see
the same shards and the same settings, under the environment variables of the original. Ours starts
from the script's own initial weights, and scores the weights that the script scored, so that every
loss can be compared with its.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hedge_record.bench_child import INITIAL_NAME, SCORED_NAME
from hedge_record.bench_figures import OUR_MARKS, THEIR_MARKS, CostedLine, Figures, Pair, figures_of
from hedge_record.bench_weights import original_state, scored_state, write_state
from hedge_record.bundle import EntryPoint, build_bundle
from hedge_record.config import RecordConfig, as_submitted, embedded, tiny
from hedge_record.data.folder import DataFolder, open_data_folder
from hedge_record.data.shards import find_shards, load_validation_tokens, write_shard
from hedge_record.environment import environment_of
from hedge_record.errors import RecordError
from hedge_record.files import make_folder, write_atomically
from hedge_record.progress import Reporter

BENCH_ENTRY = EntryPoint("hedge_record.bench_child", "bench_main")
SHOWN_DATA = "/data"  # where the sandbox shows the data folder
TRIAL_SECONDS = 3600.0
QUICK_BENCH_TARGETS = 16_384


@dataclass(frozen=True)
class Bench:
    """What is compared: the original's settings on some data, and ours for the honest score."""

    twin: RecordConfig  # as submitted: every loss equals the script's
    honest: RecordConfig  # compliant; same model, data, batches and steps
    data: DataFolder
    work: Path


def bench_settings(*, quick: bool) -> tuple[RecordConfig, RecordConfig]:
    """The twin and the honest configuration.

    A window is 32 strides long, as in the record: how often a token runs through the network is
    what the cost of an evaluation is made of.
    """
    submitted = as_submitted()
    base = tiny() if quick else embedded()
    model = replace(base.model, vocab_size=1024, rope_training_length=1024, rope_angles="model")
    training = replace(
        submitted.training,
        iterations=100 if quick else base.training.iterations,
        seconds=None,
        reserved_seconds=0.0,
        batch_tokens=2048,
        sequence_length=128,
        merge_micro_batches=True,
        warmup_steps=0,
        warmdown_steps=50 if quick else base.training.warmdown_steps,
        muon_momentum=base.training.muon_momentum,
        muon_momentum_start=base.training.muon_momentum_start,
        muon_momentum_warmup_steps=base.training.muon_momentum_warmup_steps,
        qat_lr_threshold=base.training.qat_lr_threshold,
        ema_decay=base.training.ema_decay,
        log_every=1,
    )
    evaluation = replace(
        submitted.evaluation,
        sequence_length=256,
        stride=8,
        ttt_chunk_tokens=2048 if quick else 8192,
        ttt_batch_sequences=submitted.evaluation.batch_windows,
    )
    twin = replace(submitted, model=model, training=training, evaluation=evaluation)
    honest = replace(
        base,
        model=replace(base.model, vocab_size=1024),
        training=replace(training, precision=base.training.precision),
        evaluation=replace(
            embedded().evaluation,
            sequence_length=evaluation.sequence_length,
            stride=evaluation.stride,
        ),
    )
    return twin, honest


def prepare_bench_data(data: DataFolder, folder: Path, targets: int | None) -> DataFolder:
    """`data`, or its first training shard and its first `targets` validation targets in `folder`.

    Raises:
        RecordError: the tokenizer lies elsewhere than the shards, or a file fails.
    """
    if targets is None:
        if data.tokenizer.parent != data.path:
            raise RecordError(f"{data.tokenizer}: put the tokenizer beside the shards for a bench")
        return data
    make_folder(folder)
    shard = find_shards(data.path, "train")[0]
    for source in (shard, data.tokenizer):
        write_atomically(folder / source.name, source.read_bytes())
    tokens = load_validation_tokens(find_shards(data.path, "val"))[: targets + 1]
    write_shard(folder / "fineweb_val_000000.bin", tokens.numpy())
    return open_data_folder(folder)


def run_pairs(bench: Bench, script: Path, runs: int, reporter: Reporter) -> list[Pair]:
    """Runs both sides `runs` times, each first in every second pair.

    Raises:
        RecordError: a side fails, or prints no line that its figures are read from.
    """
    environment = original_environment(bench.twin, bench.data)
    ours = make_folder(bench.work / "ours")
    child = ours / "train_gpt.py"
    tokenizer = f"{SHOWN_DATA}/{bench.data.tokenizer.name}"
    write_atomically(child, build_bundle(bench.twin, SHOWN_DATA, tokenizer, BENCH_ENTRY))
    reporter.start("bench", 2 * runs + 1, "runs")
    first = {**environment, "ITERATIONS": "0", "SKIP_SLIDING": "1", "TTT_EPOCHS": "0"}
    first["EVAL_STRIDE"] = first["EVAL_SEQ_LEN"]
    _trial(script, bench, first, keep=("final_model.pt",))
    write_state(ours / INITIAL_NAME, original_state(bench.work / "final_model.pt"))
    reporter.advance(1)
    pairs = []
    # Ours scores what the script made in its first run: it comes first there.
    for run in range(runs):
        sides: list[Figures | None] = [None, None]
        for side in (0, 1) if run % 2 == 0 else (1, 0):
            if side == 0:
                lines = _trial(script, bench, environment, keep=("final_model.int6.ptz",))
                sides[0] = figures_of(lines, THEIR_MARKS, bench.twin)
                if run == 0:
                    state = scored_state(bench.work / "final_model.int6.ptz")
                    write_state(ours / SCORED_NAME, state)
            else:
                weights = (ours / INITIAL_NAME, ours / SCORED_NAME)
                sides[1] = figures_of(
                    _trial(child, bench, {}, files=weights), OUR_MARKS, bench.twin
                )
            reporter.advance(1)
        theirs, own = sides
        assert theirs is not None
        assert own is not None
        pairs.append(Pair(theirs, own))
        reporter.log(f"pair {run + 1}: {theirs} / {own}")
    reporter.finish()
    return pairs


def original_environment(config: RecordConfig, data: DataFolder) -> dict[str, str]:
    """The environment variables that make the original script run `config` on `data`."""
    found = {
        "DATA_PATH": SHOWN_DATA,
        "TOKENIZER_PATH": f"{SHOWN_DATA}/{data.tokenizer.name}",
        "VAL_LOSS_EVERY": "0",
        "VAL_BATCH_SIZE": str(8 * config.training.batch_tokens),
        "SWA_ENABLED": "0",
    }
    return found | environment_of(config)


def _trial(
    script: Path,
    bench: Bench,
    environment: Mapping[str, str],
    *,
    keep: Sequence[str] = (),
    files: Sequence[Path] = (),
) -> list[CostedLine]:
    """The lines of one run in the sandbox; what is in `keep` is written to the work folder."""
    command = [sys.executable, "-m", "auditor.cli", "trial", str(script)]
    command += ["--data", str(bench.data.path), "--out", str(bench.work)]
    command += ["--seconds", str(TRIAL_SECONDS)]
    for option, values in (
        ("--set", [f"{name}={value}" for name, value in environment.items()]),
        ("--keep", keep),
        ("--file", [str(path) for path in files]),
    ):
        for value in values:
            command += [option, value]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        outcome = json.loads(done.stdout)
        problem, lines = outcome["problem"], outcome["lines"]
    except (ValueError, KeyError, TypeError):
        errors = done.stderr.strip().splitlines() or ["no message"]
        raise RecordError(f"{script}: cannot be run in the sandbox ({errors[-1]})") from None
    if problem:
        raise RecordError(f"{script}: {problem}")
    return [CostedLine(float(cpu), int(peak), str(text)) for cpu, peak, text in lines]
