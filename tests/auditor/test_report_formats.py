"""Reports: one list of findings in every format, the same bytes each time, and harmless to read."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from auditor.dossier import Dossier, FileFact, RuleFact, RunFacts
from auditor.finding import (
    Audit,
    Axis,
    Basis,
    Confidence,
    Evidence,
    Finding,
    Readiness,
    Status,
    Validity,
)
from auditor.program.events import Event, Kind, Line, Span
from auditor.report import html, markdown, review, terminal
from auditor.report import json as json_report
from auditor.report.text import code_block, code_span, visible
from auditor.report.text import markdown as escaped

PATH = "records/track_10min_16mb/a/train_gpt.py"
SOURCE = "\n".join(f"line_{number} = {number}" for number in range(1, 21)) + "\n"
LEAK = Finding(
    "C2b",
    Status.FAIL,
    Basis.STATIC,
    Confidence.HIGH,
    "the key of the table that line 8 reads holds the token that line 10 scores",
    (
        Evidence(PATH, 8, "line_8 = 8"),
        Evidence(PATH, 10, "line_10 = 10"),
        Evidence(PATH.replace("train_gpt.py", "submission.json"), 3, "bytes_total: 1"),
    ),
    ("#779", "#770"),
    {"probe": "mass", "files": {}},
)
WAITS = Finding("C7", Status.PENDING, Basis.STATIC, Confidence.MEDIUM, "waits for a ruling")
PASSES = Finding("C3", Status.PASS, Basis.STATIC, Confidence.HIGH, "nothing is trained early")
ABSENT = Finding("F1", Status.NOT_APPLICABLE, Basis.CLAIM, Confidence.HIGH, "a lone script")


def dossier(**changes: object) -> Dossier:
    """A small case; `changes` replace fields of its audit."""
    audit = Audit(
        pr=9,
        head="ab" * 20,
        path=PATH,
        blob="cd" * 20,
        validity=Validity.INVALID,
        readiness=Readiness.UNKNOWN,
        policy="frontier-2026-04",
        seconds=0.25,
        findings=(PASSES, WAITS, ABSENT, LEAK),
        numbers={"claimed bpb": 1.25, "claimed bytes": 15892040, "seeds": [1, 1337]},
        not_examined=("final_model.ptz: 16,000,000 bytes: over the limit",),
    )
    return Dossier(
        audit=replace(audit, **changes),  # type: ignore[arg-type]
        titles=("training before scoring", "SLOT", "files", "a key holds the target"),
        sources={PATH: SOURCE},
        files=(FileFact(PATH, "cd" * 20, len(SOURCE)), FileFact("x.ptz", "", 0, "missing")),
        rules=(
            RuleFact("C2b", "a key holds the target", Axis.VALIDITY, 1, "a ruling"),
            RuleFact("C7", "SLOT", Axis.VALIDITY, 2, "no ruling"),
            RuleFact("F1", "files", Axis.READINESS, 1, "README"),
        ),
        packing=("base85 at line 1: 10 bytes to 8 bytes",),
    )


TERMINAL = """\
PR 9 at abababababab  train_gpt.py  blob cdcdcdcdcdcd
  records/track_10min_16mb/a/
  base85 at line 1: 10 bytes to 8 bytes

fail[C2b]: a key holds the target
  the key of the table that line 8 reads holds the token that line 10 scores
  --> train_gpt.py:8
     6 | line_6 = 6
     7 | line_7 = 7
     8 | line_8 = 8
     9 | line_9 = 9
    10 | line_10 = 10
    11 | line_11 = 11
    12 | line_12 = 12
  --> submission.json:3
     3 | bytes_total: 1
  basis static; confidence high; precedent #779, #770
  replay with: auditor replay witness-C2b-cdcdcdcdcdcd.json

pending[C7]: SLOT
  waits for a ruling
  basis static; confidence medium

validity   invalid  the score does not stand under these rules
readiness  unknown  not everything that a record needs could be checked
advice     close    unless the score is measured again without the fault (C2b)

