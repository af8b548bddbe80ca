"""The tiny data set of a rehearsal: token shards, a tokenizer, byte sidecars, all from seeds.

Formats as the challenge has them: a shard is 256 little-endian int32 (magic 20240520, version 1,
number of tokens, zeros) and uint16 tokens; every document starts with token 1. The tokenizer is a
SentencePiece model written here piece by piece, so that it exists for any vocabulary and has the
same bytes everywhere.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

MAGIC, VERSION, HEADER = 20240520, 1, 256
BOS = 1
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
_BYTES_FROM = 320  # the smallest vocabulary with room for the 256 byte pieces
_OPERATORS = "\ue001\ue002\ue003\ue004"  # CaseOps marks capitals by these
_SPACE = "\u2581"
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
_COMMON = 8  # pieces that make nine tenths of the text
_NORMAL, _UNKNOWN, _CONTROL, _USER, _BYTE = 1, 2, 3, 4, 6  # SentencePiece's piece types
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary. `text` is as the model spells it; `kind` as numbered above."""

    text: str
    kind: int

    @property
    def size(self) -> int:
        """Bytes of text that it stands for, its leading space included."""
        if self.kind in (_CONTROL, _UNKNOWN):
            return 0
        return 1 if self.kind == _BYTE else len(self.text.replace(_SPACE, " ").encode())


@dataclass(frozen=True)
class DataSet:
    """Files by path, and what probes want to know of them. `common` are the frequent tokens."""

    files: dict[str, bytes]
    pieces: tuple[Piece, ...]
    validation: tuple[int, ...]
    common: tuple[int, ...] = ()


def make_pieces(vocabulary: int) -> tuple[Piece, ...]:
    """A vocabulary of the given size: special pieces, bytes where they fit, letters, words."""
    if vocabulary < len(_SPECIAL) + 1 + 2 * len(_LETTERS):
        raise ValueError(f"a vocabulary of {vocabulary} has no room for the alphabet")
    pieces = [Piece(text, _UNKNOWN if text == "<unk>" else _CONTROL) for text in _SPECIAL]
    if vocabulary >= _BYTES_FROM:
        pieces += [Piece(f"<0x{value:02X}>", _BYTE) for value in range(256)]
        pieces += [Piece(operator, _USER) for operator in _OPERATORS]
    pieces.append(Piece(_SPACE, _NORMAL))  # byte tables ask for a space of its own
    pieces += [Piece(letter, _NORMAL) for letter in _LETTERS]
    pieces += [Piece(_SPACE + letter, _NORMAL) for letter in _LETTERS]
    number = 0
    while len(pieces) < vocabulary:
        pieces.append(Piece(_word(number), _NORMAL))
        number += 1
    return tuple(pieces)


def _word(number: int) -> str:
    """Two letters or more, every second one with a leading space; no two numbers alike."""
    rest, letters = number // 2 + len(_LETTERS), ""
    while rest:
        rest, digit = divmod(rest, len(_LETTERS))
        letters += _LETTERS[digit]
    return (_SPACE if number % 2 else "") + (letters if len(letters) > 1 else letters + "e")


def make_tokenizer(pieces: Sequence[Piece]) -> bytes:
    """A serialized SentencePiece `ModelProto` of type BPE with these pieces."""
    model = bytearray()
    for rank, piece in enumerate(pieces):
        text = piece.text.encode()
        body = _field(1, text) + b"\x15" + struct.pack("<f", -float(rank))
        model += _field(1, body + _number(3, piece.kind))
    byte_fallback = any(piece.kind == _BYTE for piece in pieces)
    ids = {name: number for number, name in enumerate(_SPECIAL)}
    trainer = _number(3, 2) + _number(4, len(pieces)) + _number(35, int(byte_fallback))
    trainer += _number(40, ids["<unk>"]) + _number(41, BOS) + _number(42, 2) + _number(43, 0)
    model += _field(2, trainer)
    model += _field(3, _field(1, b"identity") + _number(3, 0) + _number(4, 0) + _number(5, 1))
    return bytes(model)


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def make_shard(tokens: Sequence[int]) -> bytes:
    """Tokens with the challenge's header."""
    header = struct.pack("<3i", MAGIC, VERSION, len(tokens)) + bytes(4 * (HEADER - 3))
    return header + struct.pack(f"<{len(tokens)}H", *tokens)


def make_text(seed: int, count: int, pieces: Sequence[Piece], document: int) -> list[int]:
    """`count` tokens of documents of about `document` tokens each.

    Half of the tokens follow from the two before them, the others are drawn, and nine of ten are
    one of a few common ones: a dozen steps make a model peaked, and n-gram tables find repeats.
    """
    usable = [i for i, piece in enumerate(pieces) if piece.kind == _NORMAL]
    common = common_tokens(pieces)
    state, tokens, left = seed, [], 0
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        draw = _mix(state)
        if left == 0:
            tokens.append(BOS)
            left = max(2, document // 2 + draw % document)
            continue
        left -= 1
        follows = 5 * tokens[-1] + 3 * tokens[-2] + 7 if len(tokens) > 1 else 0
        choice, rare = divmod(follows if draw >> 63 else draw >> 8, 10)
        chosen = usable if rare == 0 else common
        tokens.append(chosen[choice % len(chosen)])
    return tokens


def common_tokens(pieces: Sequence[Piece]) -> tuple[int, ...]:
    """The tokens that make most of the text, with and without a leading space."""
    usable = [i for i, piece in enumerate(pieces) if piece.kind == _NORMAL]
    return tuple(usable[:: len(usable) // _COMMON][:_COMMON])


def _mix(z: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def make_data(
    vocabulary: int,
    *,
    train_tokens: int = 65_536,
    validation_tokens: int = 1_025,
    document: int = 96,
    seed: int = 700,
) -> DataSet:
    """Two training shards, one validation shard with its byte sidecar, and the tokenizer."""
    pieces = make_pieces(vocabulary)
    train = make_text(seed, train_tokens, pieces, document)
    validation = make_text(seed + 1, validation_tokens, pieces, document)
    sizes = [pieces[token].size for token in validation]
    half = len(train) // 2
    files = {
        "shards/fineweb_train_000000.bin": make_shard(train[:half]),
        "shards/fineweb_train_000001.bin": make_shard(train[half:]),
        "shards/fineweb_val_000000.bin": make_shard(validation),
        "shards/fineweb_val_bytes_000000.bin": make_shard(sizes),
        "tokenizer.model": make_tokenizer(pieces),
        "tokenizer.vocab": "".join(
            f"{piece.text}\t{-rank}\n" for rank, piece in enumerate(pieces)
        ).encode(),
    }
    return DataSet(files, pieces, tuple(validation), common_tokens(pieces))
