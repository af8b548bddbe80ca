"""embedded: one file that trains, exports and scores; bundled from hedge_record."""


import copy
import io
import json
import math
import numpy as np
import os
import platform
import re
import sentencepiece
import signal
import tempfile
import time
import torch
import torch.distributed as dist
import torch.nn.functional as F
import zstandard
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from torch import Tensor, nn
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous
from types import FrameType
from typing import Any, Literal, NamedTuple, Protocol, TypeGuard, TypeVar, cast
from zlib import crc32


# hedge_record.config

ARTIFACT_LIMIT_BYTES = 16_000_000


@dataclass(frozen=True)
class ModelConfig:

    vocab_size: int = 1024
    layers: int = 11
    width: int = 512
    heads: int = 8
    kv_heads: int = 8
    mlp_multiple: float = 3.5
    tie_embeddings: bool = True
    embedding_std: float = 0.005
    logit_softcap: float = 30.0
    bigram_buckets: int = 6144
    bigram_width: int = 128
    value_embedding: bool = True
    value_embedding_width: int = 128
    value_embedding_layers: tuple[int, ...] = (9, 10)
    xsa_layers: int = 11  # exclusive self-attention on the last so many blocks
    rope_dims: int = 16
    rope_base: float = 10_000.0
    # The length above which the rotary base is stretched (NTK). PR 700 left it at 1,024 while
    # training at 2,048; PR 714 set it to the real training length.
    rope_training_length: int = 2048
    # PR 700 cast its frequencies to the model's bfloat16 with everything else, so sequences of at
    # most `rope_training_length` turned by rounded positions; longer ones computed theirs anew.
    rope_angles: Literal["float32", "model"] = "float32"
    qk_gain: float = 1.5
    depth_scale: bool = True  # inputs of block i scaled by 1/sqrt(i+1)
    depth_gate: bool = False  # the original's DTG_ENABLED


@dataclass(frozen=True)
class TrainingConfig:

    iterations: int = 20_000
    seconds: float | None = 600.0  # wall-clock budget; None trains for `iterations` steps
    reserved_seconds: float = 18.0  # of the budget, kept for the Hessians
    batch_tokens: int = 786_432
    sequence_length: int = 2048
    micro_batches: int = 8  # over all ranks together, hence also the most ranks there can be
    merge_micro_batches: bool = False  # each rank runs its own in one pass: pays for small ones
    warmup_steps: int = 20  # run, then undone: they only heat caches and compilers
    warmdown_steps: int = 3500
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    matrix_lr: float = 0.025
    embedding_lr: float = 0.035
    scalar_lr: float = 0.025
    weight_decay: float = 0.04  # Muon's
    adam_weight_decay: float = 0.04
    adam_betas: tuple[float, float] = (0.9, 0.95)
    adam_epsilon: float = 1e-8
    muon_momentum: float = 0.99
    muon_momentum_start: float = 0.92
    muon_momentum_warmup_steps: int = 1500
    newton_schulz_steps: int = 5
    gradient_clip: float = 0.3
    qat_lr_threshold: float = 0.5  # fake quantisation starts when the LR scale falls below it
    qat_rounding: Literal["straight-through", "soft", "off"] = "straight-through"
    qat_soft_alpha: float = 5.0
    qat_clip_percentile: float = 0.9995
    crown_q_lambda: float = 0.01
    ema_decay: float = 0.997
    log_every: int = 50
    checkpoint_every_seconds: float = 30.0


@dataclass(frozen=True)
class ExportConfig:

    gptq: Literal["cholesky", "as-submitted"] = "cholesky"
    clip_range: int = 15  # int5: codes -15..15
    # The smallest step between two codes, in export and in quantisation-aware training alike.
    # PR 700's is 1/clip_range: rows of small weights get fewer levels, and the artifact shrinks.
    scale_floor: float = 1 / 15
    gptq_block: int = 128
    gptq_damping: float = 0.01
    clip_percentiles: tuple[float, ...] = (0.999, 0.9995, 0.9999, 0.99999, 1.0)
    calibration_sequences: int = 128
    prune_fraction: float = 0.03
    small_tensor_elements: int = (
        65_536  # at most so many elements: float16, neither pruned nor int5
    )
    zstd_level: int = 22


@dataclass(frozen=True)
class EvaluationConfig:

    sequence_length: int = 2048
    stride: int = 64
    batch_windows: int = 32
    # The original's last windows all scored the same final targets again.
    score_tail_repeatedly: bool = False
    ttt_epochs: int = 4
    ttt_chunk_tokens: int = 131_072
    # Over all ranks together: each of the original's eight took the eight that a chunk gave it.
    ttt_batch_sequences: int = 64
    ttt_lr: float = 1e-4
    ttt_lr_cosine: bool = True  # the rate falls to 0 over the chunks
    ttt_lr_ramp: float = 3.0
    ttt_lr_ramp_fraction: float = 0.3
    ttt_gradient_clip: float = 1.0
    ttt_unfrozen_blocks: int = 2
    ttt_polyak_decay: float = 0.998
    ttt_byte_weighted: bool = True
    temperature: float = 0.98
    mixer: Literal["off", "compliant", "as-submitted"] = "compliant"
    mixer_block_tokens: int = 1024  # compliant: targets that are scored before they are counted
    mixer_experts: tuple[str, ...] = (  # compliant: those that take part
        *("neural", "unigram", "bigram", "trigram", "4-gram", "5-gram", "skip", "recent"),
    )
    mixer_eta: float = 0.1  # as-submitted
    mixer_gate_tokens: int = 10_000  # as-submitted: before so many tokens the model scores alone
    ngram_buckets: int = 65_536  # rows of each table of hashed contexts


@dataclass(frozen=True)
class RecordConfig:

    name: str = "compliant"
    seed: int = 1337
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def as_submitted() -> RecordConfig:
    return RecordConfig(
        name="as-submitted",
        model=ModelConfig(rope_training_length=1024, rope_angles="model"),
        export=ExportConfig(gptq="as-submitted"),
        evaluation=EvaluationConfig(mixer="as-submitted", score_tail_repeatedly=True),
    )


def compliant() -> RecordConfig:
    return RecordConfig()


def embedded() -> RecordConfig:
    return RecordConfig(
        name="embedded",
        model=ModelConfig(
            layers=6,
            width=160,
            heads=4,
            kv_heads=4,
            bigram_buckets=2048,
            bigram_width=48,
            value_embedding_width=48,
            value_embedding_layers=(4, 5),
            xsa_layers=6,
            rope_training_length=256,
        ),
        # Measured: small batches of short sequences learn most in the time.
        training=TrainingConfig(
            iterations=600,
            seconds=None,
            reserved_seconds=0.0,
            batch_tokens=2048,
            sequence_length=128,
            merge_micro_batches=True,
            warmup_steps=2,
            warmdown_steps=300,
            precision="float32",
            muon_momentum_start=0.85,
            muon_momentum=0.95,
            muon_momentum_warmup_steps=150,
            qat_lr_threshold=0.25,
            ema_decay=0.97,
            log_every=50,
        ),
        export=ExportConfig(
            calibration_sequences=64, small_tensor_elements=16_384, scale_floor=0.0
        ),
        evaluation=EvaluationConfig(
            sequence_length=256,
            stride=128,
            ttt_chunk_tokens=1024,
            # A small and little trained model gains by adapting as a whole, often, at one rate,
            # and on nats as they are. On the development split these rates gain the model 0.08 bpb
            # over 3e-4 with a cosine every 8,192 tokens; beside the mixer 0.01 of it is left.
            ttt_unfrozen_blocks=6,
            ttt_batch_sequences=8,
            ttt_lr=1.2e-3,
            ttt_lr_cosine=False,
            ttt_lr_ramp=1.0,
            ttt_epochs=2,
            ttt_polyak_decay=0.9,
            ttt_byte_weighted=False,
            mixer_block_tokens=64,
        ),
    )


def tiny() -> RecordConfig:
    base = embedded()
    return replace(
        base,
        name="tiny",
        model=replace(
            base.model,
            vocab_size=384,  # byte pieces alone are 256
            layers=4,
            width=64,
            heads=2,
            kv_heads=2,
            bigram_buckets=256,
            bigram_width=16,
            value_embedding_width=16,
            value_embedding_layers=(2, 3),
            xsa_layers=4,
            rope_training_length=64,
        ),
        training=replace(
            base.training, iterations=30, batch_tokens=1024, sequence_length=64, warmdown_steps=15
        ),
        export=replace(base.export, calibration_sequences=8, small_tensor_elements=4096),
        evaluation=replace(
            base.evaluation,
            sequence_length=64,
            stride=16,
            ttt_chunk_tokens=1024,
            ttt_unfrozen_blocks=4,
            ttt_epochs=1,
            mixer_block_tokens=64,
            mixer_gate_tokens=1000,
            ngram_buckets=4096,
        ),
    )


PRESETS = {
    "as-submitted": as_submitted,
    "compliant": compliant,
    "embedded": embedded,
    "tiny": tiny,
}


# hedge_record.errors

class RecordError(Exception):
    pass


# hedge_record.data.byte_table

@dataclass(frozen=True)
class ByteTable:

    base_bytes: Tensor
    has_leading_space: Tensor
    is_boundary: Tensor

    @classmethod
    def from_sentencepiece(cls, path: Path) -> "ByteTable":
        tokenizer = load_tokenizer(path)
        size = tokenizer.vocab_size()
        base_bytes = torch.zeros(size, dtype=torch.int32)
        has_leading_space = torch.zeros(size, dtype=torch.bool)
        is_boundary = torch.zeros(size, dtype=torch.bool)
        for token in range(size):
            if (
                tokenizer.is_control(token)
                or tokenizer.is_unknown(token)
                or tokenizer.is_unused(token)
            ):
                is_boundary[token] = True
            elif tokenizer.is_byte(token):
                base_bytes[token] = 1
            else:
                piece = tokenizer.id_to_piece(token)
                has_leading_space[token] = piece.startswith("▁")
                # A further `▁` inside the piece decodes to a space as well: one byte, not three.
                text = piece.removeprefix("▁").replace("▁", " ")
                base_bytes[token] = len(text.encode("utf-8"))
        return cls(base_bytes, has_leading_space, is_boundary)

    @property
    def vocab_size(self) -> int:
        return self.base_bytes.numel()

    def to(self, device: torch.device) -> "ByteTable":
        return ByteTable(
            self.base_bytes.to(device),
            self.has_leading_space.to(device),
            self.is_boundary.to(device),
        )

    def target_bytes(self, inputs: Tensor, targets: Tensor) -> Tensor:
        space = self.has_leading_space[targets] & ~self.is_boundary[inputs]
        return self.base_bytes[targets] + space.int()


def load_tokenizer(path: Path) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: the tokenizer cannot be read ({error.strerror})") from error
    except RuntimeError as error:
        raise RecordError(f"{path}: not a SentencePiece model") from error


# hedge_record.files

def make_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be written to ({error.strerror}); choose another folder"
        ) from error
    return path


def write_atomically(path: Path, data: bytes | str) -> None:
    raw = data.encode("utf-8") if isinstance(data, str) else data
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(raw)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RecordError(f"{path}: cannot be written ({error.strerror})") from error


