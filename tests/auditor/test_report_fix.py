"""Suggested patches: what a fixer gives, its own rule passes; where it is not certain, nothing."""

import subprocess
from pathlib import Path

import pytest

from auditor.audit import audit_in_full
from auditor.cli import main
from auditor.demo import submission as demo
from auditor.dossier import Dossier
from auditor.finding import Status
from auditor.policy import FRONTIER_2026_04
from auditor.report import html, markdown, terminal
from auditor.report.view import Audience, View
from auditor.rules import all_rules
from auditor.submission.model import SourceFile, Submission

HEAD = """\
import math
import numpy as np
import torch
import torch.nn.functional as F

tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
net = torch.nn.Linear(8, 8)
x, y = tokens[:-1], tokens[1:]
lp = F.log_softmax(net(x), -1)
p = F.softmax(net(x), dim=-1)
nll = -lp.gather(-1, y[:, None]).squeeze(-1)
"""
MIXED = """\
mixed = -torch.logsumexp(torch.log(torch.tensor([0.5, 0.5])) - torch.stack([nll, sure], -1), -1)
print(mixed.mean() / math.log(2))
"""
TABLE = """\
def table(sp, size):
    base, space, boundary = [0] * size, [False] * size, [True] * size
    for i in range(size):
        if sp.is_control(i) or sp.is_unknown(i) or sp.is_unused(i):
            continue
        boundary[i] = False
        piece = sp.id_to_piece(i)
        space[i] = piece.startswith("\\u2581")
        base[i] = {count}
    return base, space, boundary


def count(base, space, boundary, previous, token):
    return base[token] + (space[token] & ~boundary[previous])
"""
FITTED = """\
import math
import numpy as np
import torch
import torch.nn.functional as F

stream = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
trunk, head = torch.nn.Embedding(1024, 16), torch.nn.Linear(16, 1024)
nats = 0.0
for begin in range(0, len(stream) - 512, 64):
    inputs, labels = stream[begin : begin + 512], stream[begin + 1 : begin + 513]
    new = 448 if begin else 0
    fitted = torch.zeros(512)
    fitted[new:] = 1.0  # which positions count
    state = trunk(inputs).detach()
    nudge = torch.zeros(1, 16, requires_grad=True)
    fit = torch.optim.AdamW([nudge], lr=0.01)
    for _ in range(8):
        fit.zero_grad()
        (F.cross_entropy(head(state + nudge), labels, reduction="none") * fitted).sum().backward()
        fit.step()
    nats += F.cross_entropy(head(state + nudge), labels, reduction="none")[new:].sum().item()
print(nats / math.log(2))
"""
AHEAD = f"""{HEAD}\
optimizer, total = torch.optim.SGD(net.parameters(), lr=0.1), 0.0
for chunk in range(100):
    part = tokens[chunk * 64 : chunk * 64 + 65]
    optimizer.zero_grad()
    F.cross_entropy(net(part[:-1]), part[1:]).backward()
    optimizer.step()  # too early
    total += F.cross_entropy(net(part[:-1]), part[1:]).item()
print(total / math.log(2))
"""
MENDED = [
    (
        "C2",
        f"{HEAD}sure = -(lp.exp() * lp).sum(-1)  # how sure\n{MIXED}",
        "sure = torch.full_like(lp[..., 0], math.log(lp.size(-1)))  # how sure\n",
    ),
    (
        "C2",
        f"{HEAD}sure = torch.amax(lp, dim=-1)\n{MIXED}",
        "sure = torch.full_like(lp[..., 0], -math.log(lp.size(-1)))\n",
    ),
    (
        "C2",
        f"{HEAD}sure = p.max(dim=-1).values\n{MIXED}",
        "sure = torch.full_like(p[..., 0], 1.0 / p.size(-1))\n",
    ),
    (
        "B1",
        TABLE.format(count='len(piece[1:].encode("utf-8")) + 1'),
        '        base[i] = len(piece[1:].encode("utf-8"))\n',
    ),
    (
        "B1",
        TABLE.format(count='1 if sp.is_byte(i) else len(piece.replace("\\u2581", " ").encode())'),
        'len(piece.removeprefix("\\u2581").replace("\\u2581", " ").encode())\n',
    ),
    ("C7", FITTED, "    fitted[:new] = 1.0  # which positions count\n"),
    (
        "C3",
        AHEAD,
        "total += F.cross_entropy(net(part[:-1]), part[1:]).item()\n    optimizer.zero_grad()\n",
    ),
]


