"""A user's own text as a corpus: the first nine tenths train, the last tenth is scored."""

import hashlib
from pathlib import Path

from hedge_record.data.corpus import Corpus
from hedge_record.errors import RecordError

VALIDATION_FRACTION = 0.1
MINIMUM_CHARACTERS = 20_000
# Passages stand for documents; their length is that of a web page, as in FineWeb.
PASSAGE_CHARACTERS = 4000


def read_text_corpus(path: Path) -> Corpus:
    """Splits a UTF-8 text file by position, at a line end.

    Raises:
        RecordError: missing, not UTF-8, or too small to train on and to score.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").strip()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not UTF-8 at byte {error.start}; convert it first") from error
    if len(text) < MINIMUM_CHARACTERS:
        raise RecordError(
            f"{path}: {len(text):,} characters are too few to train on and to score; "
            f"give at least {MINIMUM_CHARACTERS:,}"
        )
    cut = int(len(text) * (1 - VALIDATION_FRACTION))
    line_end = text.rfind("\n", cut // 2, cut)
    cut = line_end if line_end > 0 else cut
    return Corpus(
        name="text",
        source={"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)},
        train=tuple(split_passages(text[:cut])),
        validation=(text[cut:].strip(),),
    )


def split_passages(text: str, characters: int = PASSAGE_CHARACTERS) -> list[str]:
    """Cuts a text at line ends into passages of about `characters`; nothing but edges is lost."""
    passages: list[str] = []
    start = 0
    while start < len(text):
        end = start + characters
        line_end = text.rfind("\n", start + characters // 2, end) if end < len(text) else -1
        end = line_end if line_end > 0 else end
        if passage := text[start:end].strip():
            passages.append(passage)
        start = end
    return passages
