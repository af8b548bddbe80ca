"""The shipped script is a real program: it trains, packs and scores a tiny corpus on the CPU."""

import os
import re
import struct
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from auditor import demo
from auditor.finding import Basis, Status, Validity

TEXT = b"the cat sat on the mat and the dog sat on the log while a bird sang in the tree. " * 120


def write_shard(path: Path, text: bytes) -> None:
    """The challenge's format: 256 int32, then uint16 tokens."""
    header = struct.pack("<256i", 20240520, 1, len(text), *[0] * 253)
    path.write_bytes(header + struct.pack(f"<{len(text)}H", *text))


@pytest.mark.parametrize("fixed", [False, True])
def test_it_runs_as_a_program(tmp_path: Path, fixed: bool) -> None:
    write_shard(tmp_path / "fineweb_train_000.bin", TEXT)
    write_shard(tmp_path / "fineweb_val_000.bin", TEXT[:3000])
    sizes = {"ITERATIONS": 3, "MODEL_DIM": 16, "TRAIN_SEQ_LEN": 32, "BATCH_SEQS": 2,
             "CHUNK_TOKENS": 256, "MIXER_GATE": 512, "OMP_NUM_THREADS": 1}  # fmt: skip
    script = files(demo).joinpath(demo.FIXED if fixed else demo.FAULTY)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, **{k: str(v) for k, v in sizes.items()}, "DATA_PATH": str(tmp_path),
             "OUT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )  # fmt: skip
    scores = dict(re.findall(r"final_(\w+) val_loss:\S+ val_bpb:(\S+)", done.stdout))
    # A hardly trained model is unsure, so even the faulty expert cannot make the score absurd.
    assert 0 < float(scores["mixed"]) <= float(scores["neural"]) < 9
    model = (tmp_path / "final_model.int8.ptz").stat().st_size
    code = len(script.read_bytes())
    assert f"Total submission size int8+zlib: {code + model} bytes" in done.stdout


def test_the_twins_differ_in_the_one_expert() -> None:
    faulty, fixed = (
        demo.submission(fixed=f).main.data.decode().splitlines()[10:] for f in (False, True)
    )
    changed = [line for line in faulty if line not in fixed]
    assert len(changed) == 3
    assert "confidence" in changed[1]


def test_the_static_audit_finds_the_line_and_clears_the_twin() -> None:
    audit = demo.run(dynamic=False)
    assert audit.validity is Validity.INVALID
    (failure,) = [f for f in audit.findings if f.status is Status.FAIL]
    assert (failure.rule, failure.basis) == ("C2", Basis.STATIC)
    assert "confidence = " in failure.evidence[0].text
    assert demo.run(fixed=True, dynamic=False).validity is Validity.VALID