def append_line(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise RecordError(f"{path}: cannot be written ({error.strerror})") from error


# hedge_record.data.shards

SHARD_MAGIC = 20240520
SHARD_VERSION = 1
SHARD_HEADER_INTS = 256
SHARD_HEADER_BYTES = 4 * SHARD_HEADER_INTS


def find_shards(folder: Path, split: str) -> tuple[Path, ...]:
    paths = tuple(sorted(folder.glob(f"fineweb_{split}_*.bin")))
    if not paths:
        raise RecordError(
            f"{folder}: no shard fineweb_{split}_*.bin; "
            "make the folder with `hedge-record data embedded` or `hedge-record data fineweb`"
        )
    return paths


def shard_tokens_declared(path: Path, header: bytes) -> int:
    fields = np.frombuffer(header[: len(header) // 4 * 4], dtype="<i4")
    if fields.size < SHARD_HEADER_INTS or fields[0] != SHARD_MAGIC or fields[1] != SHARD_VERSION:
        raise RecordError(
            f"{path}: not a token shard (its header lacks {SHARD_MAGIC}, version {SHARD_VERSION})"
        )
    return int(fields[2])


def count_tokens(paths: Sequence[Path]) -> int:
    total = 0
    for path in paths:
        try:
            with path.open("rb") as file:
                total += shard_tokens_declared(path, file.read(SHARD_HEADER_BYTES))
        except OSError as error:
            raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    return total


def read_shard(path: Path) -> np.ndarray:
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
    array = np.asarray(tokens)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < 2**16:
        raise RecordError(f"{path}: tokens must lie in 0..65535 to be written as uint16")
    header = np.zeros(SHARD_HEADER_INTS, dtype="<i4")
    header[:3] = (SHARD_MAGIC, SHARD_VERSION, array.size)
    write_atomically(path, header.tobytes() + array.astype("<u2").tobytes())


def check_vocabulary(path: Path, tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    if tokens.size and int(tokens.max()) >= vocab_size:
        raise RecordError(
            f"{path}: holds token {int(tokens.max())}, but the model has {vocab_size} pieces; "
            "use the shards and the tokenizer of one data folder"
        )
    return tokens


def load_validation_tokens(paths: Sequence[Path], vocab_size: int = 2**16) -> Tensor:
    shards = [check_vocabulary(path, read_shard(path), vocab_size) for path in paths]
    return torch.from_numpy(np.concatenate(shards).astype(np.int64))


class TokenStream:

    def __init__(self, paths: Sequence[Path], vocab_size: int = 2**16) -> None:
        if not paths:
            raise RecordError("a token stream needs at least one shard")
        self._paths = tuple(paths)
        self._vocab_size = vocab_size
        self._open(0, 0)

    def take(self, count: int) -> np.ndarray:
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
        return {"shard": self._shard, "position": self._position}

    def restore(self, state: dict[str, int]) -> None:
        self._open(state["shard"], state["position"])

    def _open(self, shard: int, position: int) -> None:
        path = self._paths[shard]
        self._tokens = check_vocabulary(path, read_shard(path), self._vocab_size)
        self._shard, self._position = shard, position


class BatchLoader:

    def __init__(self, stream: TokenStream, device: torch.device) -> None:
        self.stream = stream
        self._device = device

    def next_step(
        self, batch_tokens: int, sequence_length: int, spans: int, own: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
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


# hedge_record.data.folder

MINIMUM_VALIDATION_TOKENS = 1024


@dataclass(frozen=True)
class DataFolder:

    path: Path
    tokenizer: Path

    def training_stream(self, vocab_size: int) -> TokenStream:
        return TokenStream(find_shards(self.path, "train"), vocab_size)

    def check_validation_size(self, sequence_length: int) -> None:
        count = count_tokens(find_shards(self.path, "val"))
        needed = max(sequence_length + 1, MINIMUM_VALIDATION_TOKENS)
        if count < needed:
            raise RecordError(
                f"{self.path}: {count:,} validation tokens are too few for a score; "
                f"give text for at least {needed:,}"
            )

    def validation_tokens(self, vocab_size: int, sequence_length: int) -> Tensor:
        self.check_validation_size(sequence_length)
        return load_validation_tokens(find_shards(self.path, "val"), vocab_size)

    def byte_table(self, vocab_size: int) -> ByteTable:
        table = ByteTable.from_sentencepiece(self.tokenizer)
        if table.vocab_size != vocab_size:
            raise RecordError(
                f"{self.tokenizer}: {table.vocab_size} pieces, but the model has {vocab_size}; "
                "choose a preset or a tokenizer with the same vocabulary"
            )
        return table


def open_data_folder(path: Path) -> DataFolder:
    if not path.is_dir():
        raise RecordError(f"{path}: no such folder; give one that holds shards and a tokenizer")
    find_shards(path, "train")
    find_shards(path, "val")
    vocabulary = path.name.rpartition("_sp")[2]
    candidates = sorted(path.glob("*.model")) or sorted(
        path.parent.parent.glob(f"tokenizers/*_{vocabulary}_bpe.model")
    )
    if len(candidates) != 1:
        found = ", ".join(candidate.name for candidate in candidates) or "none"
        raise RecordError(f"{path}: needs exactly one tokenizer *.model, found {found}")
    return DataFolder(path, candidates[0])


# hedge_record.evaluation.bits_per_byte

@dataclass(frozen=True)
class Score:

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, nll: Tensor, target_bytes: Tensor) -> "Score":
        return cls(float(nll.double().sum()), nll.numel(), int(target_bytes.sum()))

    def __add__(self, other: "Score") -> "Score":
        return Score(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes)

    @property
    def loss(self) -> float:
        if not self.tokens:
            raise RecordError("no validation target was scored: the validation text is too short")
        return self.nats / self.tokens

    @property
    def bpb(self) -> float:
        if not self.bytes:
            raise RecordError("the scored targets stand for 0 bytes: give a validation text")
        return self.nats / math.log(2) / self.bytes


# hedge_record.evaluation.temperature

def adaptive_temperature(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 1:
        return logits
    entropy = softmax_entropy(torch.log_softmax(logits, dim=-1)).unsqueeze(-1)
    sharpness = (1 - temperature) * (1 - entropy / math.log(logits.shape[-1]))
    return logits / (1 - sharpness).clamp(0.9, 1.05)


def softmax_entropy(log_probs: Tensor) -> Tensor:
    entropy: Tensor = -torch.linalg.vecdot(log_probs.exp(), log_probs)
    return entropy


# hedge_record.model.linear

@dataclass(frozen=True)
class FakeQuantization:

    rounding: Literal["straight-through", "soft"] = "straight-through"
    clip_range: int = 15
    clip_percentile: float = 0.9995
    soft_alpha: float = 5.0
    scale_floor: float = 1 / 15


def row_quantile(values: Tensor, fraction: float) -> Tensor:
    columns = values.shape[1]
    position = fraction * (columns - 1)
    below = math.floor(position)
    largest = values.topk(columns - below, dim=1).values
    upper = largest[:, -2] if columns - below > 1 else largest[:, -1]
    return torch.lerp(largest[:, -1], upper, position - below)


def soft_round(values: Tensor, alpha: float) -> Tensor:
    floor = values.floor()
    centred = values - floor - 0.5
    return floor + 0.5 * torch.tanh(alpha * centred) / math.tanh(alpha / 2) + 0.5


def fake_quantize(weight: Tensor, setting: FakeQuantization) -> Tensor:
    weight = weight.float()
    limit = setting.clip_range
    with torch.no_grad():
        # 1e-12 only keeps rows of zeros from 0/0.
        floor = max(setting.scale_floor, 1e-12)
        scale = (row_quantile(weight.abs(), setting.clip_percentile) / limit).clamp_min(floor)
        scale = scale[:, None]
    if setting.rounding == "soft":
        return soft_round(weight / scale, setting.soft_alpha).clamp(-limit - 1, limit) * scale
    with torch.no_grad():
        error = (weight / scale).round().clamp(-limit - 1, limit) * scale - weight
    return weight + error


class CastedLinear(nn.Linear):

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        # Set here, not on the class: a compiled graph is found again when None comes back.
        self.fake_quantization: FakeQuantization | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        weight = self.weight
        if self.training and self.fake_quantization is not None:
            weight = fake_quantize(weight, self.fake_quantization)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, weight.to(input.dtype), bias)


def set_fake_quantization(model: nn.Module, setting: FakeQuantization | None) -> None:
    for module in model.modules():
        if isinstance(module, CastedLinear):
            module.fake_quantization = setting


# hedge_record.model.rotary

@dataclass(frozen=True)
class Rotation:

    cosine: Tensor
    sine: Tensor


def rotation_for(
    length: int,
    *,
    dims: int,
    base: float,
    training_length: int,
    device: torch.device,
    dtype: torch.dtype,
    angles_in: torch.dtype = torch.float32,
) -> Rotation:
    if length > training_length:
        base *= (length / training_length) ** (dims / (dims - 2))
        angles_in = torch.float32
    exponents = torch.arange(0, dims, 2, dtype=torch.float32, device=device) / dims
    positions = torch.arange(length, dtype=angles_in, device=device)
    frequencies = (base**-exponents).to(angles_in)
    angles = torch.outer(positions, frequencies)[None, :, None, :]
    return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    half = rotation.cosine.shape[-1]
    first, second, rest = heads[..., :half], heads[..., half : 2 * half], heads[..., 2 * half :]
    cosine, sine = rotation.cosine, rotation.sine
    turned = (first * cosine + second * sine, second * cosine - first * sine, rest)
    return torch.cat(turned, dim=-1)


# hedge_record.model.attention

try:  # FlashAttention 3 exists on Hopper GPUs only.
    from flash_attn_interface import flash_attn_func
except ImportError:
    flash_attn_func = None


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    if flash_attn_func is not None and query.is_cuda and query.dtype != torch.float32:
        attended = flash_attn_func(query, key, value, causal=True)
        # Early releases return the log-sum-exp beside the output.
        return cast(Tensor, attended[0] if isinstance(attended, tuple) else attended)
    return F.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        is_causal=True,
        enable_gqa=query.shape[2] != key.shape[2],
    ).transpose(1, 2)


def exclude_own_value(attended: Tensor, value: Tensor) -> Tensor:
    batch, length, heads, dims = attended.shape
    grouped = attended.reshape(batch, length, value.shape[2], -1, dims)
    direction = F.normalize(value, dim=-1).unsqueeze(-2)
    own = (grouped * direction).sum(dim=-1, keepdim=True) * direction
    return (grouped - own).reshape(batch, length, heads, dims)


class CausalSelfAttention(nn.Module):

    def __init__(self, config: ModelConfig, *, exclusive: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.kv_heads = config.kv_heads
        self.head_dims = config.width // config.heads
        self.exclusive = exclusive
        kv_width = self.kv_heads * self.head_dims
        self.c_q = CastedLinear(config.width, config.width, bias=False)
        self.c_k = CastedLinear(config.width, kv_width, bias=False)
        self.c_v = CastedLinear(config.width, kv_width, bias=False)
        self.proj = CastedLinear(config.width, config.width, bias=False)
        self.q_gain = nn.Parameter(torch.full((config.heads,), config.qk_gain))

    def forward(self, x: Tensor, rotation: Rotation, value_embedding: Tensor | None) -> Tensor:
        batch, length, width = x.shape
        query = self.c_q(x).view(batch, length, self.heads, self.head_dims)
        key = self.c_k(x).view(batch, length, self.kv_heads, self.head_dims)
        value = self.c_v(x)
        if value_embedding is not None:
            value = value + value_embedding
        value = value.view(batch, length, self.kv_heads, self.head_dims)
        query = rotate(F.rms_norm(query, (self.head_dims,)), rotation)
        key = rotate(F.rms_norm(key, (self.head_dims,)), rotation)
        query = query * self.q_gain.to(query.dtype)[:, None]
        attended = causal_attention(query, key, value)
        if self.exclusive:
            attended = exclude_own_value(attended, value)
        return cast(Tensor, self.proj(attended.reshape(batch, length, width)))


# hedge_record.model.block

class MLP(nn.Module):

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc = CastedLinear(width, hidden, bias=False)
        self.proj = CastedLinear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.proj(F.leaky_relu(self.fc(x), 0.5).square()))


class Block(nn.Module):

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        width = config.width
        exclusive = index >= config.layers - config.xsa_layers
        self.attn = CausalSelfAttention(config, exclusive=exclusive)
        self.mlp = MLP(width, int(config.mlp_multiple * width))
        self.attn_scale = nn.Parameter(torch.ones(width))
        self.mlp_scale = nn.Parameter(torch.ones(width))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(width), torch.zeros(width))))
        self.input_scale = 1 / math.sqrt(index + 1) if config.depth_scale else 1.0
        self.dtg_gate = nn.Linear(width, 1) if config.depth_gate else None

    def forward(
        self, x: Tensor, x0: Tensor, rotation: Rotation, value_embedding: Tensor | None
    ) -> Tensor:
        dtype = x.dtype
        mix = self.resid_mix.to(dtype)
        x_in = mix[0] * x + mix[1] * x0
        attended: Tensor = self.attn(self._normed(x_in), rotation, value_embedding)
        out: Tensor = x_in + self.attn_scale.to(dtype) * attended
        out = out + self.mlp_scale.to(dtype) * self.mlp(self._normed(out))
        if self.dtg_gate is None:
            return out
        # The gate judges its input without steering it, hence the detach.
        weight, bias = self.dtg_gate.weight.to(dtype), self.dtg_gate.bias.to(dtype)
        gate = torch.sigmoid(F.linear(x_in.detach(), weight, bias))
        return torch.lerp(x_in, out, gate)

    def _normed(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],)) * self.input_scale


# hedge_record.model.embedding

def bigram_buckets(tokens: Tensor, buckets: int) -> Tensor:
    hashed = (36313 * tokens[..., 1:]) ^ (27191 * tokens[..., :-1])
    first = torch.full_like(tokens[..., :1], buckets - 1)
    return torch.cat((first, hashed % (buckets - 1)), dim=-1)


class ProjectedEmbedding(nn.Module):

    def __init__(self, rows: int, embedding_width: int, width: int, scale: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(rows, embedding_width)
        self.proj = (
            nn.Identity()
            if embedding_width == width
            else CastedLinear(embedding_width, width, bias=False)
        )
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, indices: Tensor) -> Tensor:
        projected: Tensor = self.proj(self.embed(indices))
        return projected * self.scale.to(projected.dtype)


class BigramHashEmbedding(ProjectedEmbedding):

    def __init__(self, buckets: int, embedding_width: int, width: int) -> None:
        super().__init__(buckets, embedding_width, width, scale=0.05)

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(bigram_buckets(tokens, self.embed.num_embeddings))


class ValueEmbedding(ProjectedEmbedding):

    def __init__(self, vocab_size: int, embedding_width: int, width: int) -> None:
        super().__init__(vocab_size, embedding_width, width, scale=0.1)


class SmearGate(nn.Module):

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        share = torch.sigmoid(self.gate.to(x.dtype))
        previous = nn.functional.pad(x, (0, 0, 1, 0))[:, :-1]
        return (1 - share) * x + share * previous


# hedge_record.model.gpt

def check_model_config(config: ModelConfig) -> None:
    head_dims = config.width // config.heads
    demands = (
        (config.width % config.heads == 0, "width must be a multiple of heads"),
        (config.heads % config.kv_heads == 0, "heads must be a multiple of kv_heads"),
        (config.rope_dims % 2 == 0, "rope_dims must be even"),
        (2 < config.rope_dims <= head_dims, f"rope_dims must lie in 4..{head_dims} (head width)"),
        (config.logit_softcap > 0, "logit_softcap must be positive"),
        (config.bigram_buckets > 1, "bigram_buckets must be at least 2"),
        (
            not config.value_embedding
            or all(0 <= layer < config.layers for layer in config.value_embedding_layers),
            f"value_embedding_layers must lie in 0..{config.layers - 1}",
        ),
    )
    for holds, demand in demands:
        if not holds:
            raise RecordError(f"model configuration: {demand}")


