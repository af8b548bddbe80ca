"""What a submission claims of itself outside its code: `submission.json` and its logs."""

from auditor.evidence.figures import (
    Claims,
    Figure,
    JsonClaims,
    LogClaims,
    Metric,
    Setting,
    Size,
    SizeKind,
)
from auditor.evidence.logs import is_log, read_log
from auditor.evidence.submission_json import read_submission_json
from auditor.finding import Evidence
from auditor.submission.folder import JSON_NAME
from auditor.submission.model import Submission

__all__ = [
    "Claims",
    "Figure",
    "JsonClaims",
    "LogClaims",
    "Metric",
    "Setting",
    "Size",
    "SizeKind",
    "read_claims",
]


def read_claims(submission: Submission) -> Claims:
    """Every claim of a submission; what could not be read is among the `problems`. Never raises."""
    problems: list[Evidence] = []
    described = None
    if JSON_NAME in submission.files:
        read = read_submission_json(submission.files[JSON_NAME])
        if isinstance(read, Evidence):
            problems.append(read)
        else:
            described = read
    logs = []
    for name in sorted(submission.files):
        if is_log(name):
            log = read_log(submission.files[name])
            if isinstance(log, Evidence):
                problems.append(log)
            elif log.metrics or log.sizes or log.train_end or name.endswith(".log"):
                logs.append(log)
    return Claims(described, tuple(logs), tuple(problems))
