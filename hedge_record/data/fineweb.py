"""Downloads the challenge's own shards and tokenizer from the Hugging Face dataset.

Layout of the dataset `willdepueoai/parameter-golf`, all below `datasets/`:
`manifest.json` (which datasets and tokenizers there are, how many shards each has),
`datasets/fineweb10B_sp1024/fineweb_{train,val}_000000.bin`, `tokenizers/fineweb_1024_bpe.model`.

A download that was cut off goes on where it stopped; a file that is there and whole is kept.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hedge_record.data.folder import DataFolder, open_data_folder
from hedge_record.data.shards import SHARD_HEADER_BYTES, shard_tokens_declared
from hedge_record.errors import RecordError
from hedge_record.files import make_folder
from hedge_record.progress import Reporter

REPOSITORY = "willdepueoai/parameter-golf"
DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_TRAINING_SHARDS = 80
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FineWebSource:
    """Where to download from, and how stubbornly."""

    endpoint: str = DEFAULT_ENDPOINT
    repository: str = REPOSITORY
    retries: int = 5
    retry_seconds: float = 1.0  # doubled after every failure
    timeout_seconds: float = 60.0

    @classmethod
    def from_environment(cls) -> "FineWebSource":
        """Honours `HF_ENDPOINT`, as Hugging Face's own client does."""
        return cls(endpoint=os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT))

    def url(self, path: str) -> str:
        """The address of a file below the dataset's `datasets/` folder."""
        endpoint = self.endpoint.rstrip("/")
        return f"{endpoint}/datasets/{self.repository}/resolve/main/datasets/{path}"


def download_fineweb(
    root: Path,
    *,
    vocab_size: int = 1024,
    training_shards: int = DEFAULT_TRAINING_SHARDS,
    source: FineWebSource,
    reporter: Reporter,
) -> DataFolder:
    """The data folder `root/fineweb10B_sp<V>`: all validation shards, the first training shards.

    Raises:
        RecordError: unknown vocabulary, more shards than exist, no network, or damaged files.
    """
    name = f"fineweb10B_sp{vocab_size}"
    folder = make_folder(root / name)
    manifest_path = folder / "fineweb_manifest.json"
    manifest_path.unlink(missing_ok=True)  # small, and the one file that may change upstream
    fetch_file(source, "manifest.json", manifest_path, reporter=reporter)
    validation, available, tokenizer = _read_upstream_manifest(manifest_path, name)
    if not 1 <= training_shards <= available:
        raise RecordError(
            f"{name} has {available} training shards, not {training_shards}; "
            f"ask for 1 to {available}"
        )
    fetch_file(source, tokenizer, folder / Path(tokenizer).name, reporter=reporter)
    for split, count in (("val", validation), ("train", training_shards)):
        for index in range(count):
            shard = f"fineweb_{split}_{index:06d}.bin"
            fetch_file(source, f"datasets/{name}/{shard}", folder / shard, reporter=reporter)
    return open_data_folder(folder)


def fetch_file(source: FineWebSource, remote: str, path: Path, *, reporter: Reporter) -> None:
    """Downloads one file into place, continuing a part that an earlier call left.

    Raises:
        RecordError: it does not exist, the server cannot be reached, or the shard is damaged.
    """
    if path.is_file() and _is_whole_shard(path):
        return
    partial = path.with_name(f"{path.name}.partial")
    for attempt in range(source.retries + 1):
        try:
            _download(source, remote, partial, reporter)
            break
        except (OSError, http.client.HTTPException) as error:
            # A missing or forbidden file will not appear by asking again.
            final = isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500
            if final or attempt == source.retries:
                raise RecordError(
                    f"{source.url(remote)}: {error}; check the address and the network, "
                    "then run the same command again to continue"
                ) from error
            time.sleep(source.retry_seconds * 2**attempt)
    if not _is_whole_shard(partial, path.suffix):
        size = partial.stat().st_size
        partial.unlink()
        raise RecordError(
            f"{source.url(remote)}: the {size:,} bytes received do not match the shard's header; "
            "run the same command again"
        )
    partial.replace(path)


def _download(source: FineWebSource, remote: str, partial: Path, reporter: Reporter) -> None:
    """One attempt; raises OSError or HTTPException when the connection fails or ends early."""
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(source.url(remote))
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=source.timeout_seconds)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            # Either the part is already the whole file, or it is not ours: the header decides.
            partial_is_complete = error.headers.get("Content-Range") == f"bytes */{start}"
            if not partial_is_complete:
                partial.unlink()
                raise ConnectionError("the part on disk does not fit the remote file") from error
            return
        raise
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        reporter.start(f"download {Path(remote).name}", total or 0, "bytes")
        reporter.advance(start)
        with partial.open("ab" if resumed else "wb") as file:
            while block := response.read(BLOCK_BYTES):
                file.write(block)
                reporter.advance(len(block))
        reporter.finish()
    received = partial.stat().st_size
    if total is not None and received < total:
        raise ConnectionError(f"connection closed after {received:,} of {total:,} bytes")


def _is_whole_shard(path: Path, suffix: str | None = None) -> bool:
    """Whether a shard's size is the one in its header; other files count as whole."""
    if (suffix or path.suffix) != ".bin":
        return True
    with path.open("rb") as file:
        header = file.read(SHARD_HEADER_BYTES)
    try:
        tokens = shard_tokens_declared(path, header)
    except RecordError:
        return False
    return path.stat().st_size == SHARD_HEADER_BYTES + 2 * tokens


def _read_upstream_manifest(path: Path, name: str) -> tuple[int, int, str]:
    """Validation shards, training shards and the tokenizer's path of one published dataset."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        datasets = {entry["name"]: entry for entry in manifest["datasets"]}
        tokenizers = {entry["name"]: entry for entry in manifest["tokenizers"]}
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: not the dataset's manifest ({error!r})") from error
    if name not in datasets:
        raise RecordError(f"{name} is not published; there are: {', '.join(sorted(datasets))}")
    try:
        stats = datasets[name]["stats"]
        tokenizer = str(tokenizers[datasets[name]["tokenizer_name"]]["model_path"])
        return int(stats["files_val"]), int(stats["files_train"]), tokenizer
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: the entry of {name} is incomplete ({error!r})") from error
