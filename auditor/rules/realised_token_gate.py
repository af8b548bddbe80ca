"""C1: whether a token is boosted is decided by a property of the very token being scored."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.evidence.claims import Claims
from auditor.finding import Axis, Basis, Confidence, Evidence, Finding, Status
from auditor.program.reached import is_called
from auditor.program.token_gates import TokenGate, by_name, token_gates
from auditor.rules.base import Context, Rule
from auditor.rules.quoting import quote
from auditor.submission.model import Submission

# How the field's scripts count the positions at which the experts inside a word and at the start
# of a word let a hint through.
_COUNTERS = re.compile(rb"\bwithin_gate=(\d+)\s+word_gate=(\d+)")
_STRENGTH = re.compile(r"(WITHIN|WORD)_(TAU|BOOST|BETA)$")
# A loop counter, and a store at that counter: what a gate written in Python needs; or
# it appends, and stores elsewhere.
_COUNTED = re.compile(r"\bfor ?\(? ?(\w+)(?:, ?\w+)?\)? ?in (?:range|enumerate)\b")
_STORED = re.compile(r"\[([\w.]+)\] ?=[^=]")


class RealisedTokenGate(Rule):
    """Follows loops over positions, in Python and in native code, and reads the logged counters."""

    id = "C1"
    title = "a hint is given or withheld by looking at the token that is being scored"
    axis = Axis.VALIDITY
    what = (
        "A loop over positions emits a hint, boost or probability from a memory of earlier "
        "tokens, and decides whether to emit it by a property of the token at the same position: "
        "that it starts a word, ends one, or is a boundary. Python, C and C++ are read; a log "
        "that counts such hints shows that they were in use."
    )
    why = (
        "The distribution for a position may depend on what came before it only. If the boost "
        "comes exactly where the realised token goes on inside a word, then part of the answer "
        "was told before it was asked for."
    )
    source = "condition 1 of issue 1017; reviews of PRs 1420 and 1967"
    precedents = ("#1420", "#1967", "#2018", "#2041", "#2118")
    legal = (
        "Gates that read the token before; gates by the hint itself, its count or its share; "
        "splitting words by the realised token when the memory is updated, after the hint was "
        "emitted; the same code with such experts silenced: a boost of 0, or a threshold above 1."
    )
    known_misses = (
        "gates computed for all positions at once by array operations",
        "gates by the token's own number, without a table of properties",
        "gates inside compiled libraries, Rust or Triton kernels",
        "loops beyond a budget of 300,000 expressions for one language",
    )
    valid = (
        """
import numpy as np
def hints(tokens, starts):
    best, memory, inside = np.zeros(len(tokens), dtype=np.int64), {}, 0
    for i in range(1, len(tokens)):
        if starts[tokens[i - 1]]:
            best[i] = memory.get(inside, -1)
        if starts[tokens[i]]:
            inside = 0
        memory[inside] = tokens[i]
        inside = inside * 31 + tokens[i]
    return best
tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)
print(hints(tokens, np.load("starts.npy")).sum())
""",
    )
    invalid = (
        """
import numpy as np
def hints(tokens, starts):
    best, memory, inside = np.zeros(len(tokens), dtype=np.int64), {}, 0
    for i in range(1, len(tokens)):
        if not starts[tokens[i]]:
            best[i] = memory.get(inside, -1)
        else:
            inside = 0
        memory[inside] = tokens[i]
        inside = inside * 31 + tokens[i]
    return best
tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)
print(hints(tokens, np.load("starts.npy")).sum())
""",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure that lists the gates and the logged counts, or why there is none."""
        gates = _gates(context)
        logged = list(_counters(context.submission, context.claims))
        counted = _claimed(context.claims, logged)
        active = tuple(c.evidence for c in counted if c.number)
        called = [g for g in gates if is_called(context.program, context.trace, g.routine)]
        places = dict.fromkeys(p for g in called or gates for p in (g.decided, g.emitted))
        shown = tuple(quote(context, place) for place in places)
        reason = (
            "what is emitted for a position depends on a property of the token at that position"
        )
        if gates and active:
            reason += ", and the logs count the positions where it was"
            yield self.finding(Status.FAIL, reason, shown + active[:3])
        elif active and not gates:
            yield self._from_logs_alone(context, active)
        elif called and not counted and not (silent := _silenced(context)):
            yield self.finding(Status.FAIL, reason, shown)
        elif called:
            zero = tuple(c.evidence for c in counted)[:1] or silent
            why = "the logs count no position" if counted else "the settings silence it"
            status = Status.PASS
            if superseded := tuple(c.evidence for c in logged if c not in counted):
                why = (
                    "the runs that the claim is from count no position; others that are shipped do"
                )
                status, zero = Status.NOTE, zero + superseded[:1]
            yield self.finding(
                status, f"a gate by the scored token is there, but {why}", shown + zero
            )
        elif gates:
            yield self.finding(
                Status.NOTE, "a gate by the scored token is there; the run does not call it", shown
            )
        else:
            yield self.finding(Status.PASS, "no hint is gated by the token that is being scored")

    def _from_logs_alone(self, context: Context, active: tuple[Evidence, ...]) -> Finding:
        read = [s for s in context.program.native if s.routines]
        return self.finding(
            Status.FAIL,
            "the logs count hints of experts that work inside a word or at its start, which "
            + (
                "the code that was read does not gate by the scored token"
                if read
                else "only the scored token can tell; the code that decides it was not read"
            ),
            active[:3],
            basis=Basis.LOG,
            confidence=Confidence.LOW if read else Confidence.HIGH,
        )


def _gates(context: Context) -> list[TokenGate]:
    program = context.program
    found = [g for s in program.native for g in token_gates(s.routines, by_name(s.routines))]
    return found + token_gates(program.routines.where(_may_gate), program.routines.named)


def _may_gate(text: str) -> bool:
    """Whether a function counts positions and stores something at one, or appends and stores."""
    counters = set(_COUNTED.findall(text))
    stored = set(_STORED.findall(text))
    return not counters.isdisjoint(stored) or ("append(" in text and bool(stored))


@dataclass(frozen=True)
class _Counted:
    """How often such gates were open, by a line of a log that ends with `bpb`."""

    number: int
    bpb: float | None
    evidence: Evidence


def _counters(submission: Submission, claims: Claims) -> Iterator[_Counted]:
    files = {file.path: file for file in submission.files.values()}
    for log in claims.logs:
        data = files[log.path].data
        bpb = log.last_metric.val_bpb if log.last_metric is not None else None
        for match in _COUNTERS.finditer(data) if b"within_gate=" in data else ():
            first = data.rfind(b"\n", 0, match.start()) + 1
            line = data.count(b"\n", 0, first) + 1
            if log.embedded_source is None or line > log.embedded_source[1]:
                text = data[first : match.end()].decode("utf-8", errors="replace").strip()
                number = int(match[1][:18]) + int(match[2][:18])
                yield _Counted(number, bpb, Evidence(log.path, line, text[:200]))


def _claimed(claims: Claims, counted: list[_Counted]) -> list[_Counted]:
    """Those that the claimed score rests on, where logs with open and with shut gates are shipped.

    Superseded logs stay in folders; the claim is nearer to the mean of the runs that it is from.
    """
    described = claims.submission_json
    claim = described.val_bpb if described is not None else None
    groups = [[c for c in counted if bool(c.number) is is_open] for is_open in (True, False)]
    means = [[c.bpb for c in group if c.bpb is not None] for group in groups]
    if claim is None or not all(means):
        return counted
    gaps = [abs(sum(mean) / len(mean) - claim.value) for mean in means]
    return groups[gaps.index(min(gaps))]


def _silenced(context: Context) -> tuple[Evidence, ...]:
    """The settings that leave neither expert a voice; empty if one of them has it."""
    settings = context.configuration.settings
    used = {n: (v, Evidence("", 0, f"{n}={v}")) for n, v in context.trace.environment.items()}
    used |= {name: (s.value, s.evidence) for name, s in settings.items()}
    silent: dict[str, Evidence] = {}
    for name, (value, evidence) in used.items():
        named = _STRENGTH.search(name)
        try:
            number = float(value)
        except ValueError:
            continue
        if named and (number > 1.0 if named[2] == "TAU" else number == 0.0):
            silent[named[1]] = evidence
    return tuple(silent.values()) if len(silent) == 2 else ()
