"""Whether a submission competes under the time and hardware limits of the record track."""

import re

from auditor.rules.base import Context

_NON_RECORD = re.compile(r"non.?record|unlimited", re.IGNORECASE)


def outside_the_record_track(context: Context) -> bool:
    """True if submission.json or the folder's name says so."""
    described = context.claims.submission_json
    track = described.track.text if described is not None and described.track is not None else ""
    return bool(_NON_RECORD.search(f"{track} {context.submission.main.path}"))