class GPT(nn.Module):

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        check_model_config(config)
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.width)
        self.bigram = BigramHashEmbedding(config.bigram_buckets, config.bigram_width, config.width)
        self.smear = SmearGate(config.width)
        self.pushing_blocks = config.layers // 2
        self.skip_weights = nn.Parameter(torch.ones(self.pushing_blocks, config.width))
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.layers))
        self.value_layers = config.value_embedding_layers if config.value_embedding else ()
        if self.value_layers:
            kv_width = config.kv_heads * (config.width // config.heads)
            self.ve_shared = ValueEmbedding(
                config.vocab_size, config.value_embedding_width, kv_width
            )
            self.ve_layer_scales = nn.ParameterList(torch.ones(1) for _ in self.value_layers)
        self.lm_head = (
            None
            if config.tie_embeddings
            else CastedLinear(config.width, config.vocab_size, bias=False)
        )
        initialize_parameters(self)

    def forward(self, input_ids: Tensor, target_ids: Tensor) -> Tensor:
        logits = self.forward_logits(input_ids).float()
        return F.cross_entropy(logits.flatten(0, 1), target_ids.flatten())

    def forward_logits(self, input_ids: Tensor) -> Tensor:
        return self.project(self.hidden(input_ids))

    def project(self, hidden: Tensor) -> Tensor:
        logits = (
            F.linear(hidden, self.tok_emb.weight) if self.lm_head is None else self.lm_head(hidden)
        )
        softcap = self.config.logit_softcap
        return softcap * torch.tanh(logits / softcap)

    def hidden(self, input_ids: Tensor) -> Tensor:
        x = self.tok_emb(input_ids) + self.bigram(input_ids)
        x = self.smear(F.rms_norm(x, (self.config.width,)))
        x0 = x
        rotation = self._rotation(x)
        values = self._value_embeddings(input_ids)
        skips: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if index >= self.pushing_blocks and skips:
                weight = self.skip_weights[index - self.pushing_blocks].to(x.dtype)
                x = x + weight * skips.pop()
            x = block(x, x0, rotation, values.get(index))
            if index < self.pushing_blocks:
                skips.append(x)
        return F.rms_norm(x, (self.config.width,))

    def _rotation(self, x: Tensor) -> Rotation:
        return rotation_for(
            x.shape[1],
            dims=self.config.rope_dims,
            base=self.config.rope_base,
            training_length=self.config.rope_training_length,
            device=x.device,
            dtype=x.dtype,
            angles_in=x.dtype if self.config.rope_angles == "model" else torch.float32,
        )

    def _value_embeddings(self, input_ids: Tensor) -> dict[int, Tensor]:
        if not self.value_layers:
            return {}
        shared = self.ve_shared(input_ids)
        return {
            layer: shared * scale.to(shared.dtype)
            for layer, scale in zip(self.value_layers, self.ve_layer_scales, strict=True)
        }


def initialize_parameters(model: GPT) -> None:
    config = model.config
    residual_gain = 1 / math.sqrt(2 * config.layers)
    if config.tie_embeddings:
        nn.init.normal_(model.tok_emb.weight, std=config.embedding_std)
    nn.init.zeros_(model.bigram.embed.weight)
    if model.value_layers:
        nn.init.normal_(model.ve_shared.embed.weight, std=0.01)
    for name, module in model.named_modules():
        if name.endswith((".attn.proj", ".mlp.proj")) or name == "lm_head":
            nn.init.zeros_(module.weight)
        elif name.endswith(".dtg_gate"):
            nn.init.zeros_(module.weight)
            nn.init.constant_(module.bias, 2.0)
        elif isinstance(module, CastedLinear):
            nn.init.orthogonal_(module.weight, gain=residual_gain if name.endswith(".proj") else 1)


# hedge_record.training.distributed

LOST_RANK = "another rank was lost; the same command continues from the last checkpoint"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share_of(self, items: Sequence[Item]) -> Sequence[Item]:
        first = len(items) * self.rank // self.world_size
        return items[first : len(items) * (self.rank + 1) // self.world_size]


def current_ranks() -> Ranks:
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


def torchrun_variable(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise RecordError(f"environment variable {name} is {text!r}; torchrun sets an integer")
    return int(text)


@contextmanager
def connected_ranks() -> Iterator[tuple[Ranks, torch.device]]:
    world_size = torchrun_variable("WORLD_SIZE", 1)
    local_rank = torchrun_variable("LOCAL_RANK", 0)
    cuda = torch.cuda.is_available()
    if cuda and local_rank >= torch.cuda.device_count():
        raise RecordError(
            f"local rank {local_rank} has no GPU ({torch.cuda.device_count()} here); "
            "start torchrun with --nproc_per_node at most the number of GPUs"
        )
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world_size == 1:
        yield Ranks(), device
        return
    store, rank, world_size = next(rendezvous("env://"))
    dist.init_process_group(
        "nccl" if cuda else "gloo", store=store, rank=rank, world_size=world_size
    )
    # torchrun ends the other ranks by SIGTERM as soon as it misses one.
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        yield current_ranks(), device
    except RecordError:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not _is_first_to_fail(store):
            raise SystemExit(2) from None
        raise
    signal.signal(signal.SIGTERM, before)
    dist.destroy_process_group()


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    raise RecordError(LOST_RANK)


def _is_first_to_fail(store: Store) -> bool:
    try:
        return bool(store.add("failed_ranks", 1) == 1)
    except RuntimeError:  # The store went with its process: better several messages than none.
        return True


@contextmanager
def _all_ranks_alive() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RecordError(LOST_RANK) from error


def sum_over_ranks(tensor: Tensor) -> Tensor:
    if current_ranks().world_size > 1:
        with _all_ranks_alive():
            dist.all_reduce(tensor)
    return tensor


def gather_rows(rows: Tensor) -> tuple[Tensor, slice]:
    ranks = current_ranks()
    if ranks.world_size == 1:
        return rows, slice(0, len(rows))
    sizes = torch.zeros(ranks.world_size, dtype=torch.int64, device=rows.device)
    sizes[ranks.rank] = len(rows)
    counts = sum_over_ranks(sizes).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    received = [torch.empty_like(padded) for _ in counts]
    with _all_ranks_alive():
        dist.all_gather(received, padded)
    gathered = torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])
    first = sum(counts[: ranks.rank])
    return gathered, slice(first, first + len(rows))


def copy_from_first_rank(tensors: Iterable[Tensor]) -> None:
    if current_ranks().world_size > 1:
        with _all_ranks_alive():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def sum_gradients(gradients: Iterable[Tensor]) -> None:
    if current_ranks().world_size == 1:
        return
    by_dtype = sorted(gradients, key=lambda gradient: str(gradient.dtype))
    for _, members in groupby(by_dtype, key=lambda gradient: gradient.dtype):
        group = list(members)
        flat = sum_over_ranks(torch.cat([gradient.flatten() for gradient in group]))
        parts = torch.split(flat, [gradient.numel() for gradient in group])
        for gradient, part in zip(group, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def share_figures(loss: float, seconds: float, device: torch.device) -> tuple[float, float]:
    ranks = current_ranks()
    if ranks.world_size == 1:
        return loss, seconds
    own = (loss, seconds if ranks.is_first else 0.0)
    whole_loss, first_seconds = sum_over_ranks(
        torch.tensor(own, dtype=torch.float64, device=device)
    ).tolist()
    return whole_loss, first_seconds


# hedge_record.evaluation.windows

class Window(NamedTuple):

    start: int
    length: int
    scored_from: int

    @property
    def first_scored(self) -> int:
        return self.start + self.scored_from

    @property
    def end(self) -> int:
        return self.start + self.length


class WindowBatch(NamedTuple):

    model: GPT
    windows: Sequence[Window]
    inputs: Tensor  # int64 [B, T]
    targets: Tensor  # int64 [B, T]
    hidden: Tensor  # [B, T, width]

    def scored(self, values: Tensor) -> Tensor:
        rows = (
            row[window.scored_from : window.length]
            for row, window in zip(values, self.windows, strict=True)
        )
        return torch.cat([values[:0].flatten(0, 1), *rows])

    def scored_logits(self) -> Tensor:
        return self.model.project(self.scored(self.hidden)).float()

    def all_logits(self) -> Tensor:
        return self.model.project(self.hidden).float()

    def lengths(self) -> list[int]:
        return [window.length for window in self.windows]


def plan_windows(
    position_count: int, config: EvaluationConfig, shortest_tail: int = 1
) -> list[Window]:
    length, stride = config.sequence_length, config.stride
    if not 0 < stride <= length:
        raise RecordError(f"evaluation: stride {stride} must lie in 1..{length} (sequence_length)")
    windows = []
    for start in range(0, position_count, stride):
        held = min(length, position_count - start)
        if config.score_tail_repeatedly:
            if start == 0 or held >= shortest_tail:
                windows.append(Window(start, held, max(held - stride, 0) if start else 0))
            continue
        windows.append(Window(start, held, length - stride if start else 0))
        if start + length >= position_count:
            break
    return windows


def window_batches(
    model: GPT, tokens: Tensor, windows: Sequence[Window], config: EvaluationConfig
) -> Iterator[WindowBatch]:
    ranks = current_ranks()
    together = config.batch_windows * ranks.world_size
    for first in range(0, len(windows), together):
        batch = ranks.share_of(windows[first : first + together])
        rows = tokens.new_zeros(len(batch), config.sequence_length + 1)
        for row, window in zip(rows, batch, strict=True):
            row[: window.length + 1] = tokens[window.start : window.end + 1]
        inputs, targets = rows[:, :-1], rows[:, 1:]
        yield WindowBatch(model, batch, inputs, targets, model.hidden(inputs))


# hedge_record.evaluation.hedge_mixer

HEDGE_EXPERT_NAMES = ("neural", "unigram", "bigram", "trigram", "entropy")
ROWS_AT_ONCE = 512  # their logits stay in a CPU's cache, where many windows' do not


class NeuralExpert(NamedTuple):

    nll: Tensor  # of the targets
    entropy: Tensor

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor) -> "NeuralExpert":
        log_probs = torch.log_softmax(logits, dim=-1)
        nll = -log_probs.gather(-1, targets[..., None]).squeeze(-1)
        return cls(nll, softmax_entropy(log_probs))


class HedgeMixer:

    def __init__(
        self,
        vocab_size: int,
        *,
        buckets: int,
        eta: float,
        gate_tokens: int,
        temperature: float,
        device: torch.device,
    ) -> None:
        self.vocab_size = vocab_size
        self.eta = eta
        self.gate_tokens = gate_tokens
        self.temperature = temperature
        self.log_weights = torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0], device=device)
        self.counted = 0
        self.unigrams = torch.zeros(vocab_size, device=device)
        self.bigrams = torch.zeros(vocab_size, vocab_size, device=device)
        self.bigram_totals = torch.zeros(vocab_size, device=device)
        self.trigrams = torch.zeros(buckets, vocab_size, device=device)
        self.trigram_totals = torch.zeros(buckets, device=device)
        self._nll = [torch.zeros(0, device=device)]
        self._chunk_start = 0
        self._scored = 0
        self._log_mass = torch.zeros((), dtype=torch.float64, device=device)

    def take(self, batch: WindowBatch, logits: Tensor) -> None:  # noqa: ARG002
        neural = self._neural(batch)
        nll, expert_nll = self.nll(neural, batch.inputs, batch.targets)
        mass = batch.scored(self.log_mass(neural, batch.inputs))
        self._scored += mass.numel()
        self._log_mass += mass.double().sum()
        if expert_nll is not None:
            self.update_weights(expert_nll, batch.lengths())
        self._nll.append(batch.scored(nll))

    def _neural(self, batch: WindowBatch) -> NeuralExpert:
        pairs = zip(
            torch.split(batch.hidden.flatten(0, 1), ROWS_AT_ONCE),
            torch.split(batch.targets.flatten(), ROWS_AT_ONCE),
            strict=True,
        )
        parts = [
            NeuralExpert.of(
                adaptive_temperature(batch.model.project(hidden).float(), self.temperature), targets
            )
            for hidden, targets in pairs
        ]
        return NeuralExpert(
            *(torch.cat(of_all).view(batch.targets.shape) for of_all in zip(*parts, strict=True))
        )

    def finish_chunk(self, tokens: Tensor, end: int) -> Tensor:
        nll, self._nll = torch.cat(self._nll), self._nll[:1]
        self.count(tokens[self._chunk_start : end + 1])
        self._chunk_start = end
        return nll

    def count(self, tokens: Tensor) -> None:
        self.counted += tokens.numel()
        self.unigrams += tokens.bincount(minlength=self.vocab_size)
        previous, following = tokens[:-1], tokens[1:]
        ones = torch.ones_like(tokens, dtype=torch.float32)
        self.bigrams.index_put_((previous, following), ones[1:], accumulate=True)
        self.bigram_totals.index_add_(0, previous, ones[1:])
        rows = self._trigram_rows(previous[:-1], previous[1:])
        self.trigrams.index_put_((rows, following[1:]), ones[2:], accumulate=True)
        self.trigram_totals.index_add_(0, rows, ones[2:])

    def nll(
        self, neural: NeuralExpert, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        if self.counted < self.gate_tokens:
            return neural.nll, None
        expert_nll = self.expert_nll(neural, inputs, targets)
        mixed = torch.logsumexp(self.log_weights.log_softmax(0) - expert_nll, dim=-1)
        return -mixed, expert_nll

    def expert_nll(self, neural: NeuralExpert, inputs: Tensor, targets: Tensor) -> Tensor:
        rows = self._window_trigram_rows(inputs)
        unigram = (self.unigrams[targets] + 0.1) / (self.counted + 0.1 * self.vocab_size)
        bigram = (self.bigrams[inputs, targets] + 0.1) / self._bigram_denominator(inputs)
        trigram = (self.trigrams[rows, targets] + 0.01) / self._trigram_denominator(rows)
        experts = (neural.nll, -unigram.log(), -bigram.log(), -trigram.log(), neural.entropy)
        return torch.stack(experts, dim=-1)

    def expert_mass(self, neural: NeuralExpert, inputs: Tensor) -> Tensor:
        rows = self._window_trigram_rows(inputs)
        row_sums = self.trigram_totals[rows] + 0.01 * self.vocab_size
        trigram = row_sums / self._trigram_denominator(rows)
        entropy = self.vocab_size * torch.exp(-neural.entropy)
        ones = torch.ones_like(entropy)
        return torch.stack((ones, ones, ones, trigram, entropy), dim=-1)

    def log_mass(self, neural: NeuralExpert, inputs: Tensor) -> Tensor:
        if self.counted < self.gate_tokens:
            return torch.zeros_like(neural.nll)
        weights = self.log_weights.softmax(0)
        return (self.expert_mass(neural, inputs) * weights).sum(-1).log()

    def update_weights(self, expert_nll: Tensor, lengths: list[int]) -> None:
        ends = torch.tensor(lengths, device=expert_nll.device)
        valid = torch.arange(expert_nll.shape[1], device=expert_nll.device) < ends[:, None]
        self.log_weights -= self.eta * expert_nll[valid].mean(0)

    def figures(self) -> dict[str, float]:
        weights = self.log_weights.softmax(0).tolist()
        return {
            **{f"weight_{n}": w for n, w in zip(HEDGE_EXPERT_NAMES, weights, strict=True)},
            "mean_log_mass": float(self._log_mass) / max(self._scored, 1),
        }

    def _bigram_denominator(self, inputs: Tensor) -> Tensor:
        return self.bigram_totals[inputs] + 0.1 * self.vocab_size

    def _trigram_denominator(self, rows: Tensor) -> Tensor:
        return self.trigram_totals[rows].clamp_min(1) + 0.01 * self.vocab_size

    def _window_trigram_rows(self, inputs: Tensor) -> Tensor:
        before = torch.zeros_like(inputs)
        before[:, 1:] = inputs[:, :-1]
        return self._trigram_rows(before, inputs)

    def _trigram_rows(self, before_previous: Tensor, previous: Tensor) -> Tensor:
        return ((before_previous * 36313) ^ (previous * 27191)) % len(self.trigrams)


# hedge_record.evaluation.ngram

RECENT_DECAY = 0.996  # per token: a memory of some 250 tokens
RECENT_PRIOR_TOKENS = 20.0  # the unigram's weight against it
HASH_MULTIPLIER = 36_313


class ContextKind(NamedTuple):

    name: str
    offsets: tuple[int, ...]
    lower: str | None  # the expert that an unseen context falls back to; None: uniform
    discount: float


# Discounts below the 0.75 and more that serve n-grams on their own: beside the neural expert, which
# covers what they have not seen, they do best when they trust what they have.
CONTEXT_KINDS = (
    ContextKind("unigram", (), None, 0.1),
    ContextKind("bigram", (0,), "unigram", 0.65),
    ContextKind("trigram", (0, 1), "bigram", 0.65),
    ContextKind("4-gram", (0, 1, 2), "trigram", 0.65),
    ContextKind("5-gram", (0, 1, 2, 3), "4-gram", 0.65),
    ContextKind("skip", (1, 2), "unigram", 0.65),
)
EXPERT_NAMES = ("neural", *(kind.name for kind in CONTEXT_KINDS), "recent")


class NGramTable:

    def __init__(self, rows: int, vocab_size: int, discount: float, device: torch.device) -> None:
        self.discount = discount
        self.counts = torch.zeros(rows, vocab_size, dtype=torch.int32, device=device)
        self.totals = torch.zeros(rows, dtype=torch.int32, device=device)
        self.distinct = torch.zeros(rows, dtype=torch.int32, device=device)

    def count(self, rows: Tensor, tokens: Tensor) -> None:
        width = self.counts.shape[1]
        seen, times = torch.unique(rows * width + tokens, return_counts=True)
        flat = self.counts.view(-1)
        new_rows = seen[flat[seen] == 0] // width
        flat[seen] += times.int()
        self.totals.index_add_(0, rows, torch.ones_like(rows, dtype=torch.int32))
        self.distinct.index_add_(0, new_rows, torch.ones_like(new_rows, dtype=torch.int32))

    def distribution(self, rows: Tensor, lower: Tensor) -> Tensor:
        totals = self.totals[rows].to(lower.dtype)
        passed_on = self.discount * self.distinct[rows] / totals.clamp_min(1)
        passed_on = torch.where(totals > 0, passed_on, 1.0)
        kept = (self.counts[rows] - self.discount).clamp_min_(0) / totals.clamp_min(1)[:, None]
        return kept.addcmul_(lower, passed_on[:, None])


class ContextPrediction(NamedTuple):

    log_ratios: Tensor  # [n, experts, V]: ln of each expert's p over that of its lower order
    totals: Tensor  # int32 [n, tables]: how often each table has seen the context
    distinct: Tensor  # int32 [n, tables]: how many tokens followed it


class ContextExperts:

    def __init__(self, vocab_size: int, buckets: int, device: torch.device) -> None:
        self.vocab_size = vocab_size
        self.tables = {
            kind.name: NGramTable(
                _row_count(kind, vocab_size, buckets), vocab_size, kind.discount, device
            )
            for kind in CONTEXT_KINDS
        }
        self.recent = torch.zeros(vocab_size, device=device)

    def predict(self, tokens: Tensor, positions: Tensor) -> ContextPrediction:
        experts = self.distributions(tokens, positions)
        uniform = torch.full_like(experts["unigram"], 1 / self.vocab_size)
        logs = {name: p.log() for name, p in {**experts, "uniform": uniform}.items()}
        lowers = [kind.lower or "uniform" for kind in CONTEXT_KINDS] + ["unigram"]
        log_ratios = torch.stack(
            [logs[name] - logs[lower] for name, lower in zip(experts, lowers, strict=True)], dim=1
        )
        rows = [(table, self._rows(kind, tokens, positions)) for kind, table in self._tables()]
        return ContextPrediction(
            log_ratios,
            torch.stack([table.totals[row] for table, row in rows], dim=1),
            torch.stack([table.distinct[row] for table, row in rows], dim=1),
        )

    def distributions(self, tokens: Tensor, positions: Tensor) -> dict[str, Tensor]:
        shape = (len(positions), self.vocab_size)
        uniform = torch.full(shape, 1 / self.vocab_size, device=tokens.device)
        experts: dict[str, Tensor] = {}
        for kind, table in self._tables():
            lower = uniform if kind.lower is None else experts[kind.lower]
            experts[kind.name] = table.distribution(self._rows(kind, tokens, positions), lower)
        weighed = self.recent + RECENT_PRIOR_TOKENS * experts["unigram"]
        experts["recent"] = weighed / (self.recent.sum() + RECENT_PRIOR_TOKENS)
        return experts

    def count(self, tokens: Tensor, positions: Tensor) -> None:
        targets = tokens[positions + 1]
        for kind, table in self._tables():
            table.count(self._rows(kind, tokens, positions), targets)
        ages = torch.arange(len(targets) - 1, -1, -1, device=tokens.device)
        self.recent *= RECENT_DECAY ** len(targets)
        self.recent.index_add_(0, targets, torch.pow(RECENT_DECAY, ages.float()))

    def _tables(self) -> list[tuple[ContextKind, NGramTable]]:
        return [(kind, self.tables[kind.name]) for kind in CONTEXT_KINDS]

    def _rows(self, kind: ContextKind, tokens: Tensor, positions: Tensor) -> Tensor:
        rows = torch.zeros_like(positions)
        for offset in kind.offsets:
            rows = rows * HASH_MULTIPLIER + tokens[(positions - offset).clamp_min(0)]
        return rows % len(self.tables[kind.name].totals)


def table_rows(vocab_size: int, buckets: int) -> int:
    return sum(_row_count(kind, vocab_size, buckets) for kind in CONTEXT_KINDS)


def _row_count(kind: ContextKind, vocab_size: int, buckets: int) -> int:
    return (1, vocab_size)[len(kind.offsets)] if len(kind.offsets) < 2 else buckets


# hedge_record.evaluation.mixture

# The common weights before the first target, in the order of EXPERT_NAMES.
START_WEIGHTS = (0.8, 0.1, 0.2, 0.4, 0.3, 0.2, 0.12, 0.15)
LEARNING_RATE = 0.0015  # per target
# A weight vector that many targets of a block select moves by the mean of their gradients, for at
# most so many targets: the block's length must not decide how far a step goes.
TARGETS_PER_STEP = 16
EVIDENCE_LEVELS = 8  # trigram context seen 0, 1, 3, 7, ... 127 times
UNCERTAINTY_LEVELS = 4  # quarters of the greatest entropy, ln V
TRIGRAM = EXPERT_NAMES.index("trigram") - 1  # among the context kinds


class MixedBlock(NamedTuple):

    log_probs: Tensor  # float64 [n, V]
    features: Tensor  # float32 [n, experts, V]
    selected: list[Tensor]  # int64 [n] per weight set: the row that each position selects


class CompliantMixer:

    def __init__(
        self,
        vocab_size: int,
        *,
        buckets: int,
        block_tokens: int,
        device: torch.device,
        experts: Sequence[str] = EXPERT_NAMES,
    ) -> None:
        unknown = sorted(set(experts) - set(EXPERT_NAMES))
        if unknown:
            raise RecordError(
                f"evaluation: mixer_experts has no {', '.join(unknown)}; "
                f"choose from {', '.join(EXPERT_NAMES)}"
            )
        self.experts = ContextExperts(vocab_size, buckets, device)
        # An expert that is left out keeps the weight 0.
        taking_part = [float(name in experts) for name in EXPERT_NAMES]
        self._taking_part = torch.tensor(taking_part, device=device)
        self.block_tokens = block_tokens
        self.position = 0  # the next to be scored; all targets before it are learned
        sizes = (
            1,
            EVIDENCE_LEVELS * UNCERTAINTY_LEVELS,
            2 * (len(CONTEXT_KINDS) + 1),
            vocab_size,
        )
        self.weight_sets = [torch.zeros(size, len(EXPERT_NAMES), device=device) for size in sizes]
        self.weight_sets[0] += torch.tensor(START_WEIGHTS, device=device) * self._taking_part
        self._logits: list[Tensor] = []
        self._own: list[Tensor] = []

    def take(self, batch: WindowBatch, logits: Tensor) -> None:  # noqa: ARG002
        rows, own = gather_rows(logits)
        mine = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        mine[own] = True
        self._logits.append(rows)
        self._own.append(mine)

    def finish_chunk(self, tokens: Tensor, end: int) -> Tensor:  # noqa: ARG002
        if not self._logits:
            return torch.zeros(0, dtype=torch.float64, device=tokens.device)
        logits, own = torch.cat(self._logits), torch.cat(self._own)
        self._logits, self._own = [], []
        return self.score(logits, tokens)[own]

    def score(self, logits: Tensor, tokens: Tensor) -> Tensor:
        nll = []
        done = 0
        while done < len(logits):
            room = self.block_tokens - self.position % self.block_tokens
            block = logits[done : done + room]
            positions = torch.arange(len(block), device=tokens.device) + self.position
            targets = tokens[positions + 1]
            mixed = self.mix(block, tokens, positions)
            nll.append(-mixed.log_probs.gather(1, targets[:, None]).squeeze(1))
            self._learn(mixed, targets)
            self.experts.count(tokens, positions)
            self.position += len(block)
            done += len(block)
        return torch.cat(nll)

    def mix(self, logits: Tensor, tokens: Tensor, positions: Tensor) -> MixedBlock:
        neural = torch.log_softmax(logits.float(), dim=-1)
        contexts = self.experts.predict(tokens, positions)
        features = torch.cat((neural[:, None], contexts.log_ratios), dim=1)
        selected = [
            torch.zeros_like(positions),
            _evidence_and_uncertainty(contexts.totals[:, TRIGRAM], neural),
            2 * (contexts.totals > 0).sum(1) + (contexts.distinct == 1).any(1),
            tokens[positions],
        ]
        weights = torch.stack(
            [of_set[rows] for of_set, rows in zip(self.weight_sets, selected, strict=True)]
        ).sum(0)
        mixed = torch.bmm(weights[:, None], features).squeeze(1)
        return MixedBlock(torch.log_softmax(mixed.double(), dim=-1), features, selected)

    def figures(self) -> dict[str, float]:
        common = self.weight_sets[0][0].tolist()
        return {f"weight_{name}": value for name, value in zip(EXPERT_NAMES, common, strict=True)}

    def _learn(self, mixed: MixedBlock, targets: Tensor) -> None:
        expected = torch.bmm(mixed.features, mixed.log_probs.exp().float()[:, :, None]).squeeze(2)
        observed = mixed.features[torch.arange(len(targets), device=targets.device), :, targets]
        gradients = (observed - expected) * self._taking_part
        for of_set, rows in zip(self.weight_sets, mixed.selected, strict=True):
            counts = torch.bincount(rows, minlength=len(of_set))
            steps = LEARNING_RATE * (TARGETS_PER_STEP / counts.clamp_min(TARGETS_PER_STEP))
            of_set.index_add_(0, rows, gradients * steps[rows][:, None])


def _evidence_and_uncertainty(seen: Tensor, log_probs: Tensor) -> Tensor:
    evidence = (seen + 1).float().log2().long().clamp_max(EVIDENCE_LEVELS - 1)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    uncertainty = (UNCERTAINTY_LEVELS * entropy / math.log(log_probs.shape[-1])).long()
    return evidence * UNCERTAINTY_LEVELS + uncertainty.clamp(0, UNCERTAINTY_LEVELS - 1)


# hedge_record.evaluation.adaptation

ADAPTED_NAMES = ("norm", "scale", "lm_head")


def adapted_parameters(model: GPT, blocks: int) -> list[nn.Parameter]:
    first = max(len(model.blocks) - blocks, 0)
    last = tuple(f"blocks.{index}." for index in range(first, len(model.blocks)))
    return [
        parameter
        for name, parameter in model.named_parameters()
        if name.startswith(last) or any(part in name for part in ADAPTED_NAMES)
    ]


def chunk_learning_rate(chunk: int, chunk_count: int, config: EvaluationConfig) -> float:
    cosine = 1.0
    if config.ttt_lr_cosine:
        cosine = 0.5 * (1 + math.cos(math.pi * chunk / max(chunk_count - 1, 1)))
    ramped = min(chunk / max(chunk_count * config.ttt_lr_ramp_fraction, 1), 1.0)
    return config.ttt_lr * cosine * (1 + (config.ttt_lr_ramp - 1) * ramped)


class Adaptation:

    def __init__(self, model: GPT, table: ByteTable, config: EvaluationConfig) -> None:
        self.model = model
        self.table = table
        self.config = config
        self.parameters = adapted_parameters(model, config.ttt_unfrozen_blocks)
        self.original = [parameter.detach().clone() for parameter in self.parameters]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.trainable = [parameter.requires_grad for parameter in model.parameters()]
        model.requires_grad_(False)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.ttt_lr, weight_decay=0.0)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        trained = [parameter.detach().clone() for parameter in self.parameters]
        self._load(self.average)
        try:
            yield
        finally:
            self._load(trained)

    def train(self, tokens: Tensor, learning_rate: float) -> None:
        length = self.config.sequence_length
        count = (tokens.numel() - 1) // length
        inputs = tokens[: count * length].view(count, length)
        targets = tokens[1 : count * length + 1].view(count, length)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        for _ in range(self.config.ttt_epochs):
            for first in range(0, count, self.config.ttt_batch_sequences):
                batch = slice(first, first + self.config.ttt_batch_sequences)
                self._step(inputs[batch], targets[batch])

    def finish(self) -> None:
        self._load(self.original)
        for parameter, trainable in zip(self.model.parameters(), self.trainable, strict=True):
            parameter.requires_grad_(trainable)
            parameter.grad = None

    def _step(self, inputs: Tensor, targets: Tensor) -> None:
        weights = torch.ones_like(targets, dtype=torch.float32)
        if self.config.ttt_byte_weighted:
            weights = self.table.target_bytes(inputs, targets).float()
        self.optimizer.zero_grad(set_to_none=True)
        mine = current_ranks().share_of(range(len(inputs)))
        if mine:
            rows = slice(mine[0], mine[-1] + 1)
            logits = self.model.forward_logits(inputs[rows]).float()
            nll = nn.functional.cross_entropy(
                logits.flatten(0, 1), targets[rows].flatten(), reduction="none"
            )
            loss = (nll * weights[rows].flatten()).sum() / weights.sum().clamp_min(1)
            torch.autograd.backward(loss)
        self._sum_gradients()
        nn.utils.clip_grad_norm_(self.parameters, self.config.ttt_gradient_clip)
        self.optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(self.average, self.parameters, strict=True):
                average.lerp_(parameter, 1 - self.config.ttt_polyak_decay)

    def _sum_gradients(self) -> None:
        if current_ranks().world_size == 1:
            return
        for parameter in self.parameters:
            # A rank without a row in this batch still takes part in the sum.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            sum_over_ranks(parameter.grad)

    @torch.no_grad()
    def _load(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


# hedge_record.evaluation.ranks

def score_over_ranks(score: Score, device: torch.device) -> Score:
    parts = torch.tensor(
        [score.nats, score.tokens, score.bytes], dtype=torch.float64, device=device
    )
    nats, scored, counted = sum_over_ranks(parts).tolist()
    return Score(nats, int(scored), int(counted))


# hedge_record.progress

class Reporter(Protocol):

    def start(self, stage: str, total: float, unit: str) -> None:
        pass

    def advance(self, amount: float, **figures: float) -> None:
        pass

    def finish(self) -> None:
        pass

    def log(self, line: str) -> None:
        pass


class SilentReporter:

    def start(self, stage: str, total: float, unit: str) -> None:
        pass

    def advance(self, amount: float, **figures: float) -> None:
        pass

    def finish(self) -> None:
        pass

    def log(self, line: str) -> None:
        pass


# hedge_record.evaluation.sliding

def score_sliding(
    model: GPT,
    tokens: Tensor,
    table: ByteTable,
    config: EvaluationConfig,
    *,
    device: torch.device,
    reporter: Reporter,
) -> Score:
    tokens, table = tokens.to(device), table.to(device)
    windows = plan_windows(tokens.numel() - 1, config)
    model.eval()
    reporter.start("sliding window", sum(w.length - w.scored_from for w in windows), "tokens")
    score = Score()
    with torch.inference_mode():
        for batch in window_batches(model, tokens, windows, config):
            if not batch.windows:  # a rank that the last run of windows had none for
                continue
            nll = target_nll(batch.scored_logits(), batch.scored(batch.targets))
            counted = batch.scored(table.target_bytes(batch.inputs, batch.targets))
            part = Score.of(nll, counted)
            score += part
            reporter.advance(part.tokens * current_ranks().world_size, bpb=score.bpb)
    reporter.finish()
    return score_over_ranks(score, device)


def target_nll(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


# hedge_record.evaluation.ttt

class Mixer(Protocol):

    def take(self, batch: WindowBatch, logits: Tensor) -> None:
        pass

    def finish_chunk(self, tokens: Tensor, end: int) -> Tensor:
        pass

    def figures(self) -> dict[str, float]:
        pass


@dataclass(frozen=True)
class AdaptiveScore:

    score: Score
    per_chunk: tuple[Score, ...]
    neural: Score  # the adapted model alone, in the same pass: the mixer's gain is the difference
    mixer_figures: dict[str, float] = field(default_factory=dict)


def score_first_ttt(
    model: GPT,
    tokens: Tensor,
    table: ByteTable,
    config: EvaluationConfig,
    *,
    device: torch.device,
    reporter: Reporter,
    mixer: Mixer | None,
) -> AdaptiveScore:
    tokens, table = tokens.to(device), table.to(device)
    chunks = plan_chunks(tokens.numel() - 1, config)
    model.eval()
    adaptation = Adaptation(model, table, config)
    mixed: list[Score] = []
    neural: list[Score] = []
    reporter.start("test-time training", tokens.numel() - 1, "tokens")
    try:
        for index, (begin, end, windows) in enumerate(chunks):
            with adaptation.averaged_weights(), torch.inference_mode():
                scored = _score_chunk(model, tokens, end, windows, table, config, mixer)
            if index < len(chunks) - 1:
                rate = chunk_learning_rate(index, len(chunks), config)
                adaptation.train(tokens[begin : end + 1], rate)
            for scores, part in zip((mixed, neural), scored, strict=True):
                scores.append(score_over_ranks(part, device))
            so_far = sum(mixed, Score())
            reporter.advance(end - begin, bpb=so_far.bpb)
            reporter.log(f"ttt_chunk [{index + 1}/{len(chunks)}] bpb={so_far.bpb:.6f}")
    finally:
        adaptation.finish()
    reporter.finish()
    return AdaptiveScore(
        score=sum(mixed, Score()),
        per_chunk=tuple(mixed),
        neural=sum(neural, Score()),
        mixer_figures={} if mixer is None else mixer.figures(),
    )


def plan_chunks(
    position_count: int, config: EvaluationConfig
) -> list[tuple[int, int, list[Window]]]:
    size = config.ttt_chunk_tokens
    if position_count < 1 or size < 1:
        raise RecordError("test-time training needs a validation target and ttt_chunk_tokens >= 1")
    windows = {
        chunk: list(group)
        for chunk, group in groupby(
            plan_windows(position_count, config, shortest_tail=config.stride),
            key=lambda window: window.first_scored // size,
        )
    }
    return [
        (begin, min(begin + size, position_count), windows.get(begin // size, []))
        for begin in range(0, position_count, size)
    ]


def _score_chunk(
    model: GPT,
    tokens: Tensor,
    end: int,
    windows: Sequence[Window],
    table: ByteTable,
    config: EvaluationConfig,
    mixer: Mixer | None,
) -> tuple[Score, Score]:
    # A window before this chunk may have scored all of it.
    neural = [tokens.new_zeros(0, dtype=torch.float32)]
    target_bytes = [tokens.new_zeros(0)]
    for batch in window_batches(model, tokens, windows, config):
        logits = adaptive_temperature(batch.scored_logits(), config.temperature)
        neural.append(target_nll(logits, batch.scored(batch.targets)))
        target_bytes.append(batch.scored(table.target_bytes(batch.inputs, batch.targets)))
        if mixer is not None:
            mixer.take(batch, logits)
    alone = Score.of(torch.cat(neural), torch.cat(target_bytes))
    if mixer is None:
        return alone, alone
    return Score.of(mixer.finish_chunk(tokens, end), torch.cat(target_bytes)), alone


# hedge_record.evaluation.make_mixer

def make_mixer(
    config: EvaluationConfig, tokens: Tensor, vocab_size: int, device: torch.device
) -> Mixer | None:
    if config.mixer == "as-submitted":
        return HedgeMixer(
            int(tokens.max()) + 1,
            buckets=config.ngram_buckets,
            eta=config.mixer_eta,
            gate_tokens=config.mixer_gate_tokens,
            temperature=config.temperature,
            device=device,
        )
    if config.mixer == "compliant":
        if config.score_tail_repeatedly:
            raise RecordError(
                "evaluation: the compliant mixer scores each target once; "
                "set score_tail_repeatedly to false or the mixer to as-submitted"
            )
        return CompliantMixer(
            vocab_size,
            buckets=config.ngram_buckets,
            block_tokens=config.mixer_block_tokens,
            experts=config.mixer_experts,
            device=device,
        )
    return None


# hedge_record.export.gptq

# Smaller steps would leave float16's normal range, in which scales are stored.
SMALLEST_SCALE = 2.0**-14


class RowQuantized(NamedTuple):

    codes: Tensor
    scales: Tensor

    def dequantize(self) -> Tensor:
        return self.codes.float() * self.scales.float()[:, None]


def search_row_scales(weight: Tensor, config: ExportConfig) -> Tensor:
    best_scales = weight.new_ones(weight.shape[0])
    best_errors = torch.full_like(best_scales, torch.inf)
    for percentile in config.clip_percentiles:
        clip = row_quantile(weight.abs(), percentile)
        scales = (clip / config.clip_range).clamp_min(max(config.scale_floor, SMALLEST_SCALE))
        rounded = round_to_grid(weight, scales[:, None], config.clip_range) * scales[:, None]
        errors = (weight - rounded).square().mean(1)
        better = errors < best_errors
        best_scales = torch.where(better, scales, best_scales)
        best_errors = torch.where(better, errors, best_errors)
    return best_scales


def round_to_grid(values: Tensor, scales: Tensor, clip_range: int) -> Tensor:
    return (values / scales).round().clamp(-clip_range, clip_range)


def round_to_nearest(weight: Tensor, config: ExportConfig) -> RowQuantized:
    weight = weight.float()
    scales = search_row_scales(weight, config).half()
    codes = round_to_grid(weight, scales.float()[:, None], config.clip_range)
    return RowQuantized(codes.to(torch.int8), scales)


def gptq_quantize(weight: Tensor, hessian: Tensor, config: ExportConfig) -> RowQuantized:
    if hessian.shape != (weight.shape[1], weight.shape[1]) or not hessian.isfinite().all():
        raise RecordError(
            f"GPTQ: a weight of {tuple(weight.shape)} needs a finite square Hessian of its "
            f"columns, not {tuple(hessian.shape)}; look for infinities in training"
        )
    weight, hessian = weight.float(), hessian.float()
    if config.gptq == "cholesky":
        # What a column multiplies is always 0: its weights are free, and 0 is the shortest code.
        weight = weight.masked_fill(hessian.diagonal() == 0, 0)
        # Codes are chosen on the grid that is stored, not on a finer one.
        scales = search_row_scales(weight, config).half().float()
        hessian = hessian.double()
        order = hessian.diagonal().argsort(descending=True, stable=True)
    else:
        scales = search_row_scales(weight, config)
        order = hessian.diagonal().argsort()
    hessian = hessian[order][:, order]
    propagation = _inverse_hessian(hessian, config.gptq_damping)
    if config.gptq == "cholesky":
        propagation = torch.linalg.cholesky(propagation, upper=True)
    codes = _round_columns(weight[:, order], propagation.float(), scales, config)
    return RowQuantized(codes[:, order.argsort()].to(torch.int8), scales.half())


def hessian_error(weight: Tensor, quantized: RowQuantized, hessian: Tensor) -> float:
    difference = (weight - quantized.dequantize()).double()
    return float(((difference @ hessian.double()) * difference).sum())


def _inverse_hessian(hessian: Tensor, damping: float) -> Tensor:
    mean = hessian.diagonal().mean()
    eye = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
    if mean == 0:
        return eye
    return torch.cholesky_inverse(torch.linalg.cholesky(hessian + damping * mean * eye))


def _round_columns(
    weight: Tensor, propagation: Tensor, scales: Tensor, config: ExportConfig
) -> Tensor:
    weight = weight.clone()
    codes = torch.empty_like(weight)
    columns = weight.shape[1]
    for begin in range(0, columns, config.gptq_block):
        end = min(begin + config.gptq_block, columns)
        errors = torch.empty_like(weight[:, begin:end])
        for column in range(begin, end):
            codes[:, column] = round_to_grid(weight[:, column], scales, config.clip_range)
            error = (weight[:, column] - codes[:, column] * scales) / propagation[column, column]
            weight[:, column + 1 : end] -= torch.outer(error, propagation[column, column + 1 : end])
            errors[:, column - begin] = error
        weight[:, end:] -= errors @ propagation[begin:end, end:]
    return codes


# hedge_record.model.precision

CONTROL_TENSOR_NAMES = (
    "attn_scale",
    "mlp_scale",
    "resid_mix",
    "q_gain",
    "skip_weights",
    "smear",
    "dtg_gate",
    "ve_layer_scales",
    "ve_shared.scale",
)


def is_control_tensor(name: str) -> bool:
    return any(control in name for control in CONTROL_TENSOR_NAMES)


def set_precision(model: GPT, precision: Literal["bfloat16", "float32"]) -> GPT:
    model.float()
    if precision == "bfloat16":
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.bfloat16()
    return model


# hedge_record.export.quantize

class StoredMatrix(NamedTuple):

    quantized: RowQuantized
    bits: int


StoredTensor = StoredMatrix | Tensor
EIGHT_BIT_RANGE = 127


def prune(weight: Tensor, fraction: float) -> Tensor:
    pruned = int(fraction * weight.numel())
    smallest_kept = weight.abs().flatten().kthvalue(pruned + 1).values
    return weight.masked_fill(weight.abs() < smallest_kept, 0)


def quantize_model(
    state: dict[str, Tensor], hessians: dict[str, Tensor], config: ExportConfig
) -> dict[str, StoredTensor]:
    return {
        name: _store(name, tensor.detach(), hessians.get(name), config)
        for name, tensor in state.items()
    }


def dequantize_model(stored: dict[str, StoredTensor]) -> dict[str, Tensor]:
    return {
        name: value.quantized.dequantize() if isinstance(value, StoredMatrix) else value.float()
        for name, value in stored.items()
    }


def _store(name: str, tensor: Tensor, hessian: Tensor | None, config: ExportConfig) -> StoredTensor:
    if not tensor.isfinite().all():
        raise RecordError(f"{name} holds a number that is not finite: the training diverged")
    if is_control_tensor(name):
        return tensor.float().cpu()
    if tensor.ndim != 2 or tensor.numel() <= config.small_tensor_elements:
        return tensor.half().cpu()
    tensor = prune(tensor, config.prune_fraction)
    if hessian is None or name == "lm_head.weight":
        eight_bit = replace(
            config, clip_range=EIGHT_BIT_RANGE, clip_percentiles=(1.0,), scale_floor=0.0
        )
        quantized, bits = round_to_nearest(tensor, eight_bit), 8
    else:
        quantized = gptq_quantize(tensor, hessian, config)
        bits = (config.clip_range + 1).bit_length()
    return StoredMatrix(RowQuantized(*(part.cpu() for part in quantized)), bits)


# hedge_record.export.tensor_file

TENSOR_DTYPES = {"F32": torch.float32, "F16": torch.float16, "I8": torch.int8}
DTYPE_NAMES = {dtype: name for name, dtype in TENSOR_DTYPES.items()}
LENGTH_BYTES = 8
ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}


class TensorEntry(NamedTuple):

    dtype: str
    shape: list[int]
    data: bytes


def pack_tensors(tensors: dict[str, Tensor]) -> bytes:
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {}
    parts = []
    end = 0
    for name in names:
        tensor = tensors[name].contiguous()
        part = tensor.numpy().tobytes()
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(part)],
        }
        parts.append(part)
        end += len(part)
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % LENGTH_BYTES)
    return b"".join([len(text).to_bytes(LENGTH_BYTES, "little"), text, *parts])


