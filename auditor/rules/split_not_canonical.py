"""D3: not all of the validation text is scored, or training may have seen it."""

from collections.abc import Iterator

from auditor.evidence.figures import LogClaims
from auditor.evidence.scored_bytes import TEXT_BYTES, ScoredBytes, claimed_line, scored_bytes
from auditor.evidence.told_data import early_boundary
from auditor.finding import Axis, Basis, Confidence, Finding, Status
from auditor.rules.base import Context, Rule
from auditor.rules.track import outside_the_record_track

MISSING = 0.01  # of the text's bytes
EXACT = 0.001
# Shards of a training set that was made to begin at document 10,000 of the validation set's 50,000.
OVERLAPPING_SHARDS = 1499


class SplitNotCanonical(Rule):
    """Compares the bytes that a log implies, and the size of its training set, with the data's."""

    id = "D3"
    title = "the validation set is not the whole canonical one"
    axis = Axis.VALIDITY
    what = (
        "A log whose tokens, loss and score imply fewer bytes than the first 50,000 documents "
        "have, or whose training set has the number of shards that a known faulty preparation "
        "makes, in which four fifths of the validation documents are training documents. The same "
        "preparation, told in the submission's own words, beside a log that scores the whole text."
    )
    why = (
        "Scores of different texts cannot be compared, and a model that was trained on the text "
        "has memorised it."
    )
    source = "README: the whole fixed validation set; issue 2127 and PR 2146"
    precedents = ("#2130", "#2039")
    legal = (
        "A few hundred tokens less, so that sequences are whole; any number of the published "
        "training shards; the doubled folder name of the published case-transformed data. Outside "
        "the record track another text is a note."
    )
    known_misses = (
        "overlap of training and validation documents that neither shards nor words show",
        "a part of the text whose log does not say how many tokens it has",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """What the logs say of the two data sets."""
        found = [f for log in context.claims.logs for f in self._log(context, log)]
        if any(f.status is Status.PASS for f in found):  # the whole text is scored
            found += self._told(context)
        for status in (Status.FAIL, Status.NOTE, Status.PASS):
            if chosen := next((f for f in found if f.status is status), None):
                yield chosen
                return
        yield self.finding(
            Status.NOT_APPLICABLE, "no log says how much text was scored", basis=Basis.LOG
        )

    def _log(self, context: Context, log: LogClaims) -> Iterator[Finding]:
        shards = log.run.train_shards
        if shards is not None and shards.value == OVERLAPPING_SHARDS:
            yield self.finding(
                Status.FAIL,
                f"{OVERLAPPING_SHARDS:,} training shards: the faulty preparation, whose training "
                "documents include 40,000 of the 50,000 validation documents",
                (shards.evidence,),
                basis=Basis.LOG,
                confidence=Confidence.MEDIUM,
            )
        described = context.claims.submission_json
        claim = described.val_bpb if described is not None else None
        line = claimed_line(scored_bytes(log), claim)
        if line is not None and line.tokens is not None:
            yield self._covered(line, outside_the_record_track(context))

    def _told(self, context: Context) -> Iterator[Finding]:
        lines = tuple(early_boundary(context.submission))
        if lines:
            yield self.finding(
                Status.FAIL,
                "the training documents begin after the first 10,000, and all 50,000 validation "
                "documents are scored",
                lines[:3],
                basis=Basis.CLAIM,
                confidence=Confidence.MEDIUM,
            )

    def _covered(self, line: ScoredBytes, outside: bool) -> Finding:
        excess, total = line.excess or 0.0, line.total or 0.0
        evidence = (line.metric.evidence, *((line.tokens.evidence,) if line.tokens else ()))
        text = f"{total:,.0f} of {TEXT_BYTES:,} bytes of text are scored"
        if excess < -MISSING and not outside:
            return self.finding(
                Status.FAIL, text, evidence, basis=Basis.LOG, confidence=Confidence.MEDIUM
            )
        if abs(excess) <= EXACT:
            return self.finding(Status.PASS, text, evidence, basis=Basis.LOG)
        return self.finding(Status.NOTE, text, evidence, basis=Basis.LOG, confidence=Confidence.LOW)