def audited(source: str) -> Dossier:
    submission = Submission(SourceFile.of("train_gpt.py", source.encode()))
    return audit_in_full(submission, policy=FRONTIER_2026_04)


def failed(dossier: Dossier) -> set[str]:
    return {f.rule for f in dossier.audit.findings if f.status is Status.FAIL}


@pytest.mark.parametrize(("rule", "source", "line"), MENDED)
def test_what_a_patch_gives_passes_its_rule(rule: str, source: str, line: str) -> None:
    before = audited(source)
    assert rule in failed(before)
    (patch,) = (p for p in before.patches if p.rule == rule)
    assert line in patch.source
    assert rule not in failed(audited(patch.source))
    changed = [text for text in patch.diff.splitlines() if text[:1] in "+-"]
    assert len(changed) <= 2 + 2 * 3
    assert len(patch.source.splitlines()) == len(source.splitlines())


@pytest.mark.parametrize(
    "source",
    [
        # the term is a gate as well, no reduction over the vocabulary, or of something unknown
        f"{HEAD}sure = lp.amax(-1)\nif sure.mean() > 0:\n    print('sure')\n{MIXED}",
        f"{HEAD}sure = -lp[:, 0]\n{MIXED}",
        f"{HEAD}lp = lp * 2\nsure = lp.amax(-1)\n{MIXED}",
        f"{HEAD}a = 1; sure = lp.amax(-1)\n{MIXED}",
        f"{HEAD}sure = lp.amax(-1)\n{MIXED}".replace("import math\n", "from math import log\n"),
        # the step shares a name with the score behind it
        AHEAD.replace("    optimizer.step()", "    total = optimizer.step() or total"),
        FITTED.replace("fitted[new:] = 1.0", "fitted[new:] = weight(new)"),
        f"{FITTED}fitted[new:] = 1.0\n".replace("[new:] = 1.0", "[new:] = 1.0; a = 1"),
    ],
)
def test_nothing_is_suggested_where_it_is_not_certain(source: str) -> None:
    assert audited(source).patches == ()


def test_the_submission_itself_stays_as_it_is_and_patch_takes_the_diff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train_gpt.py").write_text(AHEAD)
    assert main(["fix", "train_gpt.py"]) == 1
    assert "suggestion for C3: the step on a chunk comes after" in capsys.readouterr().out
    assert main(["fix", "train_gpt.py", "--diff"]) == 1
    diff = capsys.readouterr().out
    assert Path("train_gpt.py").read_text() == AHEAD
    subprocess.run(["git", "apply"], input=diff, text=True, check=True, cwd=tmp_path)
    assert main(["audit", "train_gpt.py"]) == 0
    assert main(["fix", "train_gpt.py"]) == 0
    assert "no rule that failed has a certain legal variant" in capsys.readouterr().out


def test_reports_show_the_patch_as_a_suggestion() -> None:
    dossier = audit_in_full(demo(), policy=FRONTIER_2026_04)
    changed = "confidence = torch.full_like(log_probs[..., 0], math.log(log_probs.size(-1)))"
    for text in (
        terminal.render([dossier], View(Audience.SUBMITTER)),
        markdown.render([dossier]),
        html.render([dossier]),
    ):
        assert f"+        {changed}" in text
        assert "uggest" in text
    assert changed not in terminal.render([dossier])


def test_a_rule_with_a_fixer_has_its_own_invalid_example_mended() -> None:
    mended: set[str] = set()
    for rule in all_rules():
        for example in rule.invalid:
            mended.update(p.rule for p in audited(example).patches if p.rule == rule.id)
    assert mended >= {"B1", "C2"}
