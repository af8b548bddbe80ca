"""F2: the record was not run on eight H100 of the SXM kind."""

from collections.abc import Iterator

from auditor.finding import Axis, Basis, Confidence, Evidence, Finding, Status
from auditor.rules.base import Context, Rule
from auditor.rules.devices import EIGHT_H100, OTHER_DEVICES, eight_devices, other_devices
from auditor.rules.track import outside_the_record_track

README_TEXT = 100_000  # characters


class Hardware(Rule):
    """Compares the devices that logs, submission.json and README name with the record track's."""

    id = "F2"
    title = "not run on 8xH100 SXM"
    axis = Axis.READINESS
    what = (
        "Logs, submission.json or README name other devices than eight H100, or fewer. A statement "
        "of the README alone is believed with low confidence; where nothing is named, it is not "
        "known on what the run took place."
    )
    why = "Ten minutes are a budget of computation only if everybody has the same machine."
    source = "README: records run in 10 minutes on 8xH100 SXM"
    precedents = ("#2103",)
    legal = "Any hardware outside the record track."
    known_misses = ("H100 cards on PCIe that are named without their kind",)
    version = 2

    def check(self, context: Context) -> Iterator[Finding]:
        """What shows the devices: logs first, then submission.json, then the README."""
        if not context.submission.is_folder:
            yield self.finding(Status.NOT_APPLICABLE, "a lone script names no hardware")
            return
        if outside_the_record_track(context):
            yield self.finding(Status.NOT_APPLICABLE, "not in the record track")
            return
        claimed = context.claims.submission_json
        stated = claimed.hardware if claimed is not None else None
        yield self._logged(context) or self._stated(stated) or self._described(context)

    def _logged(self, context: Context) -> Finding | None:
        """By the logs: eight devices in one of them, or other devices in those that name any."""
        fewer: list[Evidence] = []
        for log in context.claims.logs:
            shown = eight_devices(log)
            if shown is not None:
                return self.finding(
                    Status.PASS, "a log shows eight devices", (shown,), basis=Basis.LOG
                )
            if (other := other_devices(log)) is not None:
                fewer.append(other)
        if not fewer:
            return None
        return self.finding(
            Status.FAIL,
            "the logs show other devices than eight H100",
            tuple(fewer[:4]),
            basis=Basis.LOG,
        )

    def _stated(self, stated: Evidence | None) -> Finding | None:
        """By the field of submission.json."""
        if stated is None:
            return None
        if EIGHT_H100.search(stated.text):
            reason = "submission.json names 8xH100"
            return self.finding(Status.PASS, reason, (stated,), basis=Basis.CLAIM)
        if OTHER_DEVICES.search(stated.text):
            reason = "submission.json names other devices than eight H100"
            return self.finding(Status.FAIL, reason, (stated,), basis=Basis.CLAIM)
        return None

    def _described(self, context: Context) -> Finding:
        """By the README."""
        other: Evidence | None = None
        for path, number, line in _readme(context):
            here = Evidence(path, number, line.strip()[:200])
            if EIGHT_H100.search(line):
                return self.finding(
                    Status.PASS,
                    "the README names 8xH100; no log shows it",
                    (here,),
                    basis=Basis.CLAIM,
                    confidence=Confidence.LOW,
                )
            if other is None and OTHER_DEVICES.search(line):
                other = here
        if other is not None:
            return self.finding(
                Status.NOTE,
                "the README names other devices and never eight H100",
                (other,),
                basis=Basis.CLAIM,
                confidence=Confidence.LOW,
            )
        return self.finding(
            Status.UNKNOWN,
            "neither a log nor submission.json nor the README names the devices",
            basis=Basis.LOG if context.claims.logs else Basis.CLAIM,
        )


def _readme(context: Context) -> Iterator[tuple[str, int, str]]:
    for name in sorted(context.submission.files):
        if name.rpartition("/")[2].lower().startswith("readme"):
            file = context.submission.files[name]
            text = file.data[:README_TEXT].decode("utf-8", errors="replace")
            for number, line in enumerate(text.splitlines(), 1):
                yield file.path, number, line[:2000]
