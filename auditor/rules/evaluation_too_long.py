"""T2: evaluation takes more than 600 seconds."""

from collections.abc import Iterator
from dataclasses import dataclass

from auditor.evidence.figures import Block, LogClaims
from auditor.evidence.runs import within_evaluation
from auditor.finding import Axis, Basis, Confidence, Finding, Status
from auditor.rules.base import Context, Rule
from auditor.rules.devices import other_devices
from auditor.rules.track import outside_the_record_track

WINDOW = 600.0  # seconds


@dataclass(frozen=True)
class _Timed:
    """The blocks of one log that its score cannot do without."""

    blocks: tuple[Block, ...]

    @property
    def seconds(self) -> float:
        return sum(block.seconds for block in self.blocks)


class EvaluationTooLong(Rule):
    """Adds up the timed blocks of the evaluation that depend on the validation text."""

    id = "T2"
    title = "evaluation takes more than 600 seconds"
    axis = Axis.VALIDITY
    what = (
        "In every log, the longest timed evaluation and what was computed from the validation text "
        "outside of its timer take more than 600 seconds together."
    )
    why = (
        "What an evaluation may learn from the text grows with its time; a score that does not "
        "fit into the budget cannot be had within it."
    )
    source = (
        "README: evaluation within 10 minutes, in addition to training; about 688 seconds were "
        "counted against PR 1972"
    )
    precedents = ("#1972", "#889")
    legal = (
        "Compilation on random tokens, and diagnostic evaluations that the score does not need, "
        "outside of the budget."
    )
    known_misses = (
        "adaptation on the validation text that the log does not time as evaluation",
        "a timer that is started late",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """The longest evaluation over the logs, with its blocks."""
        if outside_the_record_track(context):
            yield self.finding(Status.NOT_APPLICABLE, "not in the record track", basis=Basis.LOG)
            return
        comparable = [log for log in context.claims.logs if other_devices(log) is None]
        timed = [t for log in comparable if (t := _timed(log)).blocks]
        if not timed:
            reason = "no log says how long evaluation took on the devices that the limit is for"
            yield self.finding(Status.NOT_APPLICABLE, reason, basis=Basis.LOG)
            return
        longest = max(timed, key=lambda t: t.seconds)
        late = [t for t in timed if t.seconds > WINDOW]
        status = Status.PASS
        if late:
            status = Status.FAIL if len(late) == len(timed) else Status.NOTE
        parts = " and ".join(f"{block.name} {block.seconds:.1f} s" for block in longest.blocks)
        yield self.finding(
            status,
            f"the longest evaluation takes {longest.seconds:.1f} s: {parts}",
            tuple(block.evidence for block in longest.blocks),
            basis=Basis.LOG,
            confidence=Confidence.MEDIUM,
        )


def _timed(log: LogClaims) -> _Timed:
    """The longest evaluation, and what was computed ahead of it outside of the timer."""
    evaluations = [
        block
        for block in log.run.blocks
        if block.name == "evaluation" and "diagnostic" not in block.evidence.text.lower()
    ]
    if not evaluations:
        return _Timed(())
    outside = (
        block
        for block in log.run.blocks
        if block.name != "evaluation" and not within_evaluation(block, log.run.blocks)
    )
    ahead = max(outside, key=lambda block: block.seconds, default=None)
    longest = max(evaluations, key=lambda block: block.seconds)
    return _Timed((longest,) if ahead is None else (ahead, longest))
