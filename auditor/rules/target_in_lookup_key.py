"""C2b: a table is read for scoring under a key that was mixed with the token being scored."""

from collections.abc import Iterator

from auditor.finding import Axis, Finding, Status
from auditor.program.dataflow.marks import Nll, Ratio, Read, Token, Unpicked
from auditor.rules.base import Context, Rule

_CANDIDATES = """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
net = torch.nn.Linear(8, 8)
single, pair = torch.zeros(4096), torch.zeros(4096)
everyone, total, bytes_scored = torch.arange(1024), 0.0, 0
for i in range(1, len(tokens) - 64, 64):
    x, y = tokens[i : i + 64], tokens[i + 1 : i + 65]
    q = F.log_softmax(net(x), -1).gather(-1, y[:, None]).squeeze(-1).exp()
    seen = x * 31 % 4096
    counted = pair[(seen[:, None] * 17 + everyone[None, :]) % 4096]
    own = counted.gather(-1, y[:, None]).squeeze(-1)
    p = (own + 2 * q) / (BELOW)
    total -= torch.log(0.5 * p + 0.5 * q).sum()
    bytes_scored += 200
    single.scatter_add_(0, seen, torch.ones(64))
    pair.scatter_add_(0, (seen * 17 + y) % 4096, torch.ones(64))
print(total / (bytes_scored * math.log(2)))
"""
_ADDED = """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
net = torch.nn.Linear(8, 1024)
table, total = torch.zeros(SHAPE), 0.0
for i in range(1, len(tokens) - 64, 64):
    x, y = tokens[i : i + 64], tokens[i + 1 : i + 65]
    q = F.softmax(net(x), -1).gather(-1, y[:, None]).squeeze(-1)
    window = torch.stack([x, y], dim=1)
    key = torch.zeros(64, dtype=torch.int64)
    for k in range(WIDTH):
        key = (key * 31) ^ window[:, k]
    count = table[KEY].float()
    known = (count >= 2).nonzero(as_tuple=True)[0]
    p = torch.zeros(64)
    p[known] = count[known] / (BELOW[known] + 1024)
    total -= torch.log(0.5 * p + 0.5 * q).sum()
    table[KEY] += 1
print(total / math.log(2))
"""
_MIXED = (
    "the scored probability comes from a table read under a key that mixes in the token being "
    "scored, so it need not sum to one over the vocabulary"
)
_UNSUMMED = (
    "each candidate's count comes from a bucket of its own and is divided by another table's "
    "count, not by the sum over the candidates: with collisions the quotients sum to more than one"
)
_UNPICKED = (
    "the count that is added to the scored token's probability was read under hashed keys alone: "
    "no index by that token picks it from a row of candidates, so nothing holds the sum to one"
)


class TargetInLookupKey(Rule):
    """Follows every lookup that reaches a reported loss back to the tokens in its key."""

    id = "C2b"
    title = "a lookup key is mixed with the token that is being scored"
    axis = Axis.VALIDITY
    what = (
        "A count or probability that enters the reported loss was looked up under a key into which "
        "the realised token was hashed. It is found where a lookup is divided by another whose "
        "key lacks that token, or where the mixed token is the very label of the loss. So is a "
        "lookup for which every candidate was hashed into a bucket of its own, divided by "
        "something other than the sum over those buckets; and so is a lookup under hashed keys "
        "alone that is added to the probability of the realised token."
    )
    why = (
        "Only the realised token's bucket is ever read, so nothing holds the buckets of the other "
        "tokens to a sum of one: with collisions every candidate would get a high value. What is "
        "scored is then no probability, and the code that it implies cannot be decoded."
    )
    source = "ruling on PR 779 of 2026-03-27, repeated for PR 982; condition 2 of issue 1017"
    precedents = ("#779", "#770", "#763", "#982")
    legal = (
        "Keys that hold the token when the table is updated; hashes of input tokens that select "
        "an embedding; a row of counts found by context alone, divided by the row's total, of "
        "which the token then picks a column; reading all candidates and dividing by their sum."
    )
    known_misses = (
        "tables that live in C, CUDA or Triton code",
        "keys that reach a table through a file or another process",
        "candidates hashed one by one in a Python loop over the vocabulary",
    )
    valid = (
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(8, 8)
counts = np.zeros((4096, 1024))
total = 0.0
for i in range(2, len(tokens)):
    row = (int(tokens[i - 1]) * 31 ^ int(tokens[i - 2])) & 4095
    p = (counts[row, tokens[i]] + 1.0) / (counts[row].sum() + 1024)
    logp = F.log_softmax(net(torch.tensor(tokens[i - 2 : i])), -1)
    q = logp[tokens[i]].exp()
    total += -math.log(0.5 * p + 0.5 * q)
    counts[row, tokens[i]] += 1
print(total / math.log(2))
""",
        _CANDIDATES.replace("BELOW", "counted.sum(-1) + 2"),
        _ADDED.replace("SHAPE", "4096, 1024")
        .replace("KEY", "key % 4096, y")
        .replace("WIDTH", "1")
        .replace("BELOW", "table[key % 4096].sum(-1)"),
    )
    invalid = (
        _CANDIDATES.replace("BELOW", "single[seen] + 2"),
        _ADDED.replace("SHAPE", "4096")
        .replace("KEY", "key % 4096")
        .replace("WIDTH", "2")
        .replace("BELOW", "count"),
        """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(8, 8)
pairs, singles = np.zeros(4096), np.zeros(4096)
total = 0.0
for i in range(2, len(tokens)):
    seen = int(tokens[i - 1]) * 31 ^ int(tokens[i - 2])
    both = (seen ^ int(tokens[i]) * 17) & 4095
    p = pairs[both] / max(singles[seen & 4095], 1)
    logp = F.log_softmax(net(torch.tensor(tokens[i - 2 : i])), -1)
    total += -math.log(0.5 * p + 0.5 * logp[tokens[i]].exp())
    pairs[both] += 1
    singles[seen & 4095] += 1
print(total / math.log(2))
""",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure that lists every such lookup, or a pass."""
        if (unread := self.unread(context)) is not None:
            yield unread
            return
        trace = context.trace
        if not trace.reports:
            yield self.finding(Status.UNKNOWN, "no loss that is reported in bits was found")
            return
        labels: frozenset[Token] = frozenset().union(*(n.labels for n in trace.reported(Nll)))
        quotients: list[Ratio] = trace.reported(Ratio)
        by_answer = [q for q in quotients if q.answer]
        found = {
            _MIXED: (
                by_answer,
                [r for r in trace.reported(Read) if r.mixed & labels and not r.spread],
            ),
            _UNSUMMED: ([q for q in quotients if not q.answer], []),
            _UNPICKED: ([], [r for t in trace.reported(Unpicked) for r in t.reads]),
        }
        for reason, (ratios, lookups) in found.items():
            places = [p for q in ratios for p in (q.numerator.place, q.place)]
            places += [r.place for r in lookups]
            if places:
                shown = tuple(context.evidence(p) for p in dict.fromkeys(places))
                doubts = {r.doubt for r in (*(q.numerator for q in ratios), *lookups)}
                yield self.doubtful(context, reason, shown, doubts)
                return
        yield self.finding(
            Status.PASS, "no lookup that reaches the score has the scored token in its key"
        )
