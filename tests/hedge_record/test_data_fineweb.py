"""The FineWeb download against a server on this machine that can be told to misbehave."""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from hedge_record.data.corpus import Corpus, prepare_folder
from hedge_record.data.fineweb import FineWebSource, download_fineweb, fetch_file
from hedge_record.data.shards import read_shard, write_shard
from hedge_record.errors import RecordError
from hedge_record.progress import SilentReporter

PREFIX = "/datasets/willdepueoai/parameter-golf/resolve/main/datasets/"


class Server(ThreadingHTTPServer):
    """Serves `files`; `cut_after` ends the next answers early, `refuse` answers 503 so often."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after: list[int] = []
        self.refuse = 0
        self.ranges = True

    @property
    def source(self) -> FineWebSource:
        return FineWebSource(f"http://127.0.0.1:{self.server_port}/", retries=2, retry_seconds=0.0)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        path, asked = self.path.removeprefix(PREFIX), self.headers.get("Range")
        server.requests.append((path, asked))
        if server.refuse:
            server.refuse -= 1
            return self.send_error(503)
        if path not in server.files:
            return self.send_error(404)
        data, start = server.files[path], 0
        if asked and server.ranges:
            start = int(re.findall(r"bytes=(\d+)-", asked)[0])
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return None
        self.send_response(206 if asked and server.ranges else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + server.cut_after.pop(0) if server.cut_after else None
        self.wfile.write(data[start:end])
        return None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keeps the test output quiet."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A published dataset: two training shards, one validation shard, 300 pieces."""
    with Server() as server:
        upstream = tmp_path / "upstream"
        corpus = Corpus("t", {}, ("to be or not to be that is the question\n" * 50,), ("x y",))
        folder = prepare_folder(corpus, upstream, 300, reporter=SilentReporter())
        write_shard(upstream / "fineweb_train_000001.bin", [7] * 1000)
        for shard in upstream.glob("*.bin"):
            server.files[f"datasets/fineweb10B_sp300/{shard.name}"] = shard.read_bytes()
        server.files["tokenizers/fineweb_300_bpe.model"] = folder.tokenizer.read_bytes()
        server.files["manifest.json"] = json.dumps(
            {
                "datasets": [
                    {
                        "name": "fineweb10B_sp300",
                        "tokenizer_name": "sp_bpe_300",
                        "stats": {"files_train": 2, "files_val": 1},
                    }
                ],
                "tokenizers": [
                    {"name": "sp_bpe_300", "model_path": "tokenizers/fineweb_300_bpe.model"}
                ],
            }
        ).encode()
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def download(server: Server, root: Path, shards: int = 2) -> Path:
    return download_fineweb(
        root,
        vocab_size=300,
        training_shards=shards,
        source=server.source,
        reporter=SilentReporter(),
    ).path


def test_everything_arrives_once(server: Server, tmp_path: Path) -> None:
    folder = download(server, tmp_path)
    assert folder.name == "fineweb10B_sp300"
    for name in ("fineweb_train_000000.bin", "fineweb_train_000001.bin", "fineweb_val_000000.bin"):
        assert (folder / name).read_bytes() == server.files[f"datasets/fineweb10B_sp300/{name}"]
    server.requests.clear()
    download(server, tmp_path)
    assert [path for path, _ in server.requests if path.endswith(".bin")] == []


def test_a_cut_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    remote, path = "datasets/fineweb10B_sp300/fineweb_train_000001.bin", tmp_path / "s.bin"
    server.cut_after = [1500, 500]
    fetch_file(server.source, remote, path, reporter=SilentReporter())
    assert read_shard(path).tolist() == [7] * 1000
    assert [asked for _, asked in server.requests] == [None, "bytes=1500-", "bytes=2000-"]


def test_a_part_of_an_earlier_run_is_continued(server: Server, tmp_path: Path) -> None:
    remote, path = "datasets/fineweb10B_sp300/fineweb_train_000001.bin", tmp_path / "s.bin"
    for part in (2000, len(server.files[remote])):
        (tmp_path / "s.bin.partial").write_bytes(server.files[remote][:part])
        path.unlink(missing_ok=True)
        fetch_file(server.source, remote, path, reporter=SilentReporter())
        assert read_shard(path).tolist() == [7] * 1000
    assert [asked for _, asked in server.requests] == ["bytes=2000-", "bytes=3024-"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    remote, path = "datasets/fineweb10B_sp300/fineweb_train_000001.bin", tmp_path / "s.bin"
    server.ranges, server.cut_after = False, [1500]
    fetch_file(server.source, remote, path, reporter=SilentReporter())
    assert read_shard(path).tolist() == [7] * 1000


def test_passing_trouble_is_waited_out_and_lasting_trouble_reported(
    server: Server, tmp_path: Path
) -> None:
    server.refuse = 2
    fetch_file(server.source, "manifest.json", tmp_path / "m", reporter=SilentReporter())
    server.refuse = 3
    with pytest.raises(RecordError, match=r"503.*run the same command again"):
        fetch_file(server.source, "manifest.json", tmp_path / "n", reporter=SilentReporter())


def test_a_missing_file_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"absent\.bin: .*404"):
        fetch_file(server.source, "absent.bin", tmp_path / "a.bin", reporter=SilentReporter())
    assert len(server.requests) == 1


def test_a_shard_that_does_not_match_its_header_is_not_kept(server: Server, tmp_path: Path) -> None:
    remote = "datasets/fineweb10B_sp300/fineweb_train_000001.bin"
    server.files[remote] = server.files[remote][:-4]
    with pytest.raises(RecordError, match="do not match the shard's header"):
        fetch_file(server.source, remote, tmp_path / "s.bin", reporter=SilentReporter())
    assert list(tmp_path.glob("s.bin*")) == []


def test_what_is_not_published_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="has 2 training shards, not 3"):
        download(server, tmp_path, shards=3)
    with pytest.raises(RecordError, match=r"fineweb10B_sp77 is not published.*fineweb10B_sp300"):
        download_fineweb(tmp_path, vocab_size=77, source=server.source, reporter=SilentReporter())


def test_nobody_answering_is_one_clear_error(tmp_path: Path) -> None:
    source = FineWebSource("http://127.0.0.1:9", retries=0)
    with pytest.raises(RecordError, match="check the address and the network"):
        fetch_file(source, "manifest.json", tmp_path / "m", reporter=SilentReporter())
