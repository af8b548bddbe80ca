"""What a submission's own words say of its data: training on the validation text, shared documents.

Only plain statements count: a line that denies, compares or quotes says nothing.
"""

import re
from collections.abc import Iterator

from auditor.finding import Evidence
from auditor.submission.model import Submission

MAX_TEXT = 400_000  # characters of a file that are read
_ON_VALIDATION = re.compile(
    r"(?<!non-)\bval(?:idation)?[- ]only training\b|\btrain(?:ed|ing)?(?: only)? on (?:the )?"
    r"validation (?:shards?|split)\b|\btraining data (?:is |was )?pointed at (?:the )?validation\b",
    re.IGNORECASE,
)
_EARLY_BOUNDARY = re.compile(
    r"\btrain\w{0,4}\b.{0,200}\bval[-_]docs\W{0,12}10[,_]?000\b", re.IGNORECASE
)
_OTHERWISE = re.compile(
    r"\b(?:no|not|never|without|instead|unlike|illegal|invalid|disallowed|reject\w*|fix\w*|"
    r"compared|versus|vs)\b|n't\b|50[,_]?000",
    re.IGNORECASE,
)


def trained_on_validation(submission: Submission) -> Iterator[Evidence]:
    """Lines which say that the model was trained on the validation shards."""
    return _lines(submission, _ON_VALIDATION)


def early_boundary(submission: Submission) -> Iterator[Evidence]:
    """Lines which say that the training documents begin after the first 10,000."""
    return _lines(submission, _EARLY_BOUNDARY)


def _lines(submission: Submission, told: re.Pattern[str]) -> Iterator[Evidence]:
    for name, file in sorted(submission.files.items()):
        if name.lower().endswith(".md"):
            text = file.data[:MAX_TEXT].decode("utf-8", errors="replace")
            for number, line in enumerate(text.splitlines(), 1):
                if told.search(line) and not _OTHERWISE.search(line):
                    yield Evidence(file.path, number, line.strip()[:200])