1 fail, 1 pending, 1 pass, 1 n/a
not shown: pass C3
not shown: n/a F1
not examined:
  - final_model.ptz: 16,000,000 bytes: over the limit
auditor 0.1.0, policy frontier-2026-04, rules C2b.1 C7.2 F1.1
"""


def test_the_terminal_report_in_full() -> None:
    assert terminal.render([dossier()]) == TERMINAL


def test_the_review_says_the_outcome_and_answers_the_four_questions_first() -> None:
    text = markdown.render([dossier()])
    assert text.split("\n\n")[1] == f"**{review.outcome(dossier().audit)}**"
    sections = re.findall(r"^#### (.*)$", text, re.MULTILINE)
    assert sections == [
        "The four questions",
        "Findings",
        "Numbers",
        "Validity",
        "Readiness",
        "Witnesses",
        "Not examined",
        "Run it again",
    ]
    lines = text.splitlines()
    first = lines.index("#### The four questions") + 2
    assert "**yes** (close trigger): `train_gpt.py:8`" in lines[first]
    assert "precedent PR 779, PR 770" in lines[first]
    assert "**no** (close trigger)" in lines[first + 1]
    assert "**yes** (legal where it does)" in lines[first + 2]
    assert "**pending a ruling** (pending issue 1336)" in lines[first + 3]
    assert "recommendation: **close, unless" in text
    assert f"auditor audit --repo CLONE --pr 9 --at {'ab' * 20} --policy frontier-2026-04" in text


def test_a_question_without_a_rule_is_not_answered() -> None:
    results = [answer.result for answer in review.answers(dossier(findings=(PASSES,)))]
    assert results == [review.NO_RULE, "no", "yes", review.NO_RULE]


def test_where_nothing_is_trained_on_validation_tokens_none_runs() -> None:
    step = Line(PATH, 1, "optimizer.step()", "main")

    def third(split: str) -> str:
        run = RunFacts((Event(Kind.TRAIN, step, spans=(Span(split),)),))
        return review.answers(replace(dossier(findings=(PASSES,)), run=run))[2].result

    assert third("training") == "none runs"
    assert third("validation") == "yes"


@pytest.mark.parametrize(
    ("validity", "readiness", "advice"),
    [
        (Validity.INVALID, Readiness.READY, "close, unless the score is measured again"),
        (Validity.PENDING, Readiness.READY, "hold, until there is a ruling (C7)"),
        (Validity.UNKNOWN, Readiness.READY, "hold, until what was not examined"),
        (Validity.VALID, Readiness.NOT_READY, "hold, until what is missing is there"),
        (Validity.VALID, Readiness.UNKNOWN, "hold, until the readiness"),
        (Validity.VALID, Readiness.READY, "merge, as far as these rules reach"),
    ],
)
def test_the_advice_follows_both_axes(
    validity: Validity, readiness: Readiness, advice: str
) -> None:
    given = review.recommendation(dossier(validity=validity, readiness=readiness))
    assert given.startswith(advice)


def test_json_is_the_contract_one_line_a_script() -> None:
    text = json_report.render([dossier(), dossier(numbers={"mass": float("inf")})])
    first, second = (json.loads(line) for line in text.splitlines())
    assert list(first) == [
        *("schema", "pr", "head", "path", "blob", "validity", "readiness", "policy", "seconds"),
        *("findings", "numbers", "not_examined", "overrides"),
        *("configuration", "timeline", "patches", "figures"),
    ]
    assert first["findings"][3]["evidence"][0] == {
        "path": PATH,
        "line": 8,
        "text": "line_8 = 8",
    }
    assert second["numbers"] == {"mass": None}


@pytest.mark.parametrize("form", [terminal, markdown, html, json_report])
def test_the_same_input_gives_the_same_bytes(form: object) -> None:
    render = form.render  # type: ignore[attr-defined]
    assert render([dossier(), dossier()]) == render([dossier(), dossier()])


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>`*_[x](http://evil.example)"
PINGS = (
    "@someone fixes #700, see https://evil.example and www.evil.example "
    "\x1b[31m\u202e\u200b| </details>"
)


def hostile() -> Dossier:
    """Every text that a submission can choose, chosen badly."""
    path = f"records/{EVIL}/{PINGS}/train_gpt.py"
    finding = replace(
        LEAK,
        reason=EVIL + PINGS,
        evidence=(Evidence(path, 1, EVIL), Evidence(path + "2", 4, PINGS)),
        precedent=(EVIL, PINGS),
    )
    base = dossier(
        path=path, findings=(finding,), not_examined=(EVIL, PINGS), numbers={EVIL: PINGS}
    )
    return replace(
        base,
        sources={path: f"{EVIL}\n{PINGS}\n```\n</pre></style>\n"},
        files=(FileFact(path, EVIL, 1, PINGS),),
        packing=(EVIL, PINGS),
        titles=(EVIL + PINGS,),
    )


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.links.update(value or "" for name, value in attrs if name in {"href", "src"})


def test_a_page_of_hostile_names_is_inert() -> None:
    page = _Page()
    text = html.render([hostile()])
    page.feed(text)
    assert page.tags & {"script", "img", "iframe", "object", "link", "base", "form"} == set()
    assert not any(name.startswith("on") for name in page.attributes)
    assert "style" not in page.attributes
    assert all(link.startswith("#") for link in page.links)
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_page_allows_its_own_style_and_nothing_else() -> None:
    text = html.render([dossier()])
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in text
    assert "://" not in text


def test_every_link_of_a_page_leads_somewhere_and_no_anchor_twice() -> None:
    text = html.render([dossier(), dossier()])
    anchors = re.findall(r' id="([^"]+)"', text)
    findings, lines = 2, len(SOURCE.split("\n"))
    assert len(anchors) == len(set(anchors)) == 2 * (lines + findings)
    links = re.findall(r'href="#([^"]+)"', text)
    assert links
    assert set(links) <= set(anchors)


def test_a_review_of_hostile_names_pings_nobody_and_links_nowhere() -> None:
    text = markdown.render([hostile()])
    blocks = MarkdownIt("commonmark").enable("table").parse(text)
    tokens = [*blocks, *(child for block in blocks for child in block.children or ())]
    kinds = {token.type for token in tokens}
    assert not kinds & {"link_open", "image", "html_inline"}
    raw = " ".join(token.content for token in tokens if token.type == "html_block")
    assert set(re.findall(r"<[^>]*>", raw)) == {
        "<details>",
        "</details>",
        "<summary>",
        "</summary>",
    }
    for token in tokens:
        if token.type == "text":  # what is inside code neither pings nor links
            assert not re.search(r"@\w|#\d|https?:|www\.", token.content)
    assert "\x1b" not in text


def test_terminal_text_holds_no_escape_sequence_of_a_submission() -> None:
    text = terminal.render([hostile()])
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[31m\\u202e" in text


def test_the_picture_is_one_file_without_fonts_from_elsewhere() -> None:
    text = terminal.svg([dossier()])
    assert text.startswith("<svg")
    assert "@font-face" not in text
    assert set(re.findall(r"https?://[^\"' )]*", text)) == {"http://www.w3.org/2000/svg"}
    assert terminal.svg([dossier()]) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb", "a    b"),
        ("a\nb", "a b"),
        ("\x1b[0m", "\\x1b[0m"),
        ("\u202eabc", "\\u202eabc"),
        ("naïve ▁token", "naïve ▁token"),
        ("x" * 500, "x" * 400 + "…"),
    ],
)
def test_invisible_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_code_cannot_leave_its_fence() -> None:
    assert code_span("a`b``c") == "``` a`b``c ```"
    assert code_block(["```", "x"]).startswith("````\n")
    assert escaped("#700 and issue #1336 and PRs #779") == "PR 700 and issue 1336 and PRs 779"