def unpack_tensors(raw: bytes) -> dict[str, TensorEntry]:
    length = int.from_bytes(raw[:LENGTH_BYTES], "little")
    begin = LENGTH_BYTES + length
    if len(raw) < LENGTH_BYTES or begin > len(raw):
        raise ValueError("it is longer than the file")
    try:
        header = json.loads(raw[LENGTH_BYTES:begin].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise ValueError("it is no JSON object")
    header.pop("__metadata__", None)
    found = {}
    reached = 0
    for name, place in sorted(header.items(), key=lambda item: _first_byte(item[1])):
        entry, end = _entry(name, place, raw, begin)
        if place["data_offsets"][0] != reached:
            raise ValueError(f"{name!r} does not begin where the tensor before it ends")
        found[name], reached = entry, end
    if begin + reached != len(raw):
        raise ValueError("bytes follow the last tensor")
    return found


def tensor_of(entry: TensorEntry) -> Tensor:
    dtype = TENSOR_DTYPES[entry.dtype]
    flat = torch.frombuffer(bytearray(entry.data), dtype=dtype) if entry.data else torch.empty(0)
    return flat.to(dtype).view(entry.shape)


def _first_byte(place: object) -> int:
    try:
        begin = place["data_offsets"][0]  # type: ignore[index]
    except (TypeError, KeyError, IndexError):
        begin = None
    if type(begin) is not int:
        raise ValueError("a tensor lacks its offsets")
    return begin


def _entry(name: str, place: dict[str, object], raw: bytes, begin: int) -> tuple[TensorEntry, int]:
    dtype, shape, offsets = (place.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"{name!r} is of an unknown dtype")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} lacks its shape or its offsets")
    first, end = offsets
    if not first <= end <= len(raw) - begin or end - first != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"{name!r} has other bytes than its shape asks for")
    return TensorEntry(dtype, shape, raw[begin + first : begin + end]), end


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


