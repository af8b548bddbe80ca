"""C5: a token-shift mixer carries one document's last token into the next document's first."""

from collections.abc import Iterator

from auditor.finding import Axis, Finding, Status
from auditor.program.dataflow.marks import Place
from auditor.program.token_shift import TokenShift, token_shifts
from auditor.rules.base import Context, Rule

_MIXER = """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(1024, 8), torch.nn.Linear(8, 1024)
        self.share = torch.nn.Parameter(torch.zeros(8))
    def forward(self, ids):
        x = self.embed(ids)
        keep = KEEP
        x = torch.cat([x[:, :1], x[:, 1:] + keep * x[:, :-1]], 1)
        return self.head(x)
net = Net()
loss = F.cross_entropy(net(tokens[None, :-1])[0], tokens[1:])
print(loss.item() / math.log(2))
"""


class SmearAcrossDocuments(Rule):
    """Looks at sums of a sequence with itself one place later that the run evaluates."""

    id = "C5"
    title = "the previous document's last token is mixed into a document's first"
    axis = Axis.VALIDITY
    what = (
        "A mixer adds to each position a share of the position before it, in the embeddings or "
        "hidden states of a packed stream, without a mask at the tokens that begin a document, "
        "and the run configuration has it switched on."
    )
    why = (
        "Where documents are packed one after the other, a document's first position then carries "
        "the last token of an unrelated text. It is no look into the future: the share is of an "
        "earlier token, and the measured effect is small in either direction."
    )
    source = (
        "audit note on PR 1797 of 2026-04-26: not to be merged as it is; disputed in issue 1988, "
        "and PR 1667 kept its row with the same line"
    )
    precedents = ("#1797",)
    legal = (
        "The same mixer times a mask that is zero where a document begins; attention over earlier "
        "documents; hashing the previous token's id."
    )
    known_misses = (
        "the mixer written as torch.lerp, as a convolution, or in Triton code",
        "a mask that is applied to the sum, not to its earlier term",
        "a comparison in the gate that has nothing to do with documents",
    )
    valid = (_MIXER.replace("KEEP", "self.share * (ids[:, 1:] != 1)[..., None]"),)
    invalid = (_MIXER.replace("KEEP", "torch.sigmoid(self.share)"),)

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure for each such sum that ran, or a pass."""
        if (unread := self.unread(context)) is not None:
            yield unread
            return
        found = dict(self._found(context))
        if not found:
            yield self.finding(Status.PASS, "no position takes in the one before it")
            return
        bare = [place for place, shift in found.items() if not shift.masked]
        if not bare:
            yield self.finding(
                Status.PASS, "a position takes in the one before it only where a mask lets it"
            )
        for place in sorted(bare, key=lambda p: (p.path, p.line)):
            yield self.finding(
                Status.FAIL,
                "each position takes in a share of the one before it, also where a document begins",
                (context.evidence(place),),
            )

    @staticmethod
    def _found(context: Context) -> Iterator[tuple[Place, TokenShift]]:
        for module in context.program.modules:
            for shift in token_shifts(module, context.trace.sums):
                yield Place(module.path, shift.node.lineno), shift
