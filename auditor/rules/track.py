"""Whether a submission competes under the time and hardware limits of the record track."""

from auditor.evidence.track import another_track
from auditor.rules.base import Context


def outside_the_record_track(context: Context) -> bool:
    """True if submission.json or the folder's name says so."""
    return another_track(context.claims.submission_json, context.submission.main.path)
