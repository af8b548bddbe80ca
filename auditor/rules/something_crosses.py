"""A2: training data reaches the score by another way than the artifact."""

from collections.abc import Iterator

from auditor.finding import Axis, Confidence, Finding, Status
from auditor.program.dataflow.marks import Source
from auditor.rules.base import Context, Rule

_PRIOR = """
import numpy as np, torch, math
import torch.nn.functional as F
train = torch.from_numpy(np.fromfile("fineweb_train_000000.bin", dtype=np.uint16))
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
class Net(torch.nn.Module):
    def __init__(self, prior):
        super().__init__()
        self.body = torch.nn.Linear(8, 8)
        HELD
    def forward(self, ids):
        return self.body(ids) + self.prior
net = Net(torch.log(torch.bincount(train, minlength=8) + 1.0))
print(F.cross_entropy(net(tokens[:-1]), tokens[1:]).item() / math.log(2))
"""


class SomethingCrosses(Rule):
    """Asks of each reported loss whether training tokens are in it other than through weights."""

    id = "A2"
    title = "something besides the artifact crosses from training to evaluation"
    axis = Axis.VALIDITY
    what = (
        "A table or another value in memory that was filled from training shards and takes part in "
        "the reported loss of validation tokens. Weights that were trained, parameters and buffers "
        "that a module saves with its state, and files that are read back do not count as such."
    )
    why = (
        "The 16,000,000 bytes are all that a model may know of the training data. What is kept "
        "beside them is knowledge that nobody has paid for."
    )
    source = (
        "README: the artifact is self-contained; the maintainers' word of 2026-03-25: memory at "
        "evaluation is free, only 16 MB cross. Tables filled from training shards: PRs 883 and 925"
    )
    precedents = ("#883", "#925")
    legal = (
        "Caches that evaluation fills from tokens it has scored; tables that training writes into "
        "the artifact and evaluation reads from there."
    )
    known_misses = (
        "a file besides the artifact that training leaves on disk: files are not told apart",
        "trained weights that stay in memory and are scored without going through the artifact",
        "a table that is filled inside C, CUDA or Triton code",
    )
    valid = (
        """
import numpy as np, torch, math
import torch.nn.functional as F
train = torch.from_numpy(np.fromfile("fineweb_train_000000.bin", dtype=np.uint16))
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
net = torch.nn.Linear(8, 8)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
F.cross_entropy(net(train[:-1]), train[1:]).backward()
opt.step()
print(F.cross_entropy(net(tokens[:-1]), tokens[1:]).item() / math.log(2))
""",
        _PRIOR.replace("HELD", "self.register_buffer('prior', prior)"),
        _PRIOR.replace("HELD", "self.prior = torch.nn.Parameter(prior)"),
    )
    invalid = (
        _PRIOR.replace("HELD", "self.prior = prior"),
        _PRIOR.replace("HELD", "self.register_buffer('prior', prior, persistent=False)"),
        """
import numpy as np, torch, math
import torch.nn.functional as F
train = torch.from_numpy(np.fromfile("fineweb_train_000000.bin", dtype=np.uint16))
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
net = torch.nn.Linear(8, 8)
counts = torch.bincount(train, minlength=8).float()
logits = net(tokens[:-1]) + torch.log(counts + 1)
print(F.cross_entropy(logits, tokens[1:]).item() / math.log(2))
""",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure for each place that reports such a loss, or a pass."""
        if (unread := self.unread(context)) is not None:
            yield unread
            return
        reports = context.trace.reports
        if not reports:
            yield self.finding(Status.NOT_APPLICABLE, "no loss that is reported in bits was found")
            return
        crossing = [
            place
            for place, marks in {r.place: (*r.deps, *r.linear) for r in reports}.items()
            if {"train", "val"} <= {mark.split for mark in marks if type(mark) is Source}
        ]
        if not crossing:
            yield self.finding(
                Status.PASS, "no training data reaches a reported loss besides the weights"
            )
        for place in crossing:
            yield self.finding(
                Status.FAIL,
                "training data reaches this loss without going through the artifact",
                (context.evidence(place),),
                confidence=Confidence.MEDIUM,
            )
