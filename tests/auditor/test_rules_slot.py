"""C7 by the positions that are fitted, however they are written."""

import pytest

from auditor.evidence.claims import Claims
from auditor.finding import Status
from auditor.program.index import build
from auditor.rules.base import Context
from auditor.rules.slot_on_scored_positions import SlotOnScoredPositions
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack

SCRIPT = """
import numpy as np, torch, math
import torch.nn.functional as F
stream = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
trunk, head = torch.nn.Embedding(1024, 16), torch.nn.Linear(16, 1024)
nats, width, hop = 0.0, 512, 64
for begin in range(0, len(stream) - width, hop):
    piece = stream[begin : begin + width + 1]
    labels = piece[1:]
    fresh = max(width - hop, 0) if begin > 0 else 0
    state = trunk(piece[:-1]).detach()
    nudge = torch.zeros(16, requires_grad=True)
    fit = torch.optim.AdamW([nudge], lr=0.01)
    places = torch.arange(width)
    for _ in range(8):
        fit.zero_grad()
        logits = head(state + nudge)
        costs = F.cross_entropy(logits, labels, reduction="none")
        {fitted}
        loss.backward()
        fit.step()
    costs = F.cross_entropy(head(state + nudge), labels, reduction="none")
    {scored}
print(nats / math.log(2))
"""
NEW = "nats += costs[fresh:].sum().item()"
ALL = "nats += costs.sum().item()"


def status(fitted: str, scored: str) -> Status:
    source = SCRIPT.replace("{fitted}", fitted).replace("{scored}", scored)
    main = SourceFile.of("train_gpt.py", source.encode())
    submission = Submission(main, {"train_gpt.py": main})
    context = Context(submission, build(submission, unpack(main, submission.files)), Claims())
    (finding,) = SlotOnScoredPositions().check(context)
    return finding.status


@pytest.mark.parametrize(
    "fitted",
    [
        "loss = costs.mean()",
        "loss = costs[:-1].mean()",
        "loss = costs[fresh:].mean()",
        "loss = costs[fresh:width].mean()",
        "loss = (costs * (places >= fresh)).sum()",
        "loss = F.cross_entropy(logits[fresh:], labels[fresh:])",
        "new = torch.zeros(width); new[fresh:] = 1.0; loss = (costs * new).sum() / new.sum()",
        "old = torch.zeros(width); old[:fresh] = 1; loss = (costs * (1 - old)).sum()",
        "old = torch.zeros(width, dtype=torch.bool); old[:fresh] = True; loss = costs[~old].mean()",
        "new = torch.zeros(width); new[fresh:] = 1; loss = costs.masked_select(new > 0).mean()",
    ],
)
@pytest.mark.parametrize("scored", [NEW, ALL])
def test_scored_positions_fail(fitted: str, scored: str) -> None:
    assert status(fitted, scored) is Status.FAIL


@pytest.mark.parametrize(
    "fitted",
    [
        "loss = costs[:fresh].mean()",
        "loss = costs[: fresh - 1].mean()",
        "loss = (costs * (places < fresh)).sum()",
        "loss = F.cross_entropy(logits[:fresh], labels[:fresh])",
        "old = torch.zeros(width); old[:fresh] = 1; loss = (costs * old).sum() / old.sum()",
        "new = torch.zeros(width); new[fresh:] = 1; loss = (costs * (1 - new)).sum()",
    ],
)
def test_positions_ahead_wait_for_a_ruling(fitted: str) -> None:
    assert status(fitted, NEW) is Status.PENDING


@pytest.mark.parametrize(
    "fitted",
    [
        "loss = costs[: width // 2 + len(piece)].mean()",
        "loss = (costs * torch.rand(width).round()).sum()",
        "old = torch.ones(width); old[fresh:] = 0; loss = (costs * old).sum()",
        "loss = costs[torch.randperm(width)[:9]].mean()",
    ],
)
def test_what_cannot_be_compared_waits(fitted: str) -> None:
    assert status(fitted, NEW) is Status.PENDING


def test_a_fit_after_the_score_passes() -> None:
    source = "loss = costs.mean(); nats += loss.item(); nudge = nudge"
    assert status("loss = torch.zeros((), requires_grad=True)", source) is Status.PASS
