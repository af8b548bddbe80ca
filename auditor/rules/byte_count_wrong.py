"""B1: the score is divided by another number of bytes than the text has."""

from collections.abc import Iterator
from dataclasses import replace

from auditor.evidence.ledger import check_claim, scores_by_tag
from auditor.evidence.scored_bytes import (
    TEXT_BYTES,
    ScoredBytes,
    claimed_bytes,
    claimed_line,
    scored_bytes,
)
from auditor.finding import Axis, Basis, Confidence, Finding, Status
from auditor.program.byte_table import byte_tables, constant_ratios, space_additions
from auditor.rules.base import Context, Rule

TOLERANCE = 0.01  # of the text's bytes: beyond rounding and a partial last sequence
ROUNDING = 1e-4  # bits a byte: scores with four decimals
EXACT = 0.001
# Bytes per token of the 8,192 vocabulary on the whole text, and with each leading space twice.
SP8192, SP8192_DOUBLED = 3.7265, 4.3864
# Of the 1,024, 4,096 and 8,192 vocabularies, the last also with case as tokens of their own.
KNOWN_PER_TOKEN = (2.4359, 3.3197, SP8192, 3.1583)
SAME_TOKENIZER = 0.005
FOLDED = "casefold"


class ByteCountWrong(Rule):
    """Reads the builder of the byte table, the line that adds up, and what the logs imply."""

    id = "B1"
    title = "the bytes of the text are not counted as they are"
    axis = Axis.VALIDITY
    what = (
        "A table of bytes per token that counts the mark of a leading space where the scorer adds "
        "a byte for it again, that counts a byte token as the text <0xNN>, or that takes unused "
        "tokens for text; a constant in place of a table; or a log whose tokens, loss and score "
        "imply more bytes than the validation text has."
    )
    why = (
        "Bits per byte is a quotient: who counts a sixth more bytes scores a sixth lower with the "
        "same model."
    )
    source = (
        "README: changes of the tokenizer must prove the score right; issue 1719; the row of PR "
        "1184 was removed by PR 1806. Casefolded text: asked in PR 1604, no ruling"
    )
    precedents = ("#1184", "#1698", "#1734")
    legal = (
        "A table that counts the space and a scorer that does not; a reversible case transform "
        "with the original bytes of each token beside it."
    )
    known_misses = (
        "a table that is read from a file instead of being built, where no log shows the tokens",
        "a vocabulary without a piece for the space alone, where no log shows the tokens",
        "casefolded text under a dataset path that does not say so",
    )
    valid = (
        """
import numpy as np, torch
def table(sp, size):
    base, space = np.zeros(size, np.int16), np.zeros(size, bool)
    boundary = np.ones(size, bool)
    for i in range(size):
        if sp.is_control(i) or sp.is_unknown(i) or sp.is_unused(i):
            continue
        boundary[i] = False
        if sp.is_byte(i):
            base[i] = 1
            continue
        piece = sp.id_to_piece(i)
        if piece.startswith("\\u2581"):
            space[i] = True
            piece = piece[1:]
        base[i] = len(piece.encode("utf-8"))
    return base, space, boundary
def count(base, space, boundary, previous, token):
    return base[token] + (space[token] & ~boundary[previous])
""",
        """
def table(sp, size):
    base = [0] * size
    for i in range(size):
        base[i] = 1 if sp.is_byte(i) else len(sp.id_to_piece(i).replace("\\u2581", " ").encode())
    return base
def count(base, token):
    return base[token]
""",
    )
    invalid = (
        """
import numpy as np, torch
def table(sp, size):
    base, space = np.zeros(size), np.zeros(size, bool)
    boundary = np.zeros(size, bool)
    for i in range(size):
        boundary[i] = sp.is_control(i) or sp.is_unknown(i) or sp.is_unused(i)
        text = sp.id_to_piece(i)
        space[i] = text.startswith("\\u2581")
        base[i] = 1 if sp.is_byte(i) else len(text.replace("\\u2581", " ").encode())
    return base, space, boundary
def count(base, space, boundary, previous, token):
    total = base[token]
    total += space[token] & ~boundary[previous]
    return total
""",
        """
import math
BYTES = 2.75
def report(nats):
    print("val_bpb", nats / math.log(2) / BYTES)
""",
        """
import math
def report(nats):
    print("val_bpb", nats / (math.log(2) * 3.5))
""",
        """
import math
BYTES = 2.75
def report(nats):
    print("val_bpb", (nats / math.log(2)) * (1.0 / BYTES))
""",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """What the builder shows, what the logs imply, and whether the text was folded."""
        findings = [*self._logs(context), *self._folded(context)]
        if context.program.tree is not None:
            exact = any(f.status is Status.PASS for f in findings)
            findings = [*self._tables(context, exact), *findings]
        if not findings:
            findings = [
                self.finding(
                    Status.NOT_APPLICABLE, "no table of bytes per token, and no log implies one"
                )
            ]
        yield from findings

    def _tables(self, context: Context, exact: bool) -> Iterator[Finding]:
        """By the code. `exact`: the logs imply the right number, so a fault has no effect."""
        tables = byte_tables(context.program)
        if not tables:
            for place in constant_ratios(context.program):
                yield self.finding(
                    Status.NOTE if exact else Status.FAIL,
                    "the loss becomes bits per byte by a constant; no bytes are counted",
                    (context.evidence(place),),
                    confidence=Confidence.MEDIUM,
                )
            return
        added = space_additions(context.program)
        for table in tables:
            here = context.evidence(table.place)
            if table.mark_bytes and table.flagged and added:
                yield self.finding(
                    Status.NOTE if exact else Status.FAIL,
                    f"the table counts {table.mark_bytes} for the mark of a leading space, and "
                    "the scorer adds another byte for it",
                    (here, context.evidence(added[0])),
                )
            elif table.byte_token not in (1, None):
                yield self.finding(
                    Status.NOTE,
                    f"the table counts {table.byte_token} bytes for a token of one byte",
                    (here,),
                    confidence=Confidence.MEDIUM,
                )
            elif not table.knows_unused:
                yield self.finding(
                    Status.NOTE,
                    "the table does not ask which tokens are unused",
                    (here,),
                    confidence=Confidence.LOW,
                )
            elif table.mark_bytes is not None:
                yield self.finding(Status.PASS, "the table counts each byte once", (here,))

    def _logs(self, context: Context) -> Iterator[Finding]:
        """By the logs: the line that the claim rests on; without any, by the claim itself."""
        described = context.claims.submission_json
        claim = described.val_bpb if described is not None else None
        worst: ScoredBytes | None = None
        for log in context.claims.logs:
            line = claimed_line(scored_bytes(log), claim)
            if line is not None and (worst is None or _size(line) > _size(worst)):
                worst = line
        check = check_claim(claim, scores_by_tag(context.claims))
        corrected = check is not None and check.basis == "corrected"
        if worst is not None:
            for finding in self._line(worst):
                failed = finding.status is Status.FAIL
                yield self._mended(finding) if failed and corrected else finding
        elif (claimed := claimed_bytes(described)) is not None:
            for finding in self._line(claimed):
                yield replace(finding, basis=Basis.CLAIM)

    def _mended(self, failure: Finding) -> Finding:
        """The logs count wrong, and the claim is what is left once that is put right."""
        reason = f"{failure.reason}; the claimed score is the corrected one"
        return self.finding(
            Status.NOTE, reason, failure.evidence, basis=Basis.LOG, confidence=Confidence.MEDIUM
        )

    def _line(self, line: ScoredBytes) -> Iterator[Finding]:
        shown = [line.metric.evidence]
        if line.tokens is not None and line.total is not None and line.excess is not None:
            shown.append(line.tokens.evidence)
            text = f"{line.total:,.0f} bytes are implied; the text has {TEXT_BYTES:,}"
            if line.excess > TOLERANCE and _usual(line.per_token):
                yield self.finding(
                    Status.NOTE,
                    f"{text}; but {line.per_token:.4f} bytes per token are right for a known "
                    "vocabulary, so it is another number of tokens that was scored",
                    tuple(shown),
                    basis=Basis.LOG,
                    confidence=Confidence.MEDIUM,
                )
            elif line.excess > TOLERANCE + ROUNDING / (line.metric.val_bpb or 1.0):
                yield self.finding(
                    Status.FAIL, text, tuple(shown), basis=Basis.LOG, confidence=Confidence.MEDIUM
                )
            elif abs(line.excess) <= EXACT:
                yield self.finding(Status.PASS, text, tuple(shown), basis=Basis.LOG)
            else:
                yield self.finding(
                    Status.NOTE, text, tuple(shown), basis=Basis.LOG, confidence=Confidence.LOW
                )
        elif abs(line.per_token / SP8192_DOUBLED - 1) < EXACT:
            yield self.finding(
                Status.FAIL,
                f"{line.per_token:.4f} bytes per token are implied: {SP8192} are right for the "
                f"8,192 vocabulary, {SP8192_DOUBLED} with every leading space counted twice",
                tuple(shown),
                basis=Basis.LOG,
                confidence=Confidence.MEDIUM,
            )

    def _folded(self, context: Context) -> Iterator[Finding]:
        """Case is lost for good: whether such a text may be scored was never ruled on."""
        named = [
            setting.evidence
            for log in context.claims.logs
            for setting in log.settings.values()
            if FOLDED in setting.value.lower()
        ]
        if named:
            yield self.finding(
                Status.PENDING,
                "the scored text is casefolded: the original cannot be told from its tokens",
                tuple(named[:3]),
                basis=Basis.LOG,
                confidence=Confidence.MEDIUM,
            )


def _usual(per_token: float) -> bool:
    return any(abs(per_token / known - 1) < SAME_TOKENIZER for known in KNOWN_PER_TOKEN)


def _size(line: ScoredBytes) -> float:
    return line.excess if line.excess is not None else line.per_token / SP8192 - 1