# hedge_record.export.artifact

# Room for the safetensors header: names, dtypes, shapes and offsets of the longest model.
HEADER_ALLOWANCE_BYTES = 1_000_000
CODES_SUFFIX = re.compile(r"(?P<name>.+)\.int(?P<bits>[2-8])")


@dataclass(frozen=True)
class ArtifactReport:

    model_bytes: int
    raw_bytes: int


def check_size(code_bytes: int, model_bytes: int) -> None:
    total = code_bytes + model_bytes
    if total > ARTIFACT_LIMIT_BYTES:
        raise RecordError(
            f"the artifact is {total - ARTIFACT_LIMIT_BYTES:,} bytes too large: {code_bytes:,} of "
            f"code + {model_bytes:,} of model = {total:,} of {ARTIFACT_LIMIT_BYTES:,}; "
            "make the model smaller, or prune more"
        )


def write_artifact(path: Path, stored: dict[str, StoredTensor], level: int = 22) -> ArtifactReport:
    tensors = {}
    for name, value in stored.items():
        if isinstance(value, StoredMatrix):
            tensors[f"{name}.int{value.bits}"] = value.quantized.codes.contiguous()
            tensors[f"{name}.scales"] = value.quantized.scales.contiguous()
        else:
            tensors[name] = value.contiguous()
    raw = pack_tensors(tensors)
    packed = zstandard.ZstdCompressor(level=level, write_checksum=True).compress(raw)
    write_atomically(path, packed)
    return ArtifactReport(model_bytes=len(packed), raw_bytes=len(raw))


