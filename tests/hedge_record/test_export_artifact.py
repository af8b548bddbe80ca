"""The artifact: what is written is read back, and nothing else is accepted."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from hedge_record.config import tiny
from hedge_record.errors import RecordError
from hedge_record.export.artifact import check_size, read_artifact, write_artifact
from hedge_record.export.gptq import RowQuantized
from hedge_record.export.quantize import StoredTensor, dequantize_model, quantize_model
from hedge_record.export.tensor_file import pack_tensors, tensor_of, unpack_tensors
from hedge_record.model.gpt import GPT

MATRIX = "blocks.0.mlp.fc.weight"
EMBEDDING = "tok_emb.weight"


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    # The shapes below are this vocabulary's and width's.
    config = replace(tiny().model, vocab_size=256, width=64, mlp_multiple=3.5, layers=2)
    return GPT(replace(config, value_embedding_layers=(1,), xsa_layers=2))


@pytest.fixture(scope="module")
def stored(model: GPT) -> dict[str, StoredTensor]:
    state = model.state_dict()
    width = state[MATRIX].shape[1]
    return quantize_model(state, {MATRIX: torch.eye(width)}, tiny().export)


@pytest.fixture
def artifact(tmp_path: Path, stored: dict[str, StoredTensor]) -> Path:
    path = tmp_path / "model.zst"
    report = write_artifact(path, stored, level=3)
    assert report.model_bytes == path.stat().st_size < report.raw_bytes
    return path


def rewrite(path: Path, **changes: Tensor | None) -> None:
    """Replaces tensors inside an artifact; None removes one. `__` in a keyword stands for a dot."""
    tensors = load(zstandard.decompress(path.read_bytes()))
    for keyword, value in changes.items():
        name = keyword.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    path.write_bytes(zstandard.compress(save(tensors)))


def test_round_trip_is_exact_and_loads(
    artifact: Path, model: GPT, stored: dict[str, StoredTensor]
) -> None:
    state = read_artifact(artifact, model)
    expected = dequantize_model(stored)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert not any(result for result in GPT(model.config).load_state_dict(state))


def test_same_weights_give_the_same_bytes(
    artifact: Path, tmp_path: Path, stored: dict[str, StoredTensor]
) -> None:
    again = tmp_path / "again.zst"
    write_artifact(again, dict(reversed(stored.items())), level=3)
    assert again.read_bytes() == artifact.read_bytes()


def test_missing_file(tmp_path: Path, model: GPT) -> None:
    with pytest.raises(RecordError, match="cannot be read"):
        read_artifact(tmp_path / "absent.zst", model)


def test_an_artifact_of_another_model_is_refused(artifact: Path, model: GPT) -> None:
    wider = GPT(replace(model.config, mlp_multiple=4.0))
    with pytest.raises(RecordError, match="the model needs"):
        read_artifact(artifact, wider)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"skip_weights": None}, "skip_weights is missing"),
        ({MATRIX + ".scales": None}, "scales is missing"),
        ({MATRIX + ".int5": None}, "is missing"),
        ({"extra": torch.zeros(1)}, "'extra', which the model has not"),
        ({"skip_weights": torch.zeros(1, 65)}, "the model needs"),
        ({"skip_weights": torch.zeros(1, 64, dtype=torch.float64)}, "is F64"),
        ({"skip_weights": torch.full((1, 64), torch.nan)}, "not finite"),
        ({MATRIX + ".int5": torch.full((224, 64), 16, dtype=torch.int8)}, "code outside -15..15"),
        ({EMBEDDING + ".int8": torch.full((256, 64), -128, dtype=torch.int8)}, "outside -127..127"),
        ({MATRIX + ".scales": torch.full((224,), torch.nan).half()}, "row scale"),
        ({MATRIX + ".scales": torch.full((224,), -1.0).half()}, "row scale"),
        ({MATRIX + ".scales": torch.ones(224)}, "is F32"),
        ({"smear.gate.int5": torch.zeros(64, dtype=torch.int8)}, "missing"),
    ],
)
def test_tensors_that_do_not_fit_the_model(
    artifact: Path, model: GPT, changes: dict[str, Tensor | None], problem: str
) -> None:
    rewrite(artifact, **changes)
    with pytest.raises(RecordError, match=problem) as caught:
        read_artifact(artifact, model)
    assert str(artifact) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04pickle", b"\x28\xb5\x2f\xfd"])
def test_files_that_are_no_zstd_frame(artifact: Path, model: GPT, content: bytes) -> None:
    artifact.write_bytes(content)
    with pytest.raises(RecordError, match="zstd frame is damaged"):
        read_artifact(artifact, model)


def test_bytes_after_the_frame_are_refused(artifact: Path, model: GPT) -> None:
    artifact.write_bytes(artifact.read_bytes() + b"hidden")
    with pytest.raises(RecordError, match="damaged"):
        read_artifact(artifact, model)


def test_decompression_bombs_are_never_inflated(artifact: Path, model: GPT) -> None:
    bomb = zstandard.compress(bytes(200_000_000))
    assert len(bomb) < 100_000
    artifact.write_bytes(bomb)
    with pytest.raises(RecordError, match="declares 200,000,000 bytes"):
        read_artifact(artifact, model)
    undeclared = zstandard.ZstdCompressor(write_content_size=False)
    artifact.write_bytes(undeclared.compress(bytes(200_000_000)))
    with pytest.raises(RecordError, match="declares no size"):
        read_artifact(artifact, model)


def test_a_file_too_long_for_the_model_is_not_read(artifact: Path, model: GPT) -> None:
    with artifact.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(RecordError, match="1,099,511,627,776 bytes"):
        read_artifact(artifact, model)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_flipped_bit_or_a_cut_never_passes(
    tmp_path: Path,
    model: GPT,
    stored: dict[str, StoredTensor],
    position: float,
    bit: int,
    cut: bool,
) -> None:
    path = tmp_path / "damaged.zst"
    if not path.exists():
        write_artifact(path, stored, level=3)
        (tmp_path / "whole").write_bytes(path.read_bytes())
    data = bytearray((tmp_path / "whole").read_bytes())
    index = int(position * len(data))
    if cut:
        del data[index:]
    else:
        data[index] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(RecordError):
        read_artifact(path, model)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(position=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_hostile_header_is_refused_or_harmless(
    tmp_path: Path, model: GPT, stored: dict[str, StoredTensor], position: int, value: int
) -> None:
    """The checksum is valid here: an attacker writes it anew."""
    path = tmp_path / "hostile.zst"
    if not (tmp_path / "raw").exists():
        write_artifact(path, stored, level=3)
        (tmp_path / "raw").write_bytes(zstandard.decompress(path.read_bytes()))
    raw = bytearray((tmp_path / "raw").read_bytes())
    raw[position] = value
    path.write_bytes(zstandard.compress(bytes(raw), level=1))
    try:
        state = read_artifact(path, model)
    except RecordError:
        return
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in state.items()} == shapes
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_a_header_longer_than_the_file_is_refused(artifact: Path, model: GPT) -> None:
    artifact.write_bytes(zstandard.compress(struct.pack("<Q", 2**63) + b"{}"))
    with pytest.raises(RecordError, match="safetensors header"):
        read_artifact(artifact, model)


def test_size_limit_counts_code_and_model_in_decimal_bytes() -> None:
    check_size(97_234, 15_902_766)
    with pytest.raises(RecordError, match=r" 1 bytes too .* 97,234 .* 15,902,767 .* 16,000,001"):
        check_size(97_234, 15_902_767)


def test_dequantisation_multiplies_each_row_by_its_scale() -> None:
    quantized = RowQuantized(
        torch.tensor([[1, -2], [15, 0]], dtype=torch.int8), torch.tensor([0.5, 2.0]).half()
    )
    assert quantized.dequantize().tolist() == [[0.5, -1.0], [30.0, 0.0]]


def test_our_files_are_those_of_the_safetensors_package() -> None:
    tensors = {
        "b": torch.arange(6, dtype=torch.float32).view(2, 3),
        "a": torch.ones(3, dtype=torch.float16),
        "codes": torch.tensor([[-1], [2]], dtype=torch.int8),
        "scalar": torch.tensor(0.5),
        "empty": torch.zeros(0, 4),
    }
    raw = pack_tensors(tensors)
    assert raw == save(tensors)
    for name, entry in unpack_tensors(raw).items():
        assert torch.equal(tensor_of(entry), tensors[name])
        assert torch.equal(load(raw)[name], tensors[name])


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"[" * 5000, "no JSON"),
        (b"[]", "no JSON object"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}', "begin where"),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', "other bytes"),
        (b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', "lacks its shape"),
        (b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', "lacks its shape"),
        (b'{"a":{"dtype":"F9","shape":[1],"data_offsets":[0,4]}}', "unknown dtype"),
        (b'{"a":{"dtype":"F32","shape":[1]}}', "lacks its offsets"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "bytes follow"),
    ],
)
def test_a_tensor_file_that_lies_is_refused(header: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        unpack_tensors(struct.pack("<Q", len(header)) + header + bytes(5))
