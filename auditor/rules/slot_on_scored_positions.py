"""C7: a tensor is fitted to each window at the positions that the window then scores."""

from collections.abc import Iterator
from enum import Enum, auto

from auditor.finding import Axis, Finding, Status
from auditor.program.dataflow.machine import Trace
from auditor.program.dataflow.marks import Positions, affine_sum
from auditor.program.early_training import EarlyTraining, early_training, one_a_line
from auditor.rules.base import Context, Rule

_WINDOWS = """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
body, head = torch.nn.Linear(8, 8), torch.nn.Linear(8, 1024)
total, width, stride = 0.0, 512, 64
for start in range(0, len(tokens) - width, stride):
    part = tokens[start : start + width + 1]
    new = max(width - stride, 0) if start else 0
    hidden = body(part[:-1]).detach()
    shift = torch.zeros(8, requires_grad=True)
    opt = torch.optim.AdamW([shift], lr=0.01)
    for step in range(8):
        opt.zero_grad()
        losses = F.cross_entropy(head(hidden + shift), part[1:], reduction="none")
        losses[FITTED].mean().backward()
        opt.step()
    losses = F.cross_entropy(head(hidden + shift), part[1:], reduction="none")
    total += losses[new:].sum().item()
print(total / math.log(2))
"""


class SlotOnScoredPositions(Rule):
    """Compares the positions in the fit's loss with those that enter the reported sum."""

    id = "C7"
    title = "a tensor is fitted to a window's targets before they are scored"
    axis = Axis.VALIDITY
    what = (
        "A shift of the hidden state or a bias of the logits is made anew for each window of the "
        "evaluation, fitted by gradient steps to the window's own targets, and then used to score "
        "them. The slices and masks in the loss of the fit are compared with those in the "
        "reported sum: the same or overlapping positions fail; positions that earlier windows "
        "have scored are pending."
    )
    why = (
        "What was fitted to a token has seen it: its probability then depends on the token itself "
        "and on those after it, and a receiver without the text could not fit the same tensor. A "
        "fit to context alone can be repeated by the receiver; whether it is allowed is open."
    )
    source = (
        "condition 1 of issue 1017; PR 1240 measured that changed targets change the scores of "
        "others; issue 1336 asks for a ruling on the causal variant and got none"
    )
    precedents = ("#1240", "#1263", "#1321")
    legal = (
        "No fit at all, or one that only later windows use. The variant that fits positions "
        "which earlier windows have scored, `losses[:new]`, waits for a ruling."
    )
    known_misses = (
        "one tensor shared by a batch and fitted to contexts that others in it score: pending",
        "positions that cannot be compared, such as those of a mask of computed lengths: pending",
        "a mask of ones with zeros written into it: pending",
    )
    valid = (
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
body, head = torch.nn.Linear(8, 8), torch.nn.Linear(8, 1024)
shift = torch.zeros(8, requires_grad=True)
opt = torch.optim.AdamW([shift], lr=0.01)
total = 0.0
for start in range(0, len(tokens) - 512, 512):
    part = tokens[start : start + 513]
    loss = F.cross_entropy(head(body(part[:-1]).detach() + shift), part[1:])
    total += loss.item()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(total / math.log(2))
""",
    )
    invalid = (_WINDOWS.replace("FITTED", "new:"), _WINDOWS.replace("[FITTED]", ""))

    def check(self, context: Context) -> Iterator[Finding]:
        """One finding for each line that fits a tensor to a window; a pass where none does."""
        if (unread := self.unread(context)) is not None:
            yield unread
            return
        found = tuple(e for e in early_training(context.trace) if e.of_window)
        if not found:
            yield self.finding(Status.PASS, "no tensor is fitted to a window before its score")
        for early in one_a_line(found):
            shown = (context.evidence(early.train.place), context.evidence(early.nll.place))
            fit = _compare(early, context.trace)
            if fit is _Fit.SCORED:
                reason = (
                    "a tensor made for this window is fitted to positions that the window then "
                    "scores"
                )
                doubts = {early.train.doubt or early.nll.doubt}
                yield self.doubtful(context, reason, shown, doubts)
            else:
                yield self.finding(Status.PENDING, _PENDING[fit], shown)


class _Fit(Enum):
    SCORED = auto()
    CONTEXT = auto()
    UNKNOWN = auto()


_PENDING = {
    _Fit.CONTEXT: (
        "a tensor made for this window is fitted to positions ahead of those that it scores; "
        "there is no ruling on this variant, issue 1336 is open"
    ),
    _Fit.UNKNOWN: (
        "a tensor made for this window is fitted to its tokens; whether the fitted positions are "
        "among the scored ones could not be read, and issue 1336 is open"
    ),
}


def _compare(early: EarlyTraining, trace: Trace) -> _Fit:
    """Where the fitted positions lie as against the scored ones."""
    fitted = _positions(early.train.deps)
    scored = {
        p
        for report in trace.reports
        if early.nll in report.deps
        for p in _positions(report.deps)
        if p.known
    }
    if any(_ends_before(p, q) for p in fitted for q in scored):
        return _Fit.CONTEXT
    if all(p.known and _overlaps(p, scored) for p in fitted):
        return _Fit.SCORED
    return _Fit.UNKNOWN


def _positions(deps: frozenset[object]) -> set[Positions]:
    return {m for m in deps if type(m) is Positions}


def _ends_before(left: Positions, right: Positions) -> bool:
    if left.upper is None or right.lower is None:
        return False
    unknowns, distance = affine_sum(left.upper, right.lower, -1)
    return not unknowns and distance <= 0


def _overlaps(fitted: Positions, scored: set[Positions]) -> bool:
    """Whether both begin or both end at the same place; all of a window overlaps anything."""
    return not scored or any(
        (fitted.upper == p.upper) or (fitted.lower is not None and fitted.lower == p.lower)
        for p in scored
    )
