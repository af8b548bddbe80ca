"""The full-size preset on a CPU: two training steps, export, a slice scored; sizes and seconds.

    python benchmarks/full_size.py --data data/embedded_sp1024 [--targets 4096] [--sizes-alone]

The model is the record's, 33,317,980 parameters; batches are small and sequences short, so that
minutes are enough. Two steps leave weights that compress far better than trained ones. How large
the artifact of trained weights is depends on how widely they spread against the smallest step
between two codes, and no trained weights of this size are at hand. So sizes are printed for normal
matrices over a range of deviations, chosen beforehand, and each is held against the limit. PR 700's
logged artifact has 15,794,806 bytes.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hedge_record.bundle import build_bundle
from hedge_record.command_data import bundle_data_paths
from hedge_record.config import ARTIFACT_LIMIT_BYTES, RecordConfig, compliant
from hedge_record.data.folder import open_data_folder
from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.export.artifact import read_artifact, write_artifact
from hedge_record.export.gptq import round_to_nearest
from hedge_record.export.quantize import StoredMatrix, prune, quantize_model
from hedge_record.model.gpt import GPT
from hedge_record.model.precision import is_control_tensor
from hedge_record.pipeline import RecordRun
from hedge_record.progress import SilentReporter

DEVIATIONS = (0.05, 0.1, 0.15, 0.19, 0.25)


def small_run() -> RecordConfig:
    """`compliant` with the sizes of its data made small; the model stays."""
    base = compliant()
    return replace(
        base,
        training=replace(
            base.training,
            iterations=2,
            seconds=None,
            batch_tokens=2048,
            sequence_length=256,
            merge_micro_batches=True,
            warmup_steps=0,
            warmdown_steps=1,
        ),
        export=replace(base.export, calibration_sequences=8),
        evaluation=replace(
            base.evaluation,
            sequence_length=256,
            stride=64,
            batch_windows=8,
            ttt_chunk_tokens=2048,
            ttt_batch_sequences=4,
            ttt_epochs=1,
        ),
    )


def main() -> None:
    """Runs the stages and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--targets", type=int, default=4096)
    parser.add_argument("--sizes-alone", action="store_true", help="train and score nothing")
    options = parser.parse_args()
    data, config, log = open_data_folder(options.data), small_run(), SilentReporter()
    code = len(build_bundle(config, *bundle_data_paths(data)).encode("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "model.ptz"
        if not options.sizes_alone:
            run = RecordRun(config, data, artifact, torch.device("cpu"), None, options.targets)
            print(f"parameters {run.set_up(log)['parameters']:,}", flush=True)
            for stage in (
                run.train,
                lambda log: run.export(code, log),
                run.score_quantized,
                run.score_adaptive,
            ):
                started = time.perf_counter()
                told = figures_told(stage(log))
                print(f"{told} in {time.perf_counter() - started:.0f} s", flush=True)
        for deviation in DEVIATIONS:
            size = spread_bytes(config, artifact, deviation)
            left = ARTIFACT_LIMIT_BYTES - size - code
            verdict = f"{left:,} bytes left" if left >= 0 else f"{-left:,} bytes too large"
            print(f"deviation {deviation}: {size:,} + {code:,} of code, {verdict}", flush=True)


def figures_told(found: dict[str, Any]) -> str:
    """The figures of a stage that a reader asks for."""
    if "score" in found:
        return f"{Score(**found['score']).bpb:.4f} bpb"
    names = ("steps", "tokens", "model_bytes")
    return ", ".join(f"{name} {found[name]:,}" for name in names if name in found)


def spread_bytes(config: RecordConfig, path: Path, deviation: float) -> int:
    """The size of an artifact whose matrices are normal; it is read back too.

    Without correlated inputs GPTQ is plain rounding, which is what is done here.
    """
    torch.manual_seed(config.seed)
    model = GPT(config.model)
    state = {
        name: deviation * torch.randn(tensor.shape)
        if tensor.ndim == 2 and not is_control_tensor(name)
        else tensor
        for name, tensor in model.state_dict().items()
    }
    stored = quantize_model(state, {}, config.export)
    bits = (config.export.clip_range + 1).bit_length()
    for name, tensor in state.items():
        is_linear = name.startswith("blocks.") or name.endswith(".proj.weight")
        if is_linear and isinstance(stored[name], StoredMatrix):
            pruned = prune(tensor, config.export.prune_fraction)
            stored[name] = StoredMatrix(round_to_nearest(pruned, config.export), bits)
    report = write_artifact(path, stored)
    model.load_state_dict(read_artifact(path, model))
    return report.model_bytes


if __name__ == "__main__":
    main()
