"""Turns documents into a data folder: tokenizer, shards and a manifest that says what is in it.

The tokenizer (SentencePiece BPE with byte fallback) sees the training documents alone. It is
lossless: no normalisation, newline as a piece of its own, so that decoding gives the text back and
the byte table counts exactly its UTF-8 bytes.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from hedge_record.data.byte_table import load_tokenizer
from hedge_record.data.folder import DataFolder, open_data_folder
from hedge_record.data.shards import write_shard
from hedge_record.errors import RecordError
from hedge_record.files import make_folder, write_atomically
from hedge_record.progress import Reporter

# Raised whenever the same corpus would be written differently.
DATA_FORMAT = 1
MANIFEST_NAME = "manifest.json"
TRAIN_SHARD_NAME = "fineweb_train_000000.bin"
VALIDATION_SHARD_NAME = "fineweb_val_000000.bin"


@dataclass(frozen=True)
class Corpus:
    """Documents of both sides, and the facts that identify where they come from."""

    name: str
    source: dict[str, Any]
    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class SplitCounts:
    """Size of one side as it was written."""

    documents: int
    tokens: int
    bytes: int


def prepare_folder(
    corpus: Corpus, folder: Path, vocab_size: int, *, reporter: Reporter
) -> DataFolder:
    """Writes the data folder of a corpus, or finds that it is there already, whole and the same.

    Raises:
        RecordError: the folder cannot be written, or the text is too small for the vocabulary.
    """
    recipe = {
        "format": DATA_FORMAT,
        "name": corpus.name,
        "source": corpus.source,
        "vocab_size": vocab_size,
        "documents_sha256": {
            "train": _documents_digest(corpus.train),
            "validation": _documents_digest(corpus.validation),
        },
    }
    if _is_whole(folder, recipe):
        return open_data_folder(folder)
    make_folder(folder)
    tokenizer_name = f"{corpus.name}_{vocab_size}_bpe.model"
    for stale in (*folder.glob("*.model"), *folder.glob("fineweb_*.bin")):
        stale.unlink()
    model = train_tokenizer(corpus.train, vocab_size)
    write_atomically(folder / tokenizer_name, model)
    counts = {}
    for split, documents, shard in (
        ("train", corpus.train, TRAIN_SHARD_NAME),
        ("validation", corpus.validation, VALIDATION_SHARD_NAME),
    ):
        tokens = encode_documents(folder / tokenizer_name, documents, split, reporter=reporter)
        write_shard(folder / shard, tokens)
        size = sum(len(document.encode("utf-8")) for document in documents)
        counts[split] = asdict(SplitCounts(len(documents), int(tokens.size), size))
    names = (tokenizer_name, TRAIN_SHARD_NAME, VALIDATION_SHARD_NAME)
    manifest = {
        "recipe": recipe,
        "counts": counts,
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names
        },
    }
    write_atomically(folder / MANIFEST_NAME, json.dumps(manifest, indent=2) + "\n")
    return open_data_folder(folder)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a prepared folder; None where there is none (downloaded FineWeb shards)."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def data_identity(folder: Path) -> dict[str, Any]:
    """What tells one data folder from another: `files`, and `counts` where we wrote them.

    `files` gives the sha256 of each file; of downloaded shards, which are large, the size.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        return {"files": manifest["sha256"], "counts": manifest["counts"]}
    paths = sorted((*folder.glob("fineweb_*.bin"), *folder.glob("*.model")))
    return {"files": {path.name: path.stat().st_size for path in paths}}


def train_tokenizer(documents: Sequence[str], vocab_size: int) -> bytes:
    """A SentencePiece BPE model with `vocab_size` pieces, the same bytes for the same documents.

    Raises:
        RecordError: the text is too small or too varied for that many pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(documents),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_digits=True,
            # Newlines never reach the trainer, which reads line by line.
            user_defined_symbols=["\n"],
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise RecordError(
            f"no tokenizer with {vocab_size} pieces can be trained on "
            f"{sum(map(len, documents)):,} characters; give a longer text"
        ) from error
    return model.getvalue()


def encode_documents(
    tokenizer: Path, documents: Sequence[str], label: str, *, reporter: Reporter
) -> np.ndarray:
    """All documents as one array of tokens, uint16, each opened by the BOS token."""
    processor = load_tokenizer(tokenizer)
    parts = []
    reporter.start(f"encode {label}", len(documents), "documents")
    for document in documents:
        parts.append(np.array([processor.bos_id(), *processor.encode(document)], dtype=np.uint16))
        reporter.advance(1)
    reporter.finish()
    return np.concatenate(parts)


def _lines(documents: Sequence[str]) -> Iterator[str]:
    for document in documents:
        yield from filter(None, document.split("\n"))


def _documents_digest(documents: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        raw = document.encode("utf-8")
        digest.update(f"{len(raw)}\n".encode() + raw)
    return digest.hexdigest()


def _is_whole(folder: Path, recipe: dict[str, Any]) -> bool:
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("recipe") != recipe:
        return False
    return all(
        (folder / name).is_file()
        and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in manifest["sha256"].items()
    )
