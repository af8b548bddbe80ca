"""The full-size preset on a CPU: two training steps, export, a slice scored; sizes and seconds.

    python benchmarks/full_size.py --data data/embedded_sp1024 [--targets 4096] [--deviation 0.19]

The model is the record's, 33,317,980 parameters; batches are small and sequences short, so that
minutes are enough. Two steps leave weights that compress far better than trained ones, so a second
artifact holds trained-like ones: every matrix normal with `--deviation`. At 0.19 a weight costs the
3.65 bits that it costs in PR 700's logged artifact of 15,794,806 bytes.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from hedge_record.bundle import build_bundle
from hedge_record.command_data import bundle_data_paths
from hedge_record.config import RecordConfig, compliant
from hedge_record.data.folder import open_data_folder
from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.export.artifact import check_size, read_artifact, write_artifact
from hedge_record.export.quantize import quantize_model
from hedge_record.model.gpt import GPT
from hedge_record.model.precision import is_control_tensor
from hedge_record.pipeline import RecordRun
from hedge_record.progress import SilentReporter


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
    parser.add_argument("--deviation", type=float, default=0.19)
    options = parser.parse_args()
    data, config, log = open_data_folder(options.data), small_run(), SilentReporter()
    code = len(build_bundle(config, *bundle_data_paths(data)).encode("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "model.ptz"
        run = RecordRun(config, data, artifact, torch.device("cpu"), None, options.targets)
        print(f"parameters {run.set_up(log)['parameters']:,}", flush=True)
        for stage in (run.train, lambda log: run.export(code, log), run.score_quantized,
                      run.score_adaptive):  # fmt: skip
            started = time.perf_counter()
            found = stage(log)
            score = Score(**found["score"]) if "score" in found else None
            figures = f"{score.bpb:.4f} bpb" if score else {
                name: found[name] for name in ("steps", "tokens", "model_bytes") if name in found
            }  # fmt: skip
            print(f"{figures} in {time.perf_counter() - started:.0f} s", flush=True)
        size = trained_like_bytes(config, artifact, options.deviation)
    check_size(code, size)
    print(f"trained-like: {size:,} of model + {code:,} of code = {size + code:,} of 16,000,000")


def trained_like_bytes(config: RecordConfig, path: Path, deviation: float) -> int:
    """The size of an artifact whose matrices are normal; it is read back too."""
    model = GPT(config.model)
    generator = torch.Generator().manual_seed(config.seed)
    hessians = {}
    state = dict(model.state_dict())
    for name, tensor in state.items():
        if tensor.ndim == 2 and not is_control_tensor(name):
            state[name] = deviation * torch.randn(tensor.shape, generator=generator)
            if "emb" not in name:
                hessians[name] = torch.eye(tensor.shape[1])
    report = write_artifact(path, quantize_model(state, hessians, config.export))
    model.load_state_dict(read_artifact(path, model))
    return report.model_bytes


if __name__ == "__main__":
    main()
