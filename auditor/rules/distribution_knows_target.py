"""C1: the scored distribution was changed by the very token that it is scored on."""

from collections.abc import Iterator

from auditor.finding import Axis, Finding, Status
from auditor.program.dataflow.marks import Nll
from auditor.rules.base import Context, Rule

_SCORED = """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
net = torch.nn.Linear(8, 8)
x, y = tokens[:-1], tokens[1:]
logits = net(x)
unlikely = logits < logits.max(-1, keepdim=True).values - 3.0
UNMASK
logits = logits.masked_fill(unlikely, -1e9)
print(F.cross_entropy(logits, y) / math.log(2))
"""


class DistributionKnowsTarget(Rule):
    """Looks for the scored token among what the scored distribution was computed from."""

    id = "C1"
    title = "the scored distribution depends on the token that is being scored"
    axis = Axis.VALIDITY
    what = (
        "In the logits or probabilities of a reported loss, the entry of the scored token itself "
        "was told from the others: a mask spares it, or it is given a bonus."
    )
    why = (
        "Whatever the token is, the distribution bends towards it. The receiver of a code does not "
        "know the token yet and cannot compute that distribution; over all tokens the scored "
        "probabilities sum to more than one."
    )
    source = (
        "condition 1 of issue 1017: the whole distribution is a function of the tokens before; "
        "its test replaces the scored token and expects the same logits"
    )
    precedents = ("#1420", "#1967")
    legal = "Masks and bonuses that are computed from the tokens before, or from the logits alone."
    known_misses = (
        "tokens whose places in the stream are not known, or that went through other code",
        "a network that looks ahead inside its layers: flips measure it",
    )
    valid = (_SCORED.replace("UNMASK\n", ""),)
    invalid = (
        _SCORED.replace("UNMASK", "unlikely.scatter_(-1, y[:, None], False)"),
        _SCORED.replace("UNMASK", "unlikely = unlikely & (F.one_hot(y, 1024) == 0)"),
        _SCORED.replace("UNMASK", "logits[torch.arange(len(y)), y] += 0.5"),
        _SCORED.replace("UNMASK", "logits = logits + (torch.arange(1024) == y[:, None]) * 0.5"),
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure that lists every such loss, or a pass."""
        if (unread := self.unread(context)) is not None:
            yield unread
            return
        peeking: list[Nll] = [n for n in context.trace.reported(Nll) if n.peeks]
        if not peeking:
            yield self.finding(
                Status.PASS,
                "in no scored distribution is the scored token's entry told from the others",
            )
            return
        shown = tuple(context.evidence(p) for p in dict.fromkeys(n.place for n in peeking))
        reason = "in the distribution that is scored here, the scored token's own entry was changed"
        yield self.doubtful(context, reason, shown, {n.doubt for n in peeking})
