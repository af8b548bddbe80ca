"""Scorers are found by what their parameters do: the scripts here give names that mislead."""

from collections.abc import Mapping

from auditor.program.index import Program
from auditor.program.scorer_binding import Role, ScorerBinding
from auditor.program.scorers import find_scorers
from auditor.program.source import parse

MIXER = """
import os, math, torch
import torch.nn.functional as F

class Args:
    rate = 0.2
    start_after = 300

class Layer:
    def __init__(self, speed, thing, size, *, where="cuda", hidden: int = 7):
        self.n, self.speed, self.hidden = size, speed, hidden
        self.seen = 0
        self.a = torch.zeros(size, device=where)
        self.b = torch.zeros(4096, size, device=where)
        self.w = torch.zeros(2)
    def forward(self, temperature, logits, x, extra):
        out = F.log_softmax(x.float(), -1)
        first = -out.gather(-1, logits[..., None])[..., 0]
        if self.seen < 10_000:
            return first, None
        row = (temperature * 31) % 4096
        second = -((self.b[row, logits] + 1) / (self.b.sum(-1)[row] + self.n)).log()
        both = torch.stack([first, second], -1)
        return -torch.logsumexp(self.w.log_softmax(0) - both, -1), both
    def score(self, tokens):
        self.seen += len(tokens)
        self.a.scatter_add_(0, tokens, torch.ones(len(tokens)))
        keys = (tokens[:-1] * 31) % 4096
        self.b.index_put_((keys, tokens[1:]), torch.ones(len(tokens) - 1), accumulate=True)
    def vocab_size(self, model, until):
        mask = torch.arange(model.shape[1]) < torch.tensor(until)[:, None]
        self.w -= self.speed * model[mask].mean(0)

def evaluate(args, model, val, V, dev):
    on = os.environ.get("MIX", "1") == "1"
    layer = Layer(args.rate, args.start_after, V, where=dev) if on else None
    x, y, lens = val[:-1], val[1:], [5]
    if layer is not None:
        nll, each = layer.forward(x, y, model(x), None)
        layer.vocab_size(each, lens)
        layer.score(val)
"""


def bindings(source: str) -> tuple[ScorerBinding, ...]:
    """The scorers of a script."""
    return find_scorers(Program("train_gpt.py", source, parse(source).tree))


def roles(scorer: ScorerBinding, method: str) -> Mapping[str, Role]:
    """The role of each parameter of `construct`, `score`, `count` or `learn`."""
    return {p.name: p.role for p in getattr(scorer, method).parameters}


def test_roles_follow_from_the_data_flow() -> None:
    (scorer,) = bindings(MIXER)
    assert (scorer.name, scorer.score.name, scorer.called) == ("Layer", "forward", True)
    assert roles(scorer, "score") == {
        "temperature": Role.INPUTS,
        "logits": Role.TARGETS,
        "x": Role.LOGITS,
        "extra": Role.LENGTHS,  # never used: anything will do
    }
    assert roles(scorer, "count") == {"tokens": Role.TOKENS}
    assert roles(scorer, "learn") == {"model": Role.RESULT, "until": Role.LENGTHS}
    assert scorer.learn is not None
    assert scorer.learn.parameters[0].item == 1
    assert scorer.unknown == ()


def test_the_constructor_gets_what_the_script_gives_it() -> None:
    (scorer,) = bindings(MIXER)
    assert roles(scorer, "construct") == {
        "speed": Role.SETTING,
        "thing": Role.SETTING,
        "size": Role.VOCABULARY,
        "where": Role.DEVICE,
        "hidden": Role.DEFAULT,
    }
    texts = {p.name: p.text for p in scorer.construct.parameters}
    assert texts["speed"] == "args.rate"


def test_gates_buckets_and_conditions_are_read() -> None:
    (scorer,) = bindings(MIXER)
    assert 10_000 in scorer.gates
    assert {b.value for b in scorer.buckets} == {4096}
    assert len(scorer.buckets) == 3
    (guard,) = scorer.guards
    assert guard.holds
    assert guard.text == "os.environ.get('MIX', '1') == '1'"


def test_a_class_that_nothing_calls_is_marked() -> None:
    (scorer,) = bindings(MIXER[: MIXER.index("def evaluate")])
    assert not scorer.called


def test_losses_and_layers_are_no_scorers() -> None:
    assert (
        bindings(
            """
import torch, torch.nn.functional as F
class Head(torch.nn.Module):
    def __init__(self, dim, vocab):
        self.w = torch.nn.Linear(dim, vocab)
    def forward(self, x, y):
        return F.cross_entropy(self.w(x).flatten(0, 1), y.flatten())
class Smooth:
    def __init__(self, eps): self.eps = eps
    def __call__(self, logits, y):
        lp = F.log_softmax(logits, -1)
        return -(1 - self.eps) * lp.gather(-1, y[..., None]) - self.eps * lp.mean(-1)
def nll(logits, y):
    return F.cross_entropy(logits, y, reduction="none")
"""
        )
        == ()
    )


def test_counts_may_be_python_dictionaries_and_helpers_are_followed() -> None:
    (scorer,) = bindings(
        """
import torch, torch.nn.functional as F
def place(tokens, size):
    return tuple(tokens[-size:])
class Cache:
    def __init__(self, width: int, size: int = 2):
        self.width, self.size, self.table = width, size, {}
    def remember(self, stream, begin, finish):
        for i in range(begin, finish):
            row = self.table.setdefault(place(stream[:i], self.size), {})
            row[stream[i]] = row.get(stream[i], 0) + 1
    def losses(self, z, before, y, mask):
        base = self.neural(z, y)
        return torch.where(mask.bool(), base + len(self.table.get(place(before, 2), {})), base)
    def neural(self, z, y):
        return -torch.log_softmax(z, -1).gather(-1, y.unsqueeze(-1)).squeeze(-1) / self.width
cache = Cache(64)
cache.losses(1, 2, 3, 4)
cache.remember([1], 0, 1)
"""
    )
    assert roles(scorer, "score") == {
        "z": Role.LOGITS,
        "before": Role.INPUTS,
        "y": Role.TARGETS,
        "mask": Role.MASK,
    }
    assert roles(scorer, "count") == {
        "stream": Role.TOKENS,
        "begin": Role.START,
        "finish": Role.END,
    }


def test_a_script_without_a_tree_has_none() -> None:
    assert find_scorers(Program("x.py", "def", None, "broken")) == ()
