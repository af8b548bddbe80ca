"""What rule C2 says of measurements, without running anything."""

from dataclasses import replace

import pytest

from auditor.dynamic.result import MassResult, Position, ScorerMass
from auditor.dynamic.witness import Witness
from auditor.evidence.claims import read_claims
from auditor.finding import Basis, Finding, Status
from auditor.program.index import build
from auditor.rules.base import Context
from auditor.rules.mass_not_one import MassNotOne
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack

USED = "class Mixer:\n    def score(self, x):\n        return x\nMixer().score(1)\n"
UNUSED = USED.replace("Mixer().score(1)", "Mixer()")


def position(mass: float) -> Position:
    """One position of a two-token vocabulary with this mass."""
    from math import log

    return Position(0, 0, 0, 0.7, (-log(mass / 2), -log(mass / 2)))


def scorer(*masses: float) -> ScorerMass:
    """A measured scorer."""
    witness = Witness("train_gpt.py", {}, {}, {"positions": []})
    return ScorerMass(
        "Mixer", "score", "train_gpt.py", 2, tuple(map(position, masses)), witness=witness
    )


def findings(result: MassResult | None, source: str = USED) -> list[Finding]:
    """What the rule yields."""
    main = SourceFile.of("train_gpt.py", source.encode())
    submission = Submission(main, {"train_gpt.py": main})
    program = build(submission, unpack(main, submission.files))
    dynamic = {} if result is None else {"mass": result}
    found = list(MassNotOne().check(Context(submission, program, read_claims(submission), dynamic)))
    assert all(f.basis is Basis.DYNAMIC for f in found)
    return found


def test_an_excess_fails_with_witness_line_and_precedents() -> None:
    (found,) = findings(MassResult((scorer(1.0, 3.0),)))
    assert found.status is Status.FAIL
    assert found.witness is not None
    assert found.evidence[0].text == "def score(self, x):"
    assert "#700" in found.precedent
    assert "up to 3 " in found.reason


@pytest.mark.parametrize(
    ("masses", "status"),
    [((1.0, 1.0005), Status.PASS), ((1.0, 0.9), Status.NOTE), ((0.5, 1.01), Status.FAIL)],
)
def test_below_one_is_no_gain_and_a_rounding_error_no_fault(
    masses: tuple[float, ...], status: Status
) -> None:
    (found,) = findings(MassResult((scorer(*masses),)))
    assert found.status is status


def test_what_the_run_does_not_use_is_a_note() -> None:
    switched_off = replace(scorer(5.0), off="line 9: USE is False")
    (found,) = findings(MassResult((switched_off,)))
    assert found.status is Status.NOTE
    assert "line 9" in found.reason
    (uncalled,) = findings(MassResult((scorer(5.0),)), UNUSED)
    assert uncalled.status is Status.NOTE


def test_what_was_not_audited_never_passes() -> None:
    (found,) = findings(MassResult((replace(scorer(), problem="it broke"),)))
    assert found.status is Status.UNKNOWN
    (nothing,) = findings(MassResult(problem="no class keeps counts"))
    assert nothing.status is Status.UNKNOWN
    (unasked,) = findings(None)
    assert unasked.status is Status.NOT_APPLICABLE


def test_the_worst_of_several_carries_the_witness() -> None:
    found = findings(MassResult((scorer(2.0), scorer(9.0))))
    assert [f.witness is not None for f in found] == [False, True]


def test_a_shrunk_table_is_listed() -> None:
    (found,) = findings(MassResult((replace(scorer(2.0), shrunk=((3, 4194304, 1024),)),)))
    assert found.evidence[1].line == 3
    assert "4,194,304" in found.evidence[1].text
