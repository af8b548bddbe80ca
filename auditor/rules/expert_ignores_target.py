"""C2: a term of the scored mixture does not depend on the realised token."""

from collections.abc import Iterator

from auditor.finding import Axis, Finding, Status
from auditor.program.dataflow.marks import Blend
from auditor.rules.base import Context, Rule


class ExpertIgnoresTarget(Rule):
    """Looks at what is put side by side and weighed: each term must be about the same token."""

    id = "C2"
    title = "an expert of the mixture gives every token the same probability"
    axis = Axis.VALIDITY
    what = (
        "Losses or probabilities of the realised token are stacked and weighed together with a "
        "term that comes from the network's distribution but does not depend on the realised "
        "token, such as its entropy, its largest probability or its margin."
    )
    why = (
        "Such a term stands for the same 'probability' whichever token comes: over a vocabulary "
        "of V it sums to V * exp(-H), far above one where the network is sure of itself. The "
        "mixture then sums to more than one, and the score drops because the rule was broken, not "
        "because the text was predicted."
    )
    source = (
        "condition 2 of issue 1017: a full normalised distribution before the token is revealed"
    )
    precedents = ("#700",)
    legal = (
        "Entropy as a temperature, a gate or a mixing weight; a constant expert, ln V for every "
        "token, which is the uniform distribution."
    )
    known_misses = ("terms that are added one at a time into a running sum of probabilities",)
    valid = (
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
net, gate = torch.nn.Linear(8, 8), torch.nn.Linear(1, 2)
x, y = tokens[:-1], tokens[1:]
lp = F.log_softmax(net(x), -1)
nll = -lp.gather(-1, y[:, None]).squeeze(-1)
entropy = -(lp.exp() * lp).sum(-1)
uniform = torch.full_like(nll, math.log(1024))
weight = F.log_softmax(gate(entropy[:, None]), -1)
mixed = -torch.logsumexp(weight - torch.stack([nll, uniform], -1), -1)
print(mixed.mean() / math.log(2))
""",
    )
    invalid = (
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
net = torch.nn.Linear(8, 8)
x, y = tokens[:-1], tokens[1:]
lp = F.log_softmax(net(x), -1)
nll = -lp.gather(-1, y[:, None]).squeeze(-1)
sure = -lp.max(-1).values
weight = torch.log(torch.tensor([0.5, 0.5]))
mixed = -torch.logsumexp(weight - torch.stack([nll, sure], -1), -1)
print(mixed.mean() / math.log(2))
""",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure for each term, with the line where it is computed."""
        if (unread := self.unread(context)) is not None:
            yield unread
            return
        reached = {m for r in context.trace.reports for m in r.linear if type(m) is Blend}
        terms = {(b.term.path, b.term.line): b for b in reached}
        if not terms:
            yield self.finding(
                Status.PASS, "every term that is weighed into the score depends on the scored token"
            )
        for _, blend in sorted(terms.items()):
            yield self.finding(
                Status.FAIL,
                "this term of the scored mixture does not depend on the realised token: it gives "
                "the same value to every candidate, so the mixture does not sum to one",
                (context.evidence(blend.term), context.evidence(blend.place)),
            )
