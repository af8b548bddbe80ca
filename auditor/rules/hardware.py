"""F2: the record was not run on eight H100 of the SXM kind."""

import re
from collections.abc import Iterator

from auditor.finding import Axis, Basis, Evidence, Finding, Status
from auditor.rules.base import Context, Rule

_CLAIM = re.compile(r"\b(?:8\s?[x×]\s?(?:nvidia\s)?h100|h100[^,;]{0,30}[x×]\s?8)\b", re.IGNORECASE)
_NON_RECORD = re.compile(r"non.?record|unlimited", re.IGNORECASE)


class Hardware(Rule):
    """Compares the devices that logs and submission.json name with those of the record track."""

    id = "F2"
    title = "not run on 8xH100 SXM"
    axis = Axis.READINESS
    what = "Neither a log nor submission.json shows that the run took place on eight H100."
    why = "Ten minutes are a budget of computation only if everybody has the same machine."
    source = "README: records run in 10 minutes on 8xH100 SXM"
    precedents = ("#2103",)
    legal = "Any hardware outside the record track."

    def check(self, context: Context) -> Iterator[Finding]:
        """A pass with the line that shows it, or a failure with what is named instead."""
        if not context.submission.is_folder:
            yield self.finding(Status.NOT_APPLICABLE, "a lone script names no hardware")
            return
        claimed = context.claims.submission_json
        track = claimed.track.text if claimed is not None and claimed.track is not None else ""
        if _NON_RECORD.search(f"{track} {context.submission.main.path}"):
            yield self.finding(Status.NOT_APPLICABLE, "not in the record track")
            return
        named: list[Evidence] = []
        for log in context.claims.logs:
            devices = [e for e in log.hardware if "H100" in e.text]
            worlds = log.world_size.value if log.world_size is not None else 0
            if len(devices) >= 8 or worlds >= 8:
                shown = devices[:1] or ([log.world_size.evidence] if log.world_size else [])
                yield self.finding(
                    Status.PASS, "a log shows eight devices", tuple(shown), basis=Basis.LOG
                )
                return
            named += [*log.hardware[:1], *([log.world_size.evidence] if log.world_size else [])]
        if claimed is not None and claimed.hardware is not None:
            if _CLAIM.search(claimed.hardware.text):
                yield self.finding(
                    Status.PASS,
                    "submission.json names 8xH100",
                    (claimed.hardware,),
                    basis=Basis.CLAIM,
                )
                return
            named.append(claimed.hardware)
        yield self.finding(
            Status.FAIL,
            "nothing shows a run on 8xH100 SXM",
            tuple(named[:4]),
            basis=Basis.LOG if context.claims.logs else Basis.CLAIM,
        )
