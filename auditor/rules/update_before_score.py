"""C3: weights are trained on validation tokens before those tokens are scored."""

from collections.abc import Iterator

from auditor.finding import Axis, Finding, Status
from auditor.program.dataflow.marks import Loop, Nll, Source, Token, Train, Weights
from auditor.rules.base import Context, Rule

_WINDOW_FIT = (
    "a tensor made for this window is fitted to its tokens before they are scored; whether the "
    "fitted positions are among the scored ones is not decided here, and issue 1336 is open"
)


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
        "same order; training on training data; a warm-up on an object that is thrown away."
    )
    known_misses = (
        "weights changed inside C, CUDA or Triton code",
        "a tensor fitted per window (SLOT) is pending whichever positions it is fitted to",
    )
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
        found: dict[Train, tuple[Nll, str]] = {}
        for nll in trace.reported(Nll):
            if _on_validation(nll.deps):
                for train in trace.trains:
                    reason = _too_early(train, nll) if _on_validation(train.deps) else None
                    if reason is not None:
                        found.setdefault(train, (nll, reason))
        if not found:
            yield self.finding(
                Status.PASS, "no weight is trained on validation tokens ahead of their score"
            )
        said: set[object] = set()
        for train, (nll, reason) in found.items():
            if train.place not in said:
                said.add(train.place)
                shown = (context.evidence(train.place), context.evidence(nll.place))
                if _is_window_fit(train, nll):
                    yield self.finding(Status.PENDING, _WINDOW_FIT, shown)
                else:
                    yield self.doubtful(context, reason, shown, {train.doubt or nll.doubt})


def _is_window_fit(train: Train, nll: Nll) -> bool:
    """Whether what is trained is a lone tensor that each window makes anew."""
    lone = train.module.kind.rpartition(".")[2] in ("Tensor", "Parameter")
    return lone and any(loop in train.fresh for loop in _shared_loops(train.loops, nll.loops))


def _on_validation(deps: frozenset[object]) -> bool:
    splits = {m.split for m in deps if type(m) is Source}
    return "val" in splits


def _too_early(train: Train, nll: Nll) -> str | None:
    """Why `train` comes before the score `nll` of tokens that it saw, if it does."""
    shared = _shared_loops(train.loops, nll.loops)
    if train in nll.deps:
        if not shared:
            return (
                "weights are trained on validation tokens, and a later pass with those weights "
                "scores the same tokens"
            )
        if _tokens(train) & _tokens(nll):
            return "a chunk of validation tokens is trained on ahead of its own score"
    elif train.order > nll.order and any(
        type(m) is Weights and m.module is train.module for m in nll.deps
    ):
        for loop in shared:
            repeated = not loop.once and loop not in nll.deps and loop not in nll.first_only
            if repeated and loop not in train.fresh:
                return (
                    "a loop passes over the same validation tokens again: what is scored in a "
                    "later pass was trained on in an earlier one"
                )
    return None


def _shared_loops(left: tuple[Loop, ...], right: tuple[Loop, ...]) -> list[Loop]:
    return [a for a, b in zip(left, right, strict=False) if a is b]


def _tokens(event: Train | Nll) -> frozenset[Token]:
    return frozenset(m for m in event.deps if type(m) is Token)
