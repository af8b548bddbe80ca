"""The script that a log repeats, held against the shipped one: was the run of this code?"""

from collections import Counter
from dataclasses import dataclass

from auditor.evidence.figures import LogClaims
from auditor.evidence.logs import log_lines
from auditor.finding import Evidence
from auditor.submission.model import Submission

_ANOTHER_TEXT = 0.5  # of the lines: where fewer agree, a packed script is held against its contents


@dataclass(frozen=True)
class EmbeddedSource:
    """`missing` is how many lines of the repeated script the shipped one does not have, `added`
    how many it has more; `first` the first of the missing.
    """

    missing: int
    added: int
    first: Evidence | None


def embedded_source(submission: Submission, log: LogClaims) -> EmbeddedSource | None:
    """How the script in a log differs from the main script, line by line, blank lines and spaces
    at line ends apart; None if the log repeats none, or another text altogether."""
    file = next((f for f in submission.files.values() if f.path == log.path), None)
    if file is None or log.embedded_source is None:
        return None
    first, last = log.embedded_source
    repeated = [(n, t.rstrip()) for n, t in enumerate(log_lines(file), 1) if first <= n <= last]
    shipped = Counter(
        text
        for line in submission.main.data.decode("utf-8-sig", "replace").splitlines()
        if (text := line.rstrip())
    )
    left = shipped.copy()
    missing = []
    for number, text in repeated:
        if text and left[text] > 0:
            left[text] -= 1
        elif text:
            missing.append(Evidence(log.path, number, text[:200]))
    lines = sum(1 for _, text in repeated if text)
    if not lines or len(missing) > _ANOTHER_TEXT * lines:
        return None
    return EmbeddedSource(len(missing), left.total(), missing[0] if missing else None)
