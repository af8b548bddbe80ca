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


def folders_of(paths: Iterable[str], jsons: Iterable[str] = ()) -> list[str]:
    """The folders among changed `paths` that are submissions of their own.

    A record folder counts if a script or `submission.json` in it changed. Failing that, a folder
    beside a `submission.json` (of `jsons`) counts if a script in it changed; failing that, one
    that holds a changed `train_gpt*.py`. The root of the repository is the empty string.
    """
    changed = [path for path in paths if path.endswith((".py", JSON_NAME))]
    records = {folder for path in changed if (folder := record_folder(path))}
    if records:
        return sorted(records)
    beside_json = {str(PurePosixPath(path).parent) for path in jsons}
    parents = {str(PurePosixPath(path).parent) for path in changed if path.endswith(".py")}
    variants = {
        str(PurePosixPath(path).parent)
        for path in changed
        if VARIANT.fullmatch(PurePosixPath(path).name)
    }
    return sorted("" if f == "." else f for f in (parents & beside_json) or variants)


def printable(path: str) -> str:
    """A path that JSON and terminals can hold: bytes that are not UTF-8 are shown as escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
