"""Whether a submission competes under the time and hardware limits of the record track."""

import re

from auditor.evidence.figures import JsonClaims

NON_RECORD = re.compile(r"non.?record", re.IGNORECASE)
_UNLIMITED = re.compile(r"unlimited", re.IGNORECASE)


def another_track(described: JsonClaims | None, path: str) -> bool:
    """True if submission.json or the path of the script says so."""
    track = described.track.text if described is not None and described.track is not None else ""
    text = f"{track} {path}"
    return bool(NON_RECORD.search(text) or _UNLIMITED.search(text))