def read_artifact(path: Path, model: GPT) -> dict[str, Tensor]:
    try:
        return dequantize_model(_parse(_decompress(path, _raw_limit(model)), model))
    except OSError as error:
        raise RecordError(f"{path}: the artifact cannot be read ({error.strerror})") from error
    except _UnfitError as problem:
        raise RecordError(
            f"{path}: no artifact of this model ({problem}); export again with this configuration"
        ) from problem


class _UnfitError(Exception):
    pass


def _raw_limit(model: GPT) -> int:
    elements: int = sum(tensor.numel() for tensor in model.state_dict().values())
    return 4 * elements + HEADER_ALLOWANCE_BYTES


def _decompress(path: Path, limit: int) -> bytes:
    if path.stat().st_size > limit:
        raise _UnfitError(f"{path.stat().st_size:,} bytes, at most {limit:,} fit this model")
    packed = path.read_bytes()
    try:
        size: int = zstandard.frame_content_size(packed)
        if not 0 <= size <= limit:
            declared = "no size" if size < 0 else f"{size:,} bytes"
            raise _UnfitError(
                f"its frame declares {declared}, at most {limit:,} bytes fit this model"
            )
        # The frame must then hold just as many bytes as it declares: the library sees to it.
        return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _UnfitError(f"its zstd frame is damaged: {error}") from error


def _parse(raw: bytes, model: GPT) -> dict[str, StoredTensor]:
    try:
        found = unpack_tensors(raw)
    except ValueError as error:
        raise _UnfitError(f"its safetensors header is damaged: {error}") from error
    codes = {match["name"]: match for match in map(CODES_SUFFIX.fullmatch, found) if match}
    stored: dict[str, StoredTensor] = {}
    for name, tensor in model.state_dict().items():
        shape = list(tensor.shape)
        if name in codes:
            bits = int(codes[name]["bits"])
            quantized = RowQuantized(
                _take(found, f"{name}.int{bits}", ("I8",), shape),
                _take(found, f"{name}.scales", ("F16",), shape[:1]),
            )
            _check_matrix(name, quantized, bits)
            stored[name] = StoredMatrix(quantized, bits)
        else:
            value = _take(found, name, ("F16", "F32"), shape)
            if not value.isfinite().all():
                raise _UnfitError(f"{name} holds a number that is not finite")
            stored[name] = value
    if found:
        raise _UnfitError(f"it holds {min(found)!r}, which the model has not")
    return stored


def _take(
    found: dict[str, TensorEntry], name: str, dtypes: tuple[str, ...], shape: list[int]
) -> Tensor:
    entry = found.pop(name, None)
    if entry is None:
        raise _UnfitError(f"{name} is missing")
    if entry.dtype not in dtypes or entry.shape != shape:
        needed = f"{' or '.join(dtypes)} {shape}"
        raise _UnfitError(f"{name} is {entry.dtype} {entry.shape}, the model needs {needed}")
    return tensor_of(entry)


def _check_matrix(name: str, quantized: RowQuantized, bits: int) -> None:
    if quantized.codes.ndim != 2:
        raise _UnfitError(f"{name} is no matrix, yet quantised")
    largest = 2 ** (bits - 1) - 1
    if quantized.codes.int().abs().max() > largest:
        raise _UnfitError(f"{name} holds a code outside -{largest}..{largest}")
    if not (quantized.scales.isfinite() & (quantized.scales > 0)).all():
        raise _UnfitError(f"{name} holds a row scale that is not finite and positive")


# hedge_record.export.hessian

