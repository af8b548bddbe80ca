"""Shards in the challenge's format, the stream over them, and the batches of each rank."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hedge_record.data.shards import (
    BatchLoader,
    TokenStream,
    find_shards,
    load_validation_tokens,
    read_shard,
    write_shard,
)
from hedge_record.errors import RecordError

CPU = torch.device("cpu")


def shards(folder: Path, *sizes: int) -> list[Path]:
    """Shards that together hold 0, 1, 2, ... so that a token tells its own position."""
    paths, start = [], 0
    for index, size in enumerate(sizes):
        paths.append(folder / f"fineweb_train_{index:06d}.bin")
        write_shard(paths[-1], np.arange(start, start + size))
        start += size
    return paths


def test_shard_bytes_are_those_of_the_challenge(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.bin", [1, 65535, 258])
    raw = (tmp_path / "s.bin").read_bytes()
    header = np.frombuffer(raw[:1024], dtype="<i4")
    assert header[:3].tolist() == [20240520, 1, 3]
    assert not header[3:].any()
    assert raw[1024:] == b"\x01\x00\xff\xff\x02\x01"
    assert read_shard(tmp_path / "s.bin").tolist() == [1, 65535, 258]


@pytest.mark.parametrize("change", [-2, -1, 1, 2])
def test_size_not_matching_the_header_names_file_and_both_sizes(
    tmp_path: Path, change: int
) -> None:
    path = tmp_path / "s.bin"
    write_shard(path, [1, 2, 3])
    raw = path.read_bytes()
    path.write_bytes(raw[:change] if change < 0 else raw + bytes(change))
    with pytest.raises(RecordError, match=rf"s\.bin: {1030 + change:,} bytes.*1,030"):
        read_shard(path)


@pytest.mark.parametrize("raw", [b"", b"\x00" * 1024, b"\x88\x2a\x35\x01"])
def test_other_files_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "s.bin").write_bytes(raw)
    with pytest.raises(RecordError, match="not a token shard"):
        read_shard(tmp_path / "s.bin")


def test_missing_shards_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="hedge-record data"):
        find_shards(tmp_path, "train")
    with pytest.raises(RecordError, match="cannot be read"):
        read_shard(tmp_path / "absent.bin")


def test_a_token_outside_uint16_is_never_wrapped(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"0\.\.65535"):
        write_shard(tmp_path / "s.bin", [65536])
    assert list(tmp_path.iterdir()) == []


def test_stream_crosses_shards_and_wraps_round(tmp_path: Path) -> None:
    stream = TokenStream(shards(tmp_path, 3, 4))
    taken = np.concatenate([stream.take(n) for n in (2, 3, 0, 9)])
    assert taken.tolist() == [i % 7 for i in range(14)]


def test_a_restored_stream_continues_as_the_first_did(tmp_path: Path) -> None:
    paths = shards(tmp_path, 3, 4)
    first, second = TokenStream(paths), TokenStream(paths)
    first.take(5)
    second.restore(first.state())
    assert first.take(9).tolist() == second.take(9).tolist()


def test_empty_shards_end_in_an_error_and_not_in_a_loop(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="empty"):
        TokenStream(shards(tmp_path, 0, 0)).take(1)
    (tmp_path / "two").mkdir()
    assert TokenStream(shards(tmp_path / "two", 0, 2)).take(3).tolist() == [0, 1, 0]


def test_tokens_outside_the_vocabulary_are_named(tmp_path: Path) -> None:
    paths = shards(tmp_path, 300)
    with pytest.raises(RecordError, match="token 299, but the model has 256"):
        TokenStream(paths, 256)
    with pytest.raises(RecordError, match="token 299, but the model has 256"):
        load_validation_tokens(paths, 256)


def test_ranks_take_disjoint_spans_of_one_stream(tmp_path: Path) -> None:
    paths = shards(tmp_path, 200)
    spans = []
    for own in ([0], [1, 2]):
        loader = BatchLoader(TokenStream(paths), CPU)
        inputs, targets = loader.next_step(48, 8, 3, own)
        assert inputs.shape == targets.shape == (len(own), 2, 8)
        for span_inputs, span_targets in zip(inputs, targets, strict=True):
            assert torch.equal(span_inputs.flatten()[1:], span_targets.flatten()[:-1])
            spans.append([*span_inputs.flatten().tolist(), int(span_targets[-1, -1])])
        assert loader.stream.state()["position"] == 51
    assert spans == [list(range(17)), list(range(17, 34)), list(range(34, 51))]


def test_a_batch_that_does_not_split_is_refused(tmp_path: Path) -> None:
    loader = BatchLoader(TokenStream(shards(tmp_path, 200)), CPU)
    with pytest.raises(RecordError, match="over 3 micro-batches"):
        loader.next_step(64, 8, 3, [0])


def test_validation_tokens_come_whole_and_in_order(tmp_path: Path) -> None:
    tokens = load_validation_tokens(shards(tmp_path, 5, 6))
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == list(range(11))
