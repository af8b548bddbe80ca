"""What a log says of the devices that it was written on."""

import re

from auditor.evidence.figures import LogClaims
from auditor.finding import Evidence

DEVICES = 8
EIGHT_H100 = re.compile(
    r"\b(?:8|eight)\s?[x×*]?\s?(?:nvidia[ -])?h100|\bh100[^,;.\n]{0,30}[x×]\s?8\b", re.IGNORECASE
)
OTHER_DEVICES = re.compile(
    r"\bcpus?\b|\b[1-7]\s?[x×]\s?(?:nvidia )?[hab]\d00|\bv100\b|\btpu\b|"
    r"\b(?:a100|h200|b200|h800|l40s?|t4)\b|\brtx ?\w|\bapple\b|\bm[1-4] (?:max|pro|ultra)\b|"
    r"\b(?:single|one) gpu\b",
    re.IGNORECASE,
)


def eight_devices(log: LogClaims) -> Evidence | None:
    """The line of a log that shows eight H100, or as many ranks."""
    devices = [e for e in log.hardware if "H100" in e.text]
    if len(devices) >= DEVICES:
        return devices[0]
    if log.world_size is not None:
        return log.world_size.evidence if log.world_size.value >= DEVICES else None
    return next((e for e in log.hardware if EIGHT_H100.search(e.text)), None)


def other_devices(log: LogClaims) -> Evidence | None:
    """The line of a log that shows fewer devices or others: its seconds are not the record's."""
    if eight_devices(log) is not None:
        return None
    if log.world_size is not None:
        return log.world_size.evidence
    return next((e for e in log.hardware if OTHER_DEVICES.search(e.text)), None)
