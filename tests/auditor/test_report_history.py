"""The timeline and what ran: events with tokens and loops, variables with who decided them."""

from pathlib import Path

import pytest

import auditor.audit
from auditor.audit import audit_in_full
from auditor.cli import main
from auditor.dossier import Dossier
from auditor.finding import Status, Validity
from auditor.policy import FRONTIER_2026_04
from auditor.program.what_ran import Decider
from auditor.report import history, html, markdown, terminal
from auditor.report.view import Audience, View
from auditor.submission.load import load_target
from auditor.submission.model import SourceFile, Submission

CASES = Path(__file__).parents[1] / "cases"
HEAD = """\
import math
import numpy as np
import torch
import torch.nn.functional as F

tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
net = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
"""
SCORE_FIRST = f"""{HEAD}\
total = 0.0
for chunk in range(100):
    part = tokens[chunk * 64 : chunk * 64 + 65]
    with torch.no_grad():
        total += F.cross_entropy(net(part[:-1]), part[1:]).item()
    for epoch in range(4):
        F.cross_entropy(net(part[:-1]), part[1:]).backward()
        optimizer.step()
print(total / math.log(2))
"""
TRAIN_FIRST = f"""{HEAD}\
for epoch in range(4):
    F.cross_entropy(net(tokens[:-1]), tokens[1:]).backward()
    optimizer.step()
torch.save(net.state_dict(), "final_model.pt")
total = F.cross_entropy(net(tokens[:-1]), tokens[1:]).item()
print(total / math.log(2))
"""
COUNTED = f"""{HEAD}\
counts, total, at = np.ones((1024, 1024)), 0.0, 1
while at < len(tokens):
    p = counts[tokens[at - 1], tokens[at]] / counts[tokens[at - 1]].sum()
    q = F.softmax(net(tokens[at - 1 : at]), -1)[0, tokens[at]]
    total += -math.log(0.5 * p + 0.5 * q)
    counts[tokens[at - 1], tokens[at]] += 1
    at += 1
print(total / math.log(2))
"""
SWITCHED = """\
import os
import math
import numpy as np
import torch
import torch.nn.functional as F


class Settings:
    adapt = bool(int(os.environ.get("TTT_ENABLED", "0")))
    epochs = int(os.environ.get("TTT_EPOCHS", 3))


def adapt(net, tokens, epochs):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(epochs):
        F.cross_entropy(net(tokens[:-1]), tokens[1:]).backward()
        optimizer.step()


tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
net = torch.nn.Linear(8, 8)
if Settings.adapt:
    adapt(net, tokens, Settings.epochs)
total = F.cross_entropy(net(tokens[:-1]), tokens[1:]).item()
print(total / math.log(2))
"""


def audited(source: str) -> Dossier:
    submission = Submission(SourceFile.of("train_gpt.py", source.encode()))
    return audit_in_full(submission, policy=FRONTIER_2026_04)


@pytest.fixture(name="switched")
def _switched(tmp_path: Path) -> Path:
    (tmp_path / "train_gpt.py").write_text(SWITCHED)
    (tmp_path / "README.md").write_text("```\nTTT_EPOCHS=5 python train_gpt.py\n```\n")
    return tmp_path


def drawn(dossier: Dossier) -> str:
    return "".join(f"{text}\n" for _, text in history.drawing(dossier, 100))


def test_a_chunk_is_scored_by_weights_that_know_the_chunks_before_it() -> None:
    expected = """\
↻ 10: for chunk in range(100)
│ SCORE  13
│        validation piece chunk; by weights trained on validation pieces before chunk; without
│        gradients
│ ↻ 14: for epoch in range(4)
│ │ TRAIN  16
│ │        validation piece chunk; the same again each epoch
REPORT 17
       all of validation; from the losses of line 13
"""
    assert drawn(audited(SCORE_FIRST)) == expected


def test_a_score_after_training_on_everything_knows_everything() -> None:
    expected = """\
↻ 9: for epoch in range(4)
│ TRAIN  11  <- fail[C3]
│        all of validation; the same again each epoch
EXPORT 12
SCORE  13  <- fail[C3]
       all of validation; by weights trained on all of validation
REPORT 14
       all of validation; from the losses of line 13
"""
    assert drawn(audited(TRAIN_FIRST)) == expected


def test_a_table_that_the_score_reads_takes_tokens_in() -> None:
    expected = """\
↻ 10: while at < len(tokens)
│ SCORE  12
│        validation piece at; by weights trained on no validation token
│ COUNT  14
│        validation piece at
REPORT 16
       all of validation; from the losses of line 12
"""
    assert drawn(audited(COUNTED)) == expected


