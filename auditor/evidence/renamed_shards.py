"""Commands that give a validation shard the name of a training shard."""

import re
from collections.abc import Iterator

from auditor.finding import Evidence
from auditor.submission.model import Submission

MAX_TEXT = 400_000  # characters of a file that are read
_COMMAND = re.compile(
    r"^(?:[-*>$#`]{1,3}\s{1,4})?(?:ln|cp|mv|rsync)\s{1,4}(?:-\S{1,20}\s{1,4}){0,4}"
    r"\S{0,300}_val_\S{1,80}\s{1,4}\S{0,300}_train_\S{1,80}"
)


def renamed_shards(submission: Submission) -> Iterator[Evidence]:
    """Such lines of the README and of shell scripts."""
    for name, file in sorted(submission.files.items()):
        if name.endswith(".sh") or name.rpartition("/")[2].lower().startswith("readme"):
            text = file.data[:MAX_TEXT].decode("utf-8", errors="replace")
            for number, line in enumerate(text.splitlines(), 1):
                if _COMMAND.match(line.strip()):
                    yield Evidence(file.path, number, line.strip()[:200])
