"""Which files make up a submission, and which of them is the main script.

The challenge asks for one new folder `records/track_*/NAME/` that holds `train_gpt.py` and
`submission.json`. Many differ, so the main script is the best of several tiers.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

RECORD_FOLDER = re.compile(r"records/track_[^/]+/[^/]+")
JSON_NAME = "submission.json"
VARIANT = re.compile(r"train_gpt[^/]*\.py")
TRAINER = re.compile(r"train[^/]*\.py")
HELPER = re.compile(r"(?:test_|prepare_|setup|conftest|download_|plot_)[^/]*\.py|[^/]*_test\.py")

MAX_FILE_BYTES = 8 << 20  # the longest real script has 1.6 MB, the longest log that is read 7 MB
MAX_FOLDER_BYTES = 64 << 20
MAX_FILES = 4000


def tier(path: str) -> int | None:
    """How likely `path`, relative to its record folder, is the main script; 0 is likeliest."""
    name = PurePosixPath(path).name
    nested = "/" in path
    if not name.endswith(".py"):
        return None
    if name == "train_gpt.py":
        return 3 if nested else 0
    if VARIANT.fullmatch(name):
        return 4 if nested else 2 if "mlx" in name else 1
    if nested or HELPER.fullmatch(name):
        return None
    return 5 if name.startswith("train") else 6


def main_script(sizes: Mapping[str, int]) -> str | None:
    """The main script among a record folder's files (path to size in bytes).

    Within a tier the largest file wins: a launcher is shorter than what it launches.
    """
    scripts = [
        (rank, -size, path) for path, size in sizes.items() if (rank := tier(path)) is not None
    ]
    return min(scripts)[2] if scripts else None


def record_folder(path: str) -> str | None:
    """The record folder that holds `path`, by the challenge's layout; None outside of it."""
    found = RECORD_FOLDER.match(path)
    return found.group() if found and path[found.end() : found.end() + 1] == "/" else None


def candidates(paths: Iterable[str], jsons: Iterable[str] = ()) -> list[list[str]]:
    """Folders that may hold the submissions of a change, in groups: the first group that holds a
    script counts.

    Of the changed `paths`: record folders where a script or `submission.json` changed, and, in them
    or elsewhere, folders with a `submission.json` (of `jsons`) of their own where a `train_gpt*.py`
    changed; folders beside a `submission.json` where any script changed; folders where a
    `train*.py` changed. The root of the repository is the empty string.
    """
    changed = [path for path in paths if path.endswith((".py", JSON_NAME))]
    beside_json = {_parent(path) for path in jsons}
    scripts = [path for path in changed if path.endswith(".py")]
    records = {folder for path in changed if (folder := record_folder(path))}
    variants = {_parent(path) for path in scripts if VARIANT.fullmatch(PurePosixPath(path).name)}
    return [
        sorted(records | (variants & beside_json if records else set())),
        sorted({_parent(path) for path in scripts} & beside_json),
        sorted({_parent(path) for path in scripts if TRAINER.fullmatch(PurePosixPath(path).name)}),
    ]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def printable(path: str) -> str:
    """A path that JSON and terminals can hold: bytes that are not UTF-8 are shown as escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
