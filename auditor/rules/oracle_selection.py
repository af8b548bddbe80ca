"""C6: which expert scores a token is decided by looking at the token's own loss."""

from collections.abc import Iterator

from auditor.finding import Axis, Finding, Status
from auditor.program.dataflow.marks import Choice
from auditor.rules.base import Context, Rule

_COMPARED = (
    "losses or probabilities of the realised token are compared here, and the winner is what is "
    "scored"
)
_BOUND = (
    "whether the realised token's own loss or probability passes a bound decides here what is "
    "scored"
)
_GATED = """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
near, far = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
x, y = tokens[:-1], tokens[1:]
a = F.cross_entropy(near(x), y, reduction="none")
b = F.cross_entropy(far(x), y, reduction="none")
print(torch.where(GATE, a, -torch.logaddexp(-a, -b) + math.log(2)).mean() / math.log(2))
"""


class OracleSelection(Rule):
    """Follows comparisons of realised losses into the reported loss."""

    id = "C6"
    title = "the better of several losses is kept for each token after both are known"
    axis = Axis.VALIDITY
    what = (
        "Two losses or probabilities of the same realised token are compared, by `minimum`, "
        "`where`, a mask or an `if`, and the winner enters the reported loss; or one of them is "
        "held against a bound, by `where` or an `if`, and what comes of it decides whether others "
        "enter."
    )
    why = (
        "Which expert wins is known only once the token is: a receiver would need one more bit for "
        "each choice. Keeping the larger of two distributions at every token sums to more than one."
    )
    source = "ruling on PR 659 of 2026-03-25: commit to one mixture before the token is scored"
    precedents = ("#659",)
    legal = (
        "A gate that reads the model's own entropy or confidence; the expert that did better on "
        "tokens before this one; a bound by a constant; the smaller of two counts; the largest "
        "term taken out of a logarithm of a sum and put back."
    )
    known_misses = (
        "an expert chosen by a mask from a threshold on the realised probability of another",
        "losses stacked in one array and reduced by its own smallest element",
        "losses sorted, or chosen by the position of the smallest",
    )
    valid = (
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
near, far = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
x, y = tokens[:-1], tokens[1:]
a = -F.cross_entropy(near(x), y, reduction="none") + math.log(0.5)
b = -F.cross_entropy(far(x), y, reduction="none") + math.log(0.5)
top = torch.maximum(a, b)
mixed = top + torch.log(torch.exp(a - top) + torch.exp(b - top))
print(-torch.clamp(mixed, max=0.0).mean() / math.log(2))
""",
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
near, far = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
x, y = tokens[:-1], tokens[1:]
sure = F.softmax(near(x), -1).amax(-1) > F.softmax(far(x), -1).amax(-1)
a = F.cross_entropy(near(x), y, reduction="none")
b = F.cross_entropy(far(x), y, reduction="none")
print(torch.where(sure, a, b).mean() / math.log(2))
""",
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
near, far = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
total = 0.0
for i in range(1, len(tokens)):
    x, y = tokens[i - 1 : i], tokens[i : i + 1]
    a = math.exp(-F.cross_entropy(near(x), y).item())
    p = 0.5 * a + 0.5 * math.exp(-F.cross_entropy(far(x), y).item())
    total -= math.log(p) if p > 1e-30 else -69.0
print(total / math.log(2))
""",
        _GATED.replace("GATE", "near(x).amax(-1) > 9.0"),
        _GATED.replace("torch.where(GATE, a, ", "torch.where(a > 20.0, 20.0, a) + 0.0 * ("),
    )
    invalid = (
        _GATED.replace("GATE", "a < 0.7"),
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
near, far = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
x, y = tokens[:-1], tokens[1:]
a = F.cross_entropy(near(x), y, reduction="none")
b = F.cross_entropy(far(x), y, reduction="none")
print(torch.minimum(a, b).mean() / math.log(2))
""",
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
near, far = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
x, y = tokens[:-1], tokens[1:]
kept = F.cross_entropy(near(x), y, reduction="none")
other = F.cross_entropy(far(x), y, reduction="none")
better = other < kept
kept[better] = other[better]
print(kept.mean() / math.log(2))
""",
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
near, far = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
total = 0.0
for i in range(1, len(tokens)):
    x, y = tokens[i - 1 : i], tokens[i : i + 1]
    loss = F.cross_entropy(near(x), y).item()
    other = F.cross_entropy(far(x), y).item()
    if other < loss:
        loss = other
    total += loss
print(total / math.log(2))
""",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure for each place where losses are compared, or a pass."""
        if (unread := self.unread(context)) is not None:
            yield unread
            return
        if not context.trace.reports:
            yield self.finding(Status.UNKNOWN, "no loss that is reported in bits was found")
            return
        chosen: dict[object, list[Choice]] = {}
        for choice in context.trace.reported(Choice):
            chosen.setdefault(choice.place, []).append(choice)
        if not chosen:
            yield self.finding(
                Status.PASS, "no loss enters the score for being better than another one"
            )
        for choices in chosen.values():
            alone = all(len(choice.losses) == 1 for choice in choices)
            losses = {loss.place for choice in choices for loss in choice.losses}
            places = [choices[0].place, *sorted(losses, key=lambda p: (p.path, p.line))]
            yield self.doubtful(
                context,
                _BOUND if alone else _COMPARED,
                tuple(context.evidence(p) for p in dict.fromkeys(places)),
                {choice.doubt for choice in choices},
            )
