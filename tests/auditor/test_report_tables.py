"""The figures of a report: the honest score beside the claim, and drawings of what was measured."""

import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.dossier import Dossier
from auditor.dynamic.probes.result import Outcome, ProbeResult, ScriptResult
from auditor.dynamic.result import MassResult, Position, ScorerMass
from auditor.finding import (
    Audit,
    Basis,
    Confidence,
    Evidence,
    Finding,
    Readiness,
    Status,
    Validity,
)
from auditor.report import html, markdown, plots, terminal
from auditor.report import json as json_report
from auditor.report.measured import Masses, masses
from auditor.report.tables import tables
from auditor.report.view import Audience, View

PATH = "records/track_10min_16mb/a/train_gpt.py"
AUDIT = Audit(
    pr=1,
    head="ab" * 20,
    path=PATH,
    blob="cd" * 20,
    validity=Validity.INVALID,
    readiness=Readiness.READY,
    policy="p",
    seconds=0.0,
    findings=(),
    numbers={"script bytes": 10},
)
FLAT = Position(0, 0, 1, 0.5, (math.log(2),) * 4)  # four tokens of a half each: mass two
RUN = ScriptResult(
    (
        ProbeResult(
            "mass",
            Outcome.FOUND,
            "sums to up to 8",
            {
                "mass": [8.0, 1.0],
                "free bits a byte": 0.25,
                "95% interval": (0.2, 0.3),
                "bpb of this run": 1.5,
                "honest bpb of this run": 1.75,
            },
        ),
        ProbeResult("flip", Outcome.NOT_AUDITED, "<script> nothing was bound"),
    ),
    metric="final val_bpb:1.5",
    shrunk=("MODEL_DIM 512 as 64",),
)
DOSSIER = Dossier(
    AUDIT,
    probed={"mass": MassResult((ScorerMass("Mixer", "score", PATH, 3, (FLAT,)),)), "script": RUN},
)


def test_the_honest_score_stands_beside_what_the_run_reports() -> None:
    cells = [[cell.text for cell in row] for table in tables(DOSSIER) for row in table.rows]
    assert ["mass of Mixer", "up to 2"] in [row[:2] for row in cells]
    assert ["mass of the whole script", "up to 8"] in [row[:2] for row in cells]
    (honest,) = (row for row in cells if row[0] == "honest score of that run")
    assert honest[1] == "1.7500 bits per byte"
    assert "reports 1.5000: +0.2500 bits a byte" in honest[2]
    assert ["flip", "not audited", "<script> nothing was bound"] in cells


@pytest.mark.parametrize("form", [markdown, html, terminal])
def test_every_format_shows_them(form: object) -> None:
    render = form.render  # type: ignore[attr-defined]
    text = " ".join(render([DOSSIER], View(Audience.AUDITOR)).split())
    for words in ("1.7500 bits per byte", "Runs of the whole script", "MODEL"):
        assert words.lower() in text.lower()
    assert form is terminal or "<script>" not in text


def test_the_json_holds_them_as_tables() -> None:
    (found,) = (json.loads(line) for line in json_report.render([DOSSIER]).splitlines())
    titles = [table["title"] for table in found["figures"]]
    assert titles == ["The score", "Runs of the whole script"]


def test_a_run_that_failed_says_so() -> None:
    failed = Dossier(AUDIT, probed={"script": ScriptResult(problem="stopped at the limit")})
    (table,) = tables(failed)
    assert table.rows == ()
    assert "stopped at the limit" in table.notes[0]
    assert masses(failed) == []


def test_nothing_measured_and_nothing_claimed_leaves_the_numbers() -> None:
    bare = Dossier(AUDIT)
    assert tables(bare) == []
    assert "script bytes" in markdown.render([bare])
    assert "script bytes" in html.render([bare])


def test_a_mass_is_drawn_above_below_or_on_the_line() -> None:
    drawn = plots.mass(Masses("<x>", (16.0, 1.0, 0.25), ""))
    heights = re.findall(r'<circle class="(\w+)" cx="[\d.]+" cy="([\d.]+)"', drawn)
    assert [kind for kind, _ in heights] == ["over", "honest", "under"]
    (line,) = re.findall(r'class="one"[^>]* y1="([\d.]+)"', drawn)
    over, honest, under = (float(y) for _, y in heights)
    assert over < honest == float(line) < under
    assert "<x>" not in drawn


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=12))
def test_whatever_is_measured_the_drawing_stays_inside(values: list[float]) -> None:
    drawn = plots.mass(Masses("x", tuple(values), ""))
    for x, y in re.findall(r'cx="([^"]+)" cy="([^"]+)"', drawn):
        assert 0 <= float(x) <= plots.WIDTH
        assert 0 <= float(y) <= plots.HEIGHT
    assert drawn == "" or drawn.count("<svg") == drawn.count("</svg>") == 1


def test_excerpts_hold_what_is_spoken_of_and_not_the_script() -> None:
    source = "".join(f"line_{number} = {number}\n" for number in range(1, 101))
    finding = Finding(
        "C2",
        Status.FAIL,
        Basis.DYNAMIC,
        Confidence.HIGH,
        "a reason",
        (Evidence(PATH, 50, "line_50 = 50"),),
        witness={"probe": "mass", "files": {"script.py": "all of it"}, "sha256": "0"},
    )
    dossier = replace(DOSSIER, audit=replace(AUDIT, findings=(finding,)), sources={PATH: source})
    whole, part = html.render([dossier]), html.render([dossier], View(excerpts=True))
    assert "line_1 = 1\n" in whole
    assert "line_1 = 1\n" not in part
    assert [n for n in range(1, 101) if f"line_{n} = {n}\n" in part] == list(range(47, 54))
    assert "… 46 lines" in part
    anchors = set(re.findall(r' id="([^"]+)"', part))
    assert set(re.findall(r'href="#([^"]+)"', part)) <= anchors
    (held,) = json.loads(json_report.render([dossier], View(excerpts=True)))["findings"]
    assert held["witness"] == {"probe": "mass", "sha256": "0"}
    (full,) = json.loads(json_report.render([dossier]))["findings"]
    assert "files" in full["witness"]
