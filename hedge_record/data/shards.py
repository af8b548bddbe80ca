"""Token shards in the challenge's format, and the batches that training draws from them.

A shard is 256 little-endian int32 (`[0]` = 20240520, `[1]` = 1, `[2]` = number of tokens), then
that many little-endian uint16 tokens. The stream reads shards in name order and wraps round.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hedge_record.errors import RecordError
from hedge_record.files import write_atomically

SHARD_MAGIC = 20240520
SHARD_VERSION = 1
SHARD_HEADER_INTS = 256
SHARD_HEADER_BYTES = 4 * SHARD_HEADER_INTS


def find_shards(folder: Path, split: str) -> tuple[Path, ...]:
    """The shards `fineweb_<split>_*.bin` of a folder in name order; `split` is `train` or `val`.

    Raises:
        RecordError: there is none.
    """
    paths = tuple(sorted(folder.glob(f"fineweb_{split}_*.bin")))
    if not paths:
        raise RecordError(
            f"{folder}: no shard fineweb_{split}_*.bin; "
            "make the folder with `hedge-record data embedded` or `hedge-record data fineweb`"
        )
    return paths


def shard_tokens_declared(path: Path, header: bytes) -> int:
    """The token count that a shard's first 1,024 bytes declare.

    Raises:
        RecordError: this is no shard of the challenge.
    """
    fields = np.frombuffer(header[: len(header) // 4 * 4], dtype="<i4")
    if fields.size < SHARD_HEADER_INTS or fields[0] != SHARD_MAGIC or fields[1] != SHARD_VERSION:
        raise RecordError(
            f"{path}: not a token shard (its header lacks {SHARD_MAGIC}, version {SHARD_VERSION})"
        )
    return int(fields[2])


def count_tokens(paths: Sequence[Path]) -> int:
    """The tokens that the headers of shards declare; no token is read.

    Raises:
        RecordError: a file cannot be read or is no shard.
    """
    total = 0
    for path in paths:
        try:
            with path.open("rb") as file:
                total += shard_tokens_declared(path, file.read(SHARD_HEADER_BYTES))
        except OSError as error:
            raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    return total


def read_shard(path: Path) -> np.ndarray:
    """The tokens of one shard, uint16.

    Raises:
        RecordError: missing, not a shard, or its size does not match its header.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    tokens = shard_tokens_declared(path, raw[:SHARD_HEADER_BYTES])
    expected = SHARD_HEADER_BYTES + 2 * tokens
    if len(raw) != expected:
        raise RecordError(
            f"{path}: {len(raw):,} bytes, but its header's {tokens:,} tokens make {expected:,}; "
            "fetch or write the shard again"
        )
    return np.frombuffer(raw, dtype="<u2", offset=SHARD_HEADER_BYTES)


def write_shard(path: Path, tokens: Sequence[int] | np.ndarray) -> None:
    """Writes one shard atomically.

    Raises:
        RecordError: a token does not fit uint16, or the file cannot be written.
    """
    array = np.asarray(tokens)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < 2**16:
        raise RecordError(f"{path}: tokens must lie in 0..65535 to be written as uint16")
    header = np.zeros(SHARD_HEADER_INTS, dtype="<i4")
    header[:3] = (SHARD_MAGIC, SHARD_VERSION, array.size)
    write_atomically(path, header.tobytes() + array.astype("<u2").tobytes())


def check_vocabulary(path: Path, tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """`tokens` themselves when every one of them is below `vocab_size`.

    Raises:
        RecordError: the shard was written with a larger vocabulary.
    """
    if tokens.size and int(tokens.max()) >= vocab_size:
        raise RecordError(
            f"{path}: holds token {int(tokens.max())}, but the model has {vocab_size} pieces; "
            "use the shards and the tokenizer of one data folder"
        )
    return tokens


def load_validation_tokens(paths: Sequence[Path], vocab_size: int = 2**16) -> Tensor:
    """All validation tokens in order, int64 [N].

    Raises:
        RecordError: a shard is damaged or holds tokens outside the vocabulary.
    """
    shards = [check_vocabulary(path, read_shard(path), vocab_size) for path in paths]
    return torch.from_numpy(np.concatenate(shards).astype(np.int64))


class TokenStream:
    """An endless stream over shards; its position can be kept and put back."""

    def __init__(self, paths: Sequence[Path], vocab_size: int = 2**16) -> None:
        if not paths:
            raise RecordError("a token stream needs at least one shard")
        self._paths = tuple(paths)
        self._vocab_size = vocab_size
        self._open(0, 0)

    def take(self, count: int) -> np.ndarray:
        """The next `count` tokens, uint16 [count].

        Raises:
            RecordError: a shard is damaged, or all shards are empty.
        """
        parts: list[np.ndarray] = []
        missing, barren = count, 0
        while missing > 0:
            part = self._tokens[self._position : self._position + missing]
            parts.append(part)
            self._position += part.size
            missing -= part.size
            if missing > 0:
                barren = 0 if part.size else barren + 1
                if barren > len(self._paths):
                    raise RecordError(f"{self._paths[0].parent}: every training shard is empty")
                self._open((self._shard + 1) % len(self._paths), 0)
        return np.concatenate(parts) if parts else self._tokens[:0]

    def state(self) -> dict[str, int]:
        """The position, for checkpoints."""
        return {"shard": self._shard, "position": self._position}

    def restore(self, state: dict[str, int]) -> None:
        """Goes back to a position that `state` returned."""
        self._open(state["shard"], state["position"])

    def _open(self, shard: int, position: int) -> None:
        path = self._paths[shard]
        self._tokens = check_vocabulary(path, read_shard(path), self._vocab_size)
        self._shard, self._position = shard, position


class BatchLoader:
    """Cuts the stream into the batches of optimizer steps.

    Every rank reads the same stream and keeps its own spans of it: how a step is cut does not
    depend on the number of ranks.
    """

    def __init__(self, stream: TokenStream, device: torch.device) -> None:
        self.stream = stream
        self._device = device

    def next_step(
        self, batch_tokens: int, sequence_length: int, spans: int, own: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the spans `own`, int64 [len(own), B, T], targets one ahead.

        A step of `batch_tokens` consists of `spans` consecutive pieces of equal size.

        Raises:
            RecordError: a span is not a multiple of the sequence length.
        """
        span_tokens, rest = divmod(batch_tokens, spans)
        if rest or span_tokens == 0 or span_tokens % sequence_length:
            raise RecordError(
                f"a batch of {batch_tokens:,} tokens does not split into sequences of "
                f"{sequence_length} over {spans} micro-batches"
            )
        rows = self.stream.take((span_tokens + 1) * spans).reshape(spans, span_tokens + 1)
        kept = torch.from_numpy(rows[list(own)].astype(np.int64))
        kept = kept.to(self._device, non_blocking=True)
        shape = (len(own), -1, sequence_length)
        return kept[:, :-1].reshape(shape), kept[:, 1:].reshape(shape)
