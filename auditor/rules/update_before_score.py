"""C3: weights are trained on validation tokens before those tokens are scored."""

from collections.abc import Iterator

from auditor.finding import Axis, Finding, Status
from auditor.program.early_training import early_training, one_a_line
from auditor.rules.base import Context, Rule


class UpdateBeforeScore(Rule):
    """Compares the order of training and scoring, over loops and over the objects' lifetimes."""

    id = "C3"
    title = "validation tokens train the weights before they are scored"
    axis = Axis.VALIDITY
    what = (
        "A gradient step whose loss was computed from validation tokens changes weights that later "
        "produce the reported loss of the same tokens: adaptation before quantisation or before "
        "the scored pass, several passes of which a later one is scored, or a step on a chunk "
        "ahead of its score."
    )
    why = (
        "A token must be scored by a model that has not seen it. Otherwise the loss measures how "
        "well the text was memorised, and a receiver without the text could not reproduce it."
    )
    source = (
        "README: only tokens already evaluated may be trained on; rulings on PRs 402, 568, 1376 "
        "and 1972; condition 3 of issue 1017"
    )
    precedents = ("#568", "#1376", "#1972")
    legal = (
        "Scoring a chunk, then any number of epochs on it; a fresh adapter per document under the "
        "same order; training on training data; a warm-up on an object that is thrown away. A "
        "tensor fitted anew to each window is looked at under C7."
    )
    known_misses = ("weights changed inside C, CUDA or Triton code",)
    valid = (
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
net = torch.nn.Linear(8, 8)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
total = 0.0
for c in range(100):
    part = tokens[c * 64 : c * 64 + 65]
    total += F.cross_entropy(net(part[:-1]), part[1:]).item()
    for epoch in range(4):
        opt.zero_grad()
        F.cross_entropy(net(part[:-1]), part[1:]).backward()
        opt.step()
print(total / math.log(2))
""",
    )
    invalid = (
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
net = torch.nn.Linear(8, 8)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(4):
    opt.zero_grad()
    F.cross_entropy(net(tokens[:-1]), tokens[1:]).backward()
    opt.step()
total = F.cross_entropy(net(tokens[:-1]), tokens[1:]).item()
print(total / math.log(2))
""",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure for each training step that comes too early, or a pass."""
        if (unread := self.unread(context)) is not None:
            yield unread
            return
        trace = context.trace
        if not trace.reports:
            yield self.finding(Status.UNKNOWN, "no loss that is reported in bits was found")
            return
        found = tuple(e for e in early_training(trace) if not e.of_window)
        if not found:
            yield self.finding(
                Status.PASS, "no weight is trained on validation tokens ahead of their score"
            )
        for early in one_a_line(found):
            shown = (context.evidence(early.train.place), context.evidence(early.nll.place))
            doubts = {early.train.doubt or early.nll.doubt}
            yield self.doubtful(context, early.reason, shown, doubts)
