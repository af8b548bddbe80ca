"""C4: what is scored was already seen by an earlier pass over the same tokens."""

from collections.abc import Iterator

from auditor.finding import Axis, Finding, Status
from auditor.program.dataflow.marks import Place, Read, Source, Token, Update
from auditor.rules.base import Context, Rule

_VALIDATION = Source("val")


class ScoredMoreThanOnce(Rule):
    """Compares the pass that fills a table with the pass that reads it for the score."""

    id = "C4"
    title = "a later pass scores tokens that an earlier pass has taken in"
    axis = Axis.VALIDITY
    what = (
        "A table that validation tokens were counted into is read for the reported loss of "
        "validation tokens outside of every loop in which it was filled: the whole text was taken "
        "in before the scored pass began. Several evaluations of which the best is kept are noted."
    )
    why = (
        "Each token counts once, with what was known before it. A second pass over a table that "
        "already holds the token, and the tokens after it, measures what was stored; the text "
        "cannot be decoded from left to right by such a score."
    )
    source = "two-pass rescoring disallowed on 2026-03-27 and in PR 991; condition 4 of issue 1017"
    precedents = ("#846", "#870", "#881", "#888")
    legal = (
        "A table that takes in a chunk after that chunk was scored, in one loop over the chunks; "
        "overlapping windows of which only the new positions count; a diagnostic evaluation "
        "before the claimed one."
    )
    known_misses = (
        "passes repeated by a loop around the pass",
        "a table filled from the whole text that also goes on growing in the scored pass",
        "tables that live in C, CUDA or Triton code",
        "a second pass by a network alone, unless it was trained on the first: that is C3",
    )
    valid = (
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16).astype(np.int64)
net, rows = torch.nn.Linear(8, 8), np.ones((1024, 1024))
total = 0.0
for low in range(0, len(tokens) - 1, 4096):
    x, y = tokens[low : low + 4096], tokens[low + 1 : low + 4097]
    q = F.log_softmax(net(torch.tensor(x)), -1).gather(-1, torch.tensor(y)[:, None]).exp()
    p = rows[x, y] / rows[x].sum(-1)
    total += -np.log(0.5 * p + 0.5 * q.numpy()).sum()
    np.add.at(rows, (x, y), 1)
print(total / math.log(2))
""",
        """
import numpy as np, torch, math
import torch.nn.functional as F
seen = np.fromfile("tokens_in_the_artifact.bin", dtype=np.uint16).astype(np.int64)
tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16).astype(np.int64)
net, rows = torch.nn.Linear(8, 8), np.ones((1024, 1024))
np.add.at(rows, (seen[:-1], seen[1:]), 1)
x, y = tokens[:-1], tokens[1:]
q = F.log_softmax(net(torch.tensor(x)), -1).gather(-1, torch.tensor(y)[:, None]).exp()
p = rows[x, y] / rows[x].sum(-1)
print(-np.log(0.5 * p + 0.5 * q.numpy()).mean() / math.log(2))
""",
    )
    invalid = (
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16).astype(np.int64)
net, rows = torch.nn.Linear(8, 8), np.ones((1024, 1024))
x, y = tokens[:-1], tokens[1:]
q = F.log_softmax(net(torch.tensor(x)), -1).gather(-1, torch.tensor(y)[:, None]).exp()
for low in range(0, len(y), 4096):
    np.add.at(rows, (x[low : low + 4096], y[low : low + 4096]), 1)
p = rows[x, y] / rows[x].sum(-1)
print(-np.log(0.5 * p + 0.5 * q.numpy()).mean() / math.log(2))
""",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure for each table that was full before the scored pass, or a pass."""
        if (unread := self.unread(context)) is not None:
            yield unread
            return
        trace = context.trace
        if not trace.reports:
            yield self.finding(Status.UNKNOWN, "no loss that is reported in bits was found")
            return
        found: dict[Place, list[Read]] = {}
        for read in trace.reported(Read):
            for update in _ahead(read):
                found.setdefault(update.place, []).append(read)
        if not found:
            yield self.finding(
                Status.PASS, "no table that the score reads was filled by an earlier pass"
            )
        for place, reads in found.items():
            places = dict.fromkeys((place, *(r.place for r in reads)))
            yield self.doubtful(
                context,
                "the first line fills a table from the whole validation text, and the score is "
                "computed from that table afterwards",
                tuple(context.evidence(p) for p in places),
                {r.doubt for r in reads},
            )
        yield from self._best_kept(context)

    def _best_kept(self, context: Context) -> Iterator[Finding]:
        """Notes where evaluations that were already reported are compared."""
        reports = context.trace.reports
        for choice in context.trace.choices:
            before = [r.deps for r in reports if r.order < choice.order]
            if all(any(loss in deps for deps in before) for loss in choice.losses):
                yield self.finding(
                    Status.NOTE,
                    "evaluations are compared after they were reported; the score to claim is the "
                    "one that was fixed before",
                    (context.evidence(choice.place),),
                )


def _ahead(read: Read) -> list[Update]:
    """What the table took in of validation tokens before the pass that reads it began.

    A table that goes on growing behind the scored position was only warmed up: the ranks do so
    with what comes before their share of the text.
    """
    if not _of_validation(read.tokens):
        return []
    found: list[Update] = []
    for table in read.tables:
        updates = [u for u in table.updates if _of_validation(u.tokens)]
        if not any(u.order > read.order and _in_step(u, read) for u in updates):
            found += [u for u in updates if u.order < read.order and not _in_step(u, read)]
    return found


def _in_step(update: Update, read: Read) -> bool:
    """Whether one loop takes in and reads, turn by turn."""
    return any(a is b and not a.once for a, b in zip(update.loops, read.loops, strict=False))


def _of_validation(tokens: frozenset[Token]) -> bool:
    return any(isinstance(t.stream, frozenset) and _VALIDATION in t.stream for t in tokens)
