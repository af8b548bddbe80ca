"""T1: training takes more than 600 seconds."""

from collections.abc import Iterator

from auditor.finding import Axis, Basis, Confidence, Finding, Status
from auditor.rules.base import Context, Rule
from auditor.rules.devices import other_devices
from auditor.rules.track import outside_the_record_track

WINDOW = 600.0  # seconds
TOLERANCE = 0.2  # seconds: merged records overshoot by up to 0.14
_FORCED = "FORCE_STOP_STEP"


class TrainingTooLong(Rule):
    """Reads the training clock at which each log says that training stopped."""

    id = "T1"
    title = "training takes more than 600 seconds"
    axis = Axis.READINESS
    what = (
        "The training clock at the stop is more than 0.2 seconds past 600 in every log that has "
        "one; a run that was ended at a step chosen beforehand is noted."
    )
    why = "More training is a better score: the budget is what makes records comparable."
    source = (
        "README: records train in under 10 minutes; PR 1908, at 601.2 s, was run again as PR 1956"
    )
    precedents = ("#1908",)
    legal = (
        "A last step that ends up to 0.2 s late; compilation and a warm-up whose state is restored."
    )
    known_misses = ("a clock that the script stops or sets back", "a run without a log")

    def check(self, context: Context) -> Iterator[Finding]:
        """Every log's stop, the longest first."""
        if outside_the_record_track(context):
            yield self.finding(Status.NOT_APPLICABLE, "not in the record track")
            return
        forced = context.configuration.settings.get(_FORCED)
        if forced is not None and forced.value not in ("", "0"):
            yield self.finding(
                Status.NOTE,
                f"training was ended at a step chosen beforehand: {forced.value}",
                (forced.evidence,),
                basis=Basis.LOG,
                confidence=Confidence.MEDIUM,
            )
        known = [
            (log.train_stop.value / 1000, log.train_stop.evidence)
            for log in context.claims.logs
            if log.train_stop is not None and other_devices(log) is None
        ]
        if not known:
            reason = "no log says when training stopped on the devices that the limit is for"
            yield self.finding(Status.NOT_APPLICABLE, reason, basis=Basis.LOG)
            return
        known.sort(key=lambda stop: -stop[0])
        late = [(s, e) for s, e in known if s > WINDOW + TOLERANCE]
        status = Status.PASS
        if late:
            status = Status.FAIL if len(late) == len(known) else Status.NOTE
        yield self.finding(
            status,
            f"training stops after {', '.join(f'{s:.1f}' for s, _ in known[:6])} s",
            tuple(e for _, e in (late or known)[:3]),
            basis=Basis.LOG,
        )