def collect_hessians(model: GPT, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}
    vectors: dict[str, int] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def add(_layer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            x = inputs[0].detach().float().flatten(0, -2)
            sums[name] = sums.get(name, 0) + x.T @ x
            vectors[name] = vectors.get(name, 0) + x.shape[0]

        return add

    hooks = [
        module.register_forward_hook(watch(f"{name}.weight"))
        for name, module in model.named_modules()
        if isinstance(module, CastedLinear)
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                model.forward_logits(batch)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    if not sums:
        raise RecordError("no calibration sequence: set export.calibration_sequences above 0")
    return {name: total / vectors[name] for name, total in sums.items()}


# hedge_record.result

@dataclass(frozen=True)
class Part:

    symbol: str
    meaning: str
    bpb: float
    seconds: float


@dataclass(frozen=True)
class RecordResult:

    parameters: int
    steps: int
    training_tokens: int
    losses: tuple[tuple[int, float], ...]
    code_bytes: int
    model_bytes: int
    trained: Score
    quantized: Score
    adaptive: AdaptiveScore
    seconds: dict[str, float]  # per stage
    hardware: str

    @property
    def total_bytes(self) -> int:
        return self.code_bytes + self.model_bytes

    @property
    def parts(self) -> tuple[Part, ...]:
        trained, quantized = self.trained.bpb, self.quantized.bpb
        neural, final = self.adaptive.neural.bpb, self.adaptive.score.bpb
        seconds = self.seconds
        return (
            Part("L", "after training, sliding window", trained, seconds["training"]),
            Part("Q", "quantisation", quantized - trained, seconds["export"]),
            Part("T", "test-time training", neural - quantized, seconds["adaptive"]),
            Part("M", "mixer, in the same pass", final - neural, 0.0),
        )


def adaptive_score_of(result: dict[str, Any]) -> AdaptiveScore:
    return AdaptiveScore(
        score=Score(**result["score"]),
        per_chunk=tuple(Score(**chunk) for chunk in result["per_chunk"]),
        neural=Score(**result["neural"]),
        mixer_figures=dict(result["mixer_figures"]),
    )


# hedge_record.stages

class Stages(Protocol):

    def stage(
        self,
        name: str,
        compute: Callable[[Reporter], dict[str, Any]],
        reporter: Reporter,
        *,
        resumable: bool = False,
    ) -> dict[str, Any]:
        pass


class FreshStages:

    def stage(
        self,
        name: str,  # noqa: ARG002
        compute: Callable[[Reporter], dict[str, Any]],
        reporter: Reporter,
        *,
        resumable: bool = False,  # noqa: ARG002
    ) -> dict[str, Any]:
        started = time.perf_counter()
        result = compute(reporter)
        return {"seconds": time.perf_counter() - started, **result}


# hedge_record.training.checkpoint

CHECKPOINT_NAME = "checkpoint.pt"
CHECKPOINT_FORMAT = 1


class ResumableStream(Protocol):

    def take(self, count: int) -> np.ndarray:
        pass

    def state(self) -> dict[str, int]:
        pass

    def restore(self, state: dict[str, int]) -> None:
        pass


def fingerprint_of(config: RecordConfig, stream: ResumableStream) -> str:
    training = asdict(config.training)
    del training["log_every"], training["checkpoint_every_seconds"]
    position = stream.state()
    tokens = stream.take(config.training.batch_tokens)
    stream.restore(position)
    identity = {
        "seed": config.seed,
        "model": asdict(config.model),
        "training": training,
        "clip_range": config.export.clip_range,
        "scale_floor": config.export.scale_floor,
        "tokens": crc32(tokens.tobytes()),
    }
    return json.dumps(identity, sort_keys=True)


def save_checkpoint(folder: Path, fingerprint: str, state: dict[str, Any]) -> None:
    content = {"format": CHECKPOINT_FORMAT, "fingerprint": fingerprint, "state": state}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(make_folder(folder) / CHECKPOINT_NAME, with_checksum(buffer.getvalue()))


def with_checksum(payload: bytes) -> bytes:
    return crc32(payload).to_bytes(4, "little") + payload


def load_checkpoint(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        return None
    content = read_checkpoint(path)
    if (content.get("format"), content.get("fingerprint")) != (CHECKPOINT_FORMAT, fingerprint):
        return None
    state: dict[str, Any] = content["state"]
    return state


def read_checkpoint(path: Path) -> dict[str, Any]:
    mend = "delete it to train from the start"
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); {mend}") from error
    if raw[:4] != crc32(raw[4:]).to_bytes(4, "little"):
        raise RecordError(f"{path}: damaged, its checksum does not match; {mend}")
    try:
        content = torch.load(io.BytesIO(raw[4:]), map_location="cpu", weights_only=True)
    except Exception as error:  # Of a forged file torch raises whatever its bytes lead to.
        raise RecordError(f"{path}: not a checkpoint ({type(error).__name__}); {mend}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: not a checkpoint (a {type(content).__name__}); {mend}")
    return content


# hedge_record.training.schedule

def lr_scale(step: int, elapsed_seconds: float, config: TrainingConfig) -> float:
    if config.warmdown_steps <= 0:
        return 1.0
    if config.seconds is None:
        return min(1.0, max(config.iterations - step, 0) / config.warmdown_steps)
    warmdown = config.warmdown_steps * elapsed_seconds / max(step, 1)
    remaining = max(training_seconds(config) - elapsed_seconds, 0.0)
    return 1.0 if remaining > warmdown else remaining / max(warmdown, 1e-9)


def training_seconds(config: TrainingConfig) -> float:
    return float("inf") if config.seconds is None else config.seconds - config.reserved_seconds


def muon_momentum(step: int, config: TrainingConfig) -> float:
    share = min(step / max(config.muon_momentum_warmup_steps, 1), 1.0)
    return (1 - share) * config.muon_momentum_start + share * config.muon_momentum


# hedge_record.training.ema

class ExponentialAverage:

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self.state = {
            name: tensor.detach().float().clone() for name, tensor in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for name, tensor in model.state_dict().items():
            self.state[name].lerp_(tensor.float(), 1 - self._decay)

    def restore(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self.state.items():
            tensor.copy_(state[name])


# hedge_record.training.muon

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, steps: int) -> Tensor:
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT.bfloat16() if tall else matrices.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = b * gram + c * gram @ gram
        x = a * x + polynomial @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        newton_schulz_steps: int,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "newton_schulz_steps": newton_schulz_steps,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None, "Muon re-evaluates nothing"
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            directions = [self._direction(param, group["momentum"]) for param in params]
            updates = shared_updates(directions, group["newton_schulz_steps"])
            for param, update in zip(params, updates, strict=True):
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.add_(update.to(param.dtype), alpha=-group["lr"])

    def _direction(self, param: Tensor, momentum: float) -> Tensor:
        state = self.state[param]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(param)
        buffer: Tensor = state["momentum_buffer"]
        assert param.grad is not None
        buffer.mul_(momentum).add_(param.grad)
        return param.grad.add(buffer, alpha=momentum)


def shared_updates(directions: list[Tensor], steps: int) -> list[Tensor]:
    if not directions:
        return []
    ranks = current_ranks()
    sizes = [direction.numel() for direction in directions]
    flat = torch.zeros(sum(sizes), dtype=torch.bfloat16, device=directions[0].device)
    updates = [
        part.view_as(direction)
        for part, direction in zip(torch.split(flat, sizes), directions, strict=True)
    ]
    by_shape: dict[torch.Size, list[int]] = defaultdict(list)
    for index in range(ranks.rank, len(directions), ranks.world_size):
        by_shape[directions[index].shape].append(index)
    for (rows, columns), indices in by_shape.items():
        batch = orthogonalize(torch.stack([directions[index] for index in indices]), steps)
        batch = batch * max(1, rows / columns) ** 0.5
        for index, update in zip(indices, batch, strict=True):
            updates[index].copy_(update)
    sum_over_ranks(flat)
    return updates


# hedge_record.training.optimizers

EMBEDDING_NAMES = ("tok_emb.weight", ".embed.weight", "lm_head.weight")


@dataclass(frozen=True)
class ParameterGroups:

    matrices: list[Tensor]  # Muon
    embeddings: list[Tensor]  # AdamW, and an untied output head with them
    scalars: list[Tensor]  # AdamW: vectors, gates and scales


def group_parameters(model: GPT) -> ParameterGroups:
    groups = ParameterGroups([], [], [])
    for name, parameter in model.named_parameters():
        if name.endswith(EMBEDDING_NAMES):
            groups.embeddings.append(parameter)
        elif parameter.ndim == 2 and not is_control_tensor(name):
            groups.matrices.append(parameter)
        else:
            groups.scalars.append(parameter)
    return groups


class Optimizers:

    def __init__(self, model: GPT, config: TrainingConfig) -> None:
        groups = group_parameters(model)
        self._config = config
        self.muon = Muon(
            groups.matrices,
            lr=config.matrix_lr,
            momentum=config.muon_momentum,
            weight_decay=config.weight_decay,
            newton_schulz_steps=config.newton_schulz_steps,
        )
        self.adam = torch.optim.AdamW(
            [
                {"params": groups.embeddings, "lr": config.embedding_lr},
                {"params": groups.scalars, "lr": config.scalar_lr},
            ],
            betas=config.adam_betas,
            eps=config.adam_epsilon,
            weight_decay=config.adam_weight_decay,
            fused=True,
        )

    def step(self, step: int, scale: float) -> None:
        self.muon.param_groups[0]["momentum"] = muon_momentum(step, self._config)
        self.muon.param_groups[0]["lr"] = self._config.matrix_lr * scale
        self.adam.param_groups[0]["lr"] = self._config.embedding_lr * scale
        self.adam.param_groups[1]["lr"] = self._config.scalar_lr * scale
        self.muon.step()
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


# hedge_record.training.quantization

def fake_quantization_of(config: RecordConfig) -> FakeQuantization | None:
    if config.training.qat_rounding == "off":
        return None
    return FakeQuantization(
        rounding=config.training.qat_rounding,
        clip_range=config.export.clip_range,
        clip_percentile=config.training.qat_clip_percentile,
        soft_alpha=config.training.qat_soft_alpha,
        scale_floor=config.export.scale_floor,
    )


def crown_q_penalty(model: nn.Module, clip_range: int) -> Tensor:
    weights = [m.weight.float() for m in model.modules() if isinstance(m, CastedLinear)]
    penalties = []
    for weight in weights:
        delta = weight.detach().abs().amax(dim=1, keepdim=True) / clip_range
        penalties.append((weight * delta).square().mean())
    return torch.stack(penalties).sum() / 12


# hedge_record.training.trainer

class Trainer:

    def __init__(
        self, model: GPT, stream: TokenStream, config: RecordConfig, device: torch.device
    ) -> None:
        self.config = config
        self.device = device
        self.model = set_precision(model.to(device), config.training.precision)
        self.model.train()
        copy_from_first_rank(self.model.state_dict().values())
        ranks = current_ranks()
        spans = config.training.micro_batches
        if ranks.world_size > spans:
            raise RecordError(
                f"{spans} micro-batches are too few for {ranks.world_size} ranks; "
                f"start at most {spans} ranks"
            )
        self._own_spans = ranks.share_of(range(spans))
        self._loader = BatchLoader(stream, device)
        self._optimizers = Optimizers(self.model, config.training)
        self._parameters = list(self.model.parameters())
        # Compiling pays on CUDA alone: on a CPU it takes longer than a small run.
        cuda = device.type == "cuda"
        self._network: Any = torch.compile(self.model, dynamic=False) if cuda else self.model
        self.average = ExponentialAverage(self.model, config.training.ema_decay)
        self._rounding = fake_quantization_of(config)
        self.quantizing = False

    def start_quantizing(self) -> bool:
        if self.quantizing or self._rounding is None:
            return False
        set_fake_quantization(self.model, self._rounding)
        self.quantizing = True
        return True

    def stop_quantizing(self) -> None:
        set_fake_quantization(self.model, None)
        self.quantizing = False

    def optimize(self, step: int, scale: float) -> float:
        loss = self._accumulate_gradients()
        training = self.config.training
        sum_gradients(p.grad for p in self._parameters if p.grad is not None)
        if training.gradient_clip > 0:
            torch.nn.utils.clip_grad_norm_(self._parameters, training.gradient_clip)
        self._optimizers.step(step, scale)
        self.model.zero_grad(set_to_none=True)
        self.average.update(self.model)
        return float(loss)

    def _accumulate_gradients(self) -> Tensor:
        training = self.config.training
        inputs, targets = self._loader.next_step(
            training.batch_tokens,
            training.sequence_length,
            training.micro_batches,
            self._own_spans,
        )
        if training.merge_micro_batches:
            inputs, targets = inputs.flatten(0, 1)[None], targets.flatten(0, 1)[None]
        total = torch.zeros((), device=self.device)
        for micro_inputs, micro_targets in zip(inputs, targets, strict=True):
            part = micro_targets.numel() / training.batch_tokens
            loss: Tensor = part * self._network(micro_inputs, micro_targets)
            torch.autograd.backward(loss)
            total += loss.detach()
        if self.quantizing and training.crown_q_lambda > 0:
            # The same for every micro-batch and rank, hence once a step.
            penalty = crown_q_penalty(self.model, self.config.export.clip_range)
            share = training.crown_q_lambda / current_ranks().world_size
            torch.autograd.backward(share * penalty)
        return total

    def warm_up(self) -> Iterator[int]:
        before = copy.deepcopy(self.state_dict())
        for step in range(self.config.training.warmup_steps):
            if step == self.config.training.warmup_steps - 1:
                self.start_quantizing()
            self.optimize(step, 1.0)
            yield step + 1
        self.load_state_dict(before)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": dict(self.model.state_dict()),
            "average": self.average.state,
            "optimizers": self._optimizers.state_dict(),
            "stream": self._loader.stream.state(),
            "quantizing": self.quantizing,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.restore(state["average"])
        self._optimizers.load_state_dict(state["optimizers"])
        self._loader.stream.restore(state["stream"])
        self.stop_quantizing()
        if state["quantizing"]:
            self.start_quantizing()


# hedge_record.training.loop

LOGGED_FIRST_STEPS = 10


@dataclass(frozen=True)
class TrainingResult:

    ema_state: dict[str, Tensor]  # float32, under the state-dict names of the model
    losses: tuple[tuple[int, float], ...]  # (step from 1, mean training NLL in nats)
    seconds: float  # by the clock of rank 0, without warm-up
    steps: int
    tokens: int


def train(
    model: GPT,
    stream: TokenStream,
    config: RecordConfig,
    *,
    device: torch.device,
    reporter: Reporter,
    checkpoint_dir: Path | None = None,
) -> TrainingResult:
    run = TrainingRun(
        Trainer(model, stream, config, device),
        reporter if current_ranks().is_first else SilentReporter(),
        checkpoint_dir,
        fingerprint_of(config, stream),
    )
    run.resume()
    if not run.is_complete:
        run.warm_up()
        run.continue_to_end()
    return run.result()


class TrainingRun:

    def __init__(
        self, trainer: Trainer, reporter: Reporter, folder: Path | None, fingerprint: str
    ) -> None:
        self._trainer = trainer
        self._reporter = reporter
        self._folder = folder
        self._fingerprint = fingerprint
        self._training = trainer.config.training
        self._seconds = 0.0
        self._losses: list[float] = []

    @property
    def is_complete(self) -> bool:
        return len(self._losses) >= self._training.iterations or self._is_out_of_time

    @property
    def _is_out_of_time(self) -> bool:
        return self._seconds >= training_seconds(self._training)

    def resume(self) -> None:
        if self._folder is None:
            return
        state = load_checkpoint(self._folder, self._fingerprint)
        if state is not None:
            self._trainer.load_state_dict(state["trainer"])
            self._losses = state["losses"]
            self._seconds = state["seconds"]
            self._reporter.log(f"resumed:step:{len(self._losses)}/{self._training.iterations}")

    def warm_up(self) -> None:
        for step in self._trainer.warm_up():
            self._reporter.log(f"warmup_step:{step}/{self._training.warmup_steps}")

    def continue_to_end(self) -> None:
        training = self._training
        by_clock = training.seconds is not None
        total = training_seconds(training) if by_clock else float(training.iterations)
        self._reporter.start("training", total, "seconds" if by_clock else "steps")
        try:
            self._reporter.advance(self._seconds if by_clock else len(self._losses))
            saved = time.perf_counter()
            started = saved - self._seconds
            while not self.is_complete:
                before = self._seconds
                self._step(started)
                spent = self._seconds - before
                self._reporter.advance(
                    spent if by_clock else 1.0,
                    loss=self._losses[-1],
                    tokens_per_second=training.batch_tokens / max(spent, 1e-9),
                )
                if time.perf_counter() - saved >= training.checkpoint_every_seconds:
                    self._save()
                    saved = time.perf_counter()
            self._save()
        finally:
            self._reporter.finish()
        if self._is_out_of_time and len(self._losses) < training.iterations:
            self._reporter.log(
                f"stopping_early: wallclock_cap train_time:{1000 * self._seconds:.0f}ms "
                f"step:{len(self._losses)}/{training.iterations}"
            )

    def result(self) -> TrainingResult:
        self._trainer.stop_quantizing()
        steps = len(self._losses)
        return TrainingResult(
            ema_state=self._trainer.average.state,
            losses=tuple(enumerate(self._losses, start=1)),
            seconds=self._seconds,
            steps=steps,
            tokens=steps * self._training.batch_tokens,
        )

    def _step(self, started: float) -> None:
        trainer, training, step = self._trainer, self._training, len(self._losses)
        scale = lr_scale(step, self._seconds, training)
        if scale < training.qat_lr_threshold and trainer.start_quantizing():
            self._reporter.log(f"late_qat:enabled step:{step} scale:{scale:.4f}")
        loss = trainer.optimize(step, scale)
        loss, self._seconds = share_figures(loss, time.perf_counter() - started, trainer.device)
        if not math.isfinite(loss):
            raise RecordError(
                f"the training loss is {loss} at step {step + 1}; lower the learning rates or "
                "the gradient clip of the preset"
            )
        self._losses.append(loss)
        self._log(step + 1, loss)

    def _log(self, step: int, loss: float) -> None:
        every = self._training.log_every
        if step <= LOGGED_FIRST_STEPS or step % every == 0 or self.is_complete:
            milliseconds = 1000 * self._seconds
            self._reporter.log(
                f"step:{step}/{self._training.iterations} train_loss:{loss:.4f} "
                f"train_time:{milliseconds:.0f}ms step_avg:{milliseconds / step:.2f}ms"
            )

    def _save(self) -> None:
        if self._folder is not None and current_ranks().is_first:
            state = {
                "trainer": self._trainer.state_dict(),
                "losses": self._losses,
                "seconds": self._seconds,
            }
            save_checkpoint(self._folder, self._fingerprint, state)


# hedge_record.pipeline

ARTIFACT_NAME = "final_model.int5.ptz"
FINAL_TAG = "final_int5_ttt"
CALIBRATION_BATCH_SEQUENCES = 8


def run_record(
    config: RecordConfig,
    data: DataFolder,
    artifact: Path,
    *,
    code_bytes: int,
    device: torch.device,
    reporter: Reporter,
    stages: Stages,
    checkpoints: Path | None = None,
) -> RecordResult:
    run = RecordRun(config, data, artifact, device, checkpoints)
    setup = stages.stage("setup", run.set_up, reporter)
    training = stages.stage("training", run.train, reporter, resumable=True)
    export = stages.stage("export", lambda log: run.export(code_bytes, log), reporter)
    trained = stages.stage("trained", run.score_trained, reporter)
    quantized = stages.stage("quantized", run.score_quantized, reporter)
    adaptive = stages.stage("adaptive", run.score_adaptive, reporter)
    results = {"training": training, "export": export, "trained": trained}
    results |= {"quantized": quantized, "adaptive": adaptive}
    return RecordResult(
        parameters=setup["parameters"],
        steps=training["steps"],
        training_tokens=training["tokens"],
        losses=tuple((step, loss) for step, loss in training["losses"]),
        code_bytes=code_bytes,
        model_bytes=export["model_bytes"],
        trained=Score(**trained["score"]),
        quantized=Score(**quantized["score"]),
        adaptive=adaptive_score_of(adaptive),
        seconds={name: result["seconds"] for name, result in results.items()},
        hardware=describe_hardware(device, current_ranks().world_size),
    )


def evaluate_artifact(
    config: RecordConfig,
    data: DataFolder,
    artifact: Path,
    *,
    device: torch.device,
    reporter: Reporter,
) -> tuple[Score, AdaptiveScore]:
    run = RecordRun(config, data, artifact, device, None)
    stages = FreshStages()
    quantized = stages.stage("quantized", run.score_quantized, reporter)
    adaptive = stages.stage("adaptive", run.score_adaptive, reporter)
    return Score(**quantized["score"]), adaptive_score_of(adaptive)


def describe_hardware(device: torch.device, ranks: int) -> str:
    if device.type == "cuda":
        return f"{ranks}x {torch.cuda.get_device_name(device)}"
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads x {ranks} processes"


class RecordRun:

    def __init__(
        self,
        config: RecordConfig,
        data: DataFolder,
        artifact: Path,
        device: torch.device,
        checkpoints: Path | None,
        validation_targets: int | None = None,
    ) -> None:
        self._config = config
        self._data = data
        self._artifact = artifact
        self._device = device
        self._checkpoints = checkpoints
        self._validation_targets = validation_targets
        self._training: TrainingResult | None = None
        self._validation: tuple[Tensor, ByteTable] | None = None

    def set_up(self, reporter: Reporter) -> dict[str, Any]:
        config, data = self._config, self._data
        data.byte_table(config.model.vocab_size)
        ranks = current_ranks()
        reporter.log(f"hardware: {describe_hardware(self._device, ranks.world_size)}")
        reporter.log(f"world_size:{ranks.world_size} torch:{torch.__version__}")
        reporter.log("hyperparameters:")
        for section, values in config.to_json().items():
            members = values.items() if isinstance(values, dict) else [("", values)]
            for name, value in members:
                reporter.log(f"  {section}{'.' if name else ''}{name}: {value}")
        shards = len(find_shards(data.path, "train"))
        reporter.log(
            f"val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path={data.tokenizer.name}"
        )
        reporter.log(f"train_loader:dataset:{data.path.name} train_shards:{shards}")
        parameters = sum(parameter.numel() for parameter in self._new_model().parameters())
        reporter.log(f"model_params:{parameters}")
        return {"parameters": parameters}

    def train(self, reporter: Reporter) -> dict[str, Any]:
        config = self._config
        self._training = train(
            self._new_model(),
            self._data.training_stream(config.model.vocab_size),
            config,
            device=self._device,
            reporter=reporter,
            checkpoint_dir=self._checkpoints,
        )
        return {
            "steps": self._training.steps,
            "tokens": self._training.tokens,
            "losses": self._training.losses,
            "seconds": self._training.seconds,
        }

    def export(self, code_bytes: int, reporter: Reporter) -> dict[str, Any]:
        if current_ranks().is_first:
            self._write_artifact(reporter)
        sum_over_ranks(torch.zeros(1, device=self._device))  # the others wait for the file
        model_bytes = self._artifact.stat().st_size
        reporter.log(f"Code size: {code_bytes} bytes")
        reporter.log(f"Serialized model int5+zstd: {model_bytes} bytes")
        reporter.log(f"Total submission size int5+zstd: {code_bytes + model_bytes} bytes")
        check_size(code_bytes, model_bytes)
        return {"model_bytes": model_bytes}

    def score_trained(self, reporter: Reporter) -> dict[str, Any]:
        targets = self._validation_data()[0].numel() - 1
        reporter.log(f"val_loader:shards pattern=fineweb_val_*.bin tokens:{targets}")
        model = self._new_model()
        model.load_state_dict(self._trained().ema_state)
        return self._slide(model, "pre_quantization_sliding_window", reporter)

    def score_quantized(self, reporter: Reporter) -> dict[str, Any]:
        return self._slide(self._model_of_artifact(), "final_int5_sliding_window", reporter)

    def score_adaptive(self, reporter: Reporter) -> dict[str, Any]:
        evaluation = self._config.evaluation
        tokens, table = self._validation_data()
        started = time.perf_counter()
        result = score_first_ttt(
            self._model_of_artifact(),
            tokens,
            table,
            evaluation,
            device=self._device,
            reporter=reporter,
            mixer=make_mixer(evaluation, tokens, table.vocab_size, self._device),
        )
        for name, figure in result.mixer_figures.items():
            reporter.log(f"mixer:{name}:{figure:.6f}")
        self._log_score(reporter, "ttt_without_mixer", result.neural, started)
        self._log_score(reporter, FINAL_TAG, result.score, started)
        return {
            "score": asdict(result.score),
            "neural": asdict(result.neural),
            "per_chunk": [asdict(chunk) for chunk in result.per_chunk],
            "mixer_figures": result.mixer_figures,
        }

    def _new_model(self) -> GPT:
        torch.manual_seed(self._config.seed)
        model = GPT(self._config.model).to(self._device)
        return set_precision(model, self._config.training.precision)

    def _trained(self) -> TrainingResult:
        if self._training is None:
            self.train(SilentReporter())
        assert self._training is not None
        return self._training

    def _model_of_artifact(self) -> GPT:
        model = self._new_model()
        model.load_state_dict(read_artifact(self._artifact, model))
        return model

    def _write_artifact(self, reporter: Reporter) -> None:
        config = self._config
        state = self._trained().ema_state
        uncompressed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
        reporter.log(f"Serialized model: {uncompressed} bytes")
        model = self._new_model()
        model.load_state_dict(state)
        started = time.perf_counter()
        hessians = collect_hessians(model, self._calibration_batches())
        reporter.log(
            f"gptq:calibrated {len(hessians)} layers in {time.perf_counter() - started:.1f}s"
        )
        stored = quantize_model(state, hessians, config.export)
        write_artifact(self._artifact, stored, config.export.zstd_level)

    def _calibration_batches(self) -> list[Tensor]:
        config = self._config
        length, left = config.training.sequence_length, config.export.calibration_sequences
        stream = self._data.training_stream(config.model.vocab_size)
        loader = BatchLoader(stream, self._device)
        batches = []
        while left > 0:
            rows = min(CALIBRATION_BATCH_SEQUENCES, left)
            batches.append(loader.next_step(rows * length, length, 1, [0])[0][0])
            left -= rows
        return batches

    def _validation_data(self) -> tuple[Tensor, ByteTable]:
        if self._validation is None:
            vocab_size = self._config.model.vocab_size
            tokens = self._data.validation_tokens(
                vocab_size, self._config.evaluation.sequence_length
            )
            if self._validation_targets is not None:
                tokens = tokens[: self._validation_targets + 1]
            self._validation = tokens, self._data.byte_table(vocab_size)
        return self._validation

    def _slide(self, model: GPT, tag: str, reporter: Reporter) -> dict[str, Any]:
        tokens, table = self._validation_data()
        started = time.perf_counter()
        score = score_sliding(
            model,
            tokens,
            table,
            self._config.evaluation,
            device=self._device,
            reporter=reporter,
        )
        self._log_score(reporter, tag, score, started)
        return {"score": asdict(score)}

    def _log_score(self, reporter: Reporter, tag: str, score: Score, started: float) -> None:
        milliseconds = 1000 * (time.perf_counter() - started)
        reporter.log(
            f"{tag} val_loss:{score.loss:.4f} val_bpb:{score.bpb:.4f} "
            f"stride:{self._config.evaluation.stride} eval_time:{milliseconds:.0f}ms"
        )
        reporter.log(f"{tag}_exact val_loss:{score.loss:.8f} val_bpb:{score.bpb:.8f}")


# hedge_record.standalone

# Switches of PR 700's script for what it submitted without, and the setting that it ran with.
OTHER_SWITCHES = {
    "QTTT": "0",
    "TTT_OPTIMIZER": "adamw",
    "INT6_LAST_N": "0",
    "QAT_ENABLED": "0",
    "TTT_ONLY": "0",
}


def check_switches() -> None:
    for name, setting in OTHER_SWITCHES.items():
        if os.environ.get(name, setting) != setting:
            raise RecordError(
                f"environment variable {name}={os.environ[name]}: this script has that variant "
                f"not; unset it, or set it to {setting}"
            )


class LineReporter(SilentReporter):

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        path.unlink(missing_ok=True)
        self._path = path

    def log(self, line: str) -> None:
        print(line, flush=True)
        append_line(self._path, line)


def standalone_main(
    config: RecordConfig, script: str, data_path: str, tokenizer_path: str
) -> RecordResult:
    data = DataFolder(Path(data_path), Path(tokenizer_path))
    try:
        check_switches()
        with connected_ranks() as (ranks, device):
            run_id = os.environ.get("RUN_ID")
            log = Path("logs") / (f"{run_id}.txt" if run_id else f"train_seed{config.seed}.log")
            return run_record(
                config,
                data,
                Path(ARTIFACT_NAME),
                code_bytes=Path(script).stat().st_size,
                device=device,
                reporter=LineReporter(log) if ranks.is_first else SilentReporter(),
                stages=FreshStages(),
            )
    except RecordError as error:
        raise SystemExit(f"error: {error}") from error


CONFIG = RecordConfig(
    name='embedded',
    seed=int(os.environ.get("SEED", "1337")),
    model=ModelConfig(
        vocab_size=int(os.environ.get("VOCAB_SIZE", "1024")),
        layers=int(os.environ.get("NUM_LAYERS", "6")),
        width=int(os.environ.get("MODEL_DIM", "160")),
        heads=int(os.environ.get("NUM_HEADS", "4")),
        kv_heads=int(os.environ.get("NUM_KV_HEADS", "4")),
        mlp_multiple=float(os.environ.get("MLP_MULT", "3.5")),
        tie_embeddings=os.environ.get("TIE_EMBEDDINGS", "1") == "1",
        embedding_std=float(os.environ.get("TIED_EMBED_INIT_STD", "0.005")),
        logit_softcap=float(os.environ.get("LOGIT_SOFTCAP", "30.0")),
        bigram_buckets=int(os.environ.get("BIGRAM_VOCAB_SIZE", "2048")),
        bigram_width=int(os.environ.get("BIGRAM_DIM", "48")),
        value_embedding=os.environ.get("VE_ENABLED", "1") == "1",
        value_embedding_width=int(os.environ.get("VE_DIM", "48")),
        value_embedding_layers=tuple(int(part) for part in os.environ.get("VE_LAYERS", "4,5").split(",") if part),
        xsa_layers=int(os.environ.get("XSA_LAST_N", "6")),
        rope_dims=int(os.environ.get("ROPE_DIMS", "16")),
        rope_base=float(os.environ.get("ROPE_BASE", "10000.0")),
        rope_training_length=int(os.environ.get("ROPE_TRAIN_SEQ_LEN", "256")),
        rope_angles=os.environ.get("ROPE_ANGLES", "float32"),
        qk_gain=float(os.environ.get("QK_GAIN_INIT", "1.5")),
        depth_scale=os.environ.get("LN_SCALE", "1") == "1",
        depth_gate=os.environ.get("DTG_ENABLED", "0") == "1",
    ),
    training=TrainingConfig(
        iterations=int(os.environ.get("ITERATIONS", "600")),
        seconds=float(os.environ.get("MAX_WALLCLOCK_SECONDS", "0")) or None,
        reserved_seconds=float(os.environ.get("GPTQ_RESERVE_SECONDS", "0.0")),
        batch_tokens=int(os.environ.get("TRAIN_BATCH_TOKENS", "2048")),
        sequence_length=int(os.environ.get("TRAIN_SEQ_LEN", "128")),
        micro_batches=int(os.environ.get("GRAD_ACCUM_STEPS", "8")),
        merge_micro_batches=os.environ.get("MERGE_MICRO_BATCHES", "1") == "1",
        warmup_steps=int(os.environ.get("WARMUP_STEPS", "2")),
        warmdown_steps=int(os.environ.get("WARMDOWN_ITERS", "300")),
        precision=os.environ.get("PRECISION", "float32"),
        matrix_lr=float(os.environ.get("MATRIX_LR", "0.025")),
        embedding_lr=float(os.environ.get("TIED_EMBED_LR", "0.035")),
        scalar_lr=float(os.environ.get("SCALAR_LR", "0.025")),
        weight_decay=float(os.environ.get("MUON_WD", "0.04")),
        adam_weight_decay=float(os.environ.get("ADAM_WD", "0.04")),
        adam_betas=(float(os.environ.get('BETA1', '0.9')), float(os.environ.get('BETA2', '0.95'))),
        adam_epsilon=float(os.environ.get("ADAM_EPS", "1e-08")),
        muon_momentum=float(os.environ.get("MUON_MOMENTUM", "0.95")),
        muon_momentum_start=float(os.environ.get("MUON_MOMENTUM_WARMUP_START", "0.85")),
        muon_momentum_warmup_steps=int(os.environ.get("MUON_MOMENTUM_WARMUP_STEPS", "150")),
        newton_schulz_steps=int(os.environ.get("MUON_BACKEND_STEPS", "5")),
        gradient_clip=float(os.environ.get("GRAD_CLIP_NORM", "0.3")),
        qat_lr_threshold=float(os.environ.get("LATE_QAT_THRESHOLD", "0.25")),
        qat_rounding=os.environ.get("QAT_ROUNDING", "straight-through") if os.environ.get('SOFT_ROUND_QAT', '0') == '0' else 'soft',
        qat_soft_alpha=float(os.environ.get("QAT_SOFT_ALPHA", "5.0")),
        qat_clip_percentile=float(os.environ.get("QAT_CLIP_PERCENTILE", "0.9995")),
        crown_q_lambda=float(os.environ.get("CROWN_Q_LAMBDA", "0.01")),
        ema_decay=float(os.environ.get("EMA_DECAY", "0.97")),
        log_every=int(os.environ.get("TRAIN_LOG_EVERY", "50")),
        checkpoint_every_seconds=float(os.environ.get("CHECKPOINT_EVERY_SECONDS", "30.0")),
    ),
    export=ExportConfig(
        gptq=os.environ.get("GPTQ", "cholesky"),
        clip_range=int(os.environ.get("CLIP_RANGE", "15")),
        scale_floor=float(os.environ.get("SCALE_FLOOR", "0.0")),
        gptq_block=int(os.environ.get("GPTQ_BLOCK", "128")),
        gptq_damping=float(os.environ.get("GPTQ_DAMPING", "0.01")),
        clip_percentiles=tuple(float(part) for part in os.environ.get("CLIP_PERCENTILES", "0.999,0.9995,0.9999,0.99999,1.0").split(",") if part),
        calibration_sequences=int(os.environ.get("GPTQ_CALIBRATION_SEQUENCES", "64")),
        prune_fraction=float(os.environ.get("PRUNE_PCT", "0.03")),
        small_tensor_elements=int(os.environ.get("SMALL_TENSOR_ELEMENTS", "16384")),
        zstd_level=int(os.environ.get("ZSTD_LEVEL", "22")),
    ),
    evaluation=EvaluationConfig(
        sequence_length=int(os.environ.get("EVAL_SEQ_LEN", "256")),
        stride=int(os.environ.get("EVAL_STRIDE", "128")),
        batch_windows=int(os.environ.get("EVAL_BATCH_SEQS", "32")),
        score_tail_repeatedly=os.environ.get("SCORE_TAIL_REPEATEDLY", "0") == "1",
        ttt_epochs=int(os.environ.get("TTT_EPOCHS", "2")),
        ttt_chunk_tokens=int(os.environ.get("TTT_CHUNK_TOKENS", "1024")),
        ttt_batch_sequences=int(os.environ.get("TTT_BATCH_SEQS", "8")),
        ttt_lr=float(os.environ.get("TTT_LR", "0.0012")),
        ttt_lr_cosine=os.environ.get("TTT_LR_COSINE", "0") == "1",
        ttt_lr_ramp=float(os.environ.get("ADAPTIVE_LR_MAX", "1.0")) if os.environ.get('ADAPTIVE_LR', '1') == '1' else 1.0,
        ttt_lr_ramp_fraction=float(os.environ.get("TTT_LR_RAMP_FRACTION", "0.3")),
        ttt_gradient_clip=float(os.environ.get("TTT_GRAD_CLIP", "1.0")),
        ttt_unfrozen_blocks=int(os.environ.get("TTT_FREEZE_BLOCKS", "6")),
        ttt_polyak_decay=float(os.environ.get("POLYAK_DECAY", "0.9")) if os.environ.get('USE_POLYAK', '1') == '1' else 0.0,
        ttt_byte_weighted=os.environ.get("BYTE_WEIGHTED_TTT", "0") == "1",
        temperature=float(os.environ.get("TTT_TEMPERATURE", "0.98")),
        mixer=os.environ.get("MIXER", "compliant") if os.environ.get('USE_MIXER', '1') == '1' else 'off',
        mixer_block_tokens=int(os.environ.get("MIXER_BLOCK_TOKENS", "64")),
        mixer_experts=tuple(str(part) for part in os.environ.get("MIXER_EXPERTS", "neural,unigram,bigram,trigram,4-gram,5-gram,skip,recent").split(",") if part),
        mixer_eta=float(os.environ.get("MIXER_ETA", "0.1")),
        mixer_gate_tokens=int(os.environ.get("MIXER_GATE_TOKENS", "10000")),
        ngram_buckets=int(os.environ.get("NGRAM_BUCKETS", "65536")),
    ),
)


if __name__ == "__main__":
    standalone_main(
        CONFIG,
        __file__,
        os.environ.get("DATA_PATH", './data/embedded_sp1024'),
        os.environ.get("TOKENIZER_PATH", './data/embedded_sp1024/embedded_1024_bpe.model'),
    )