def test_a_file_says_so_if_it_holds_what_validation_tokens_gave() -> None:
    clean = audited(TRAIN_FIRST)
    stored = audited(
        f"{HEAD}torch.save(net(tokens[:-1]).abs().amax(0), 'scales.pt')\n"
        "print(F.cross_entropy(net(tokens[:-1]), tokens[1:]).item() / math.log(2))\n"
    )
    assert "computed from" not in drawn(clean)
    assert (
        drawn(stored)
        == """\
EXPORT 9  <- fail[D1]
       computed from all of validation
SCORE  10
       all of validation; by weights trained on no validation token
REPORT 10
       all of validation; from the losses of line 10
"""
    )


def test_every_event_is_in_every_drawing() -> None:
    dossier = audited(SCORE_FIRST)
    page = html.render([dossier])
    text = terminal.render([dossier], View(timeline=True))
    review = markdown.render([dossier], View(timeline=True))
    assert page.count("<li class='loop'>") == page.count("<ol>") == 2
    assert page.count("<ol") == page.count("</ol>")
    assert page.count("<li>") + page.count("<li ") == page.count("</li>")
    for kind in ("score", "train", "report"):
        assert page.count(f"<span class='kind {kind}'>") == 1
        assert f"{kind.upper()} " in text
        assert f"{kind.upper()} " in review
    assert "timeline" not in terminal.render([dossier])


@pytest.mark.parametrize("path", sorted(CASES.glob("hostile/*.py")), ids=lambda path: path.name)
def test_a_hostile_script_is_drawn_as_far_as_it_was_followed(path: Path) -> None:
    dossier = audit_in_full(load_target(path)[0], policy=FRONTIER_2026_04)
    for form in (terminal, markdown, html):
        assert form.render([dossier], View(Audience.AUDITOR))


def test_a_drawing_that_fails_costs_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RecursionError

    whole = audited(TRAIN_FIRST)
    monkeypatch.setattr(auditor.audit, "timeline", broken)
    monkeypatch.setattr(auditor.audit, "suggest", broken)
    bare = audited(TRAIN_FIRST)
    assert bare.run.timeline == ()
    assert bare.audit.findings == whole.audit.findings


def test_who_decided_is_known_and_so_is_what_decides(switched: Path) -> None:
    submission = load_target(switched)[0]
    plain = audit_in_full(submission, policy=FRONTIER_2026_04)
    assert plain.audit.validity is Validity.VALID
    ran = {v.name: (v.value, v.decider, v.evidence.line) for v in plain.run.variables}
    assert ran == {
        "TTT_ENABLED": ("0", Decider.DEFAULT, 9),
        "TTT_EPOCHS": ("5", Decider.README, 2),
    }
    asked = {"TTT_ENABLED": "1", "NEVER_READ": "x"}
    other = audit_in_full(submission, policy=FRONTIER_2026_04, overrides=asked)
    assert other.audit.validity is Validity.INVALID
    (found,) = (f for f in other.audit.findings if f.rule == "C3" and f.status is Status.FAIL)
    assert [v.name for v in other.deciding(found)] == ["TTT_ENABLED"]
    assert other.run.without_effect == ("NEVER_READ",)


def test_every_format_says_that_another_run_was_audited(
    switched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("r.txt", "r.md", "r.html"):
        output = tmp_path / name
        arguments = ["audit", str(switched), "--set", "TTT_ENABLED=1", "--output", str(output)]
        assert main(arguments) == 1
        text = output.read_text(encoding="utf-8").replace("\\", "")
        assert "This is not the submitted run: the audit was made with TTT_ENABLED=1" in text
        assert "set for this audit" in text
    assert main(["audit", str(switched)]) != 1
    assert "not the submitted run" not in capsys.readouterr().out


def test_the_auditor_sees_every_switch_and_who_decided(switched: Path) -> None:
    dossier = audit_in_full(load_target(switched)[0], policy=FRONTIER_2026_04)
    text = terminal.render([dossier], View(Audience.AUDITOR))
    assert "  off TTT_ENABLED=0 (the script's default, line 9)\n" in text
    assert "TTT_EPOCHS=5 (README.md:2)\n" in text
    page = html.render([dossier])
    assert "<td><code>TTT_ENABLED</code></td><td><code>0</code> <span" in page.replace("\n", "")
    assert "| `TTT_EPOCHS` | `5` | README | `README.md:2` |" in markdown.render([dossier])
