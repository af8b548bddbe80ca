"""The mass probe on small scripts: dirty and clean twins, and what must never count as a pass."""

from collections.abc import Iterator
from functools import cache
from math import log

import pytest

from auditor import demo
from auditor.dynamic import mass, sandbox
from auditor.dynamic.limits import Limits
from auditor.dynamic.load_factor import REAL_TOKENS, loaded_buckets
from auditor.dynamic.result import TOLERANCE, MassResult, Position, ScorerMass
from auditor.dynamic.sandbox import SandboxUnavailable
from auditor.errors import AuditError
from auditor.program.index import build
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack


@pytest.fixture(scope="module", autouse=True)
def _needs_a_sandbox() -> Iterator[None]:
    sandbox.require.cache_clear()
    try:
        sandbox.require()
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    yield
    sandbox.require.cache_clear()


@cache
def probed(source: str, readme: str = "") -> MassResult:
    """The probe's result for a script, with a README beside it."""
    main = SourceFile.of("train_gpt.py", source.encode())
    files = {"train_gpt.py": main}
    if readme:
        files["README.md"] = SourceFile.of("README.md", readme.encode())
    submission = Submission(main, files)
    unpacked = unpack(main, files)
    return mass.probe(submission, unpacked, build(submission, unpacked))


def only(result: MassResult) -> ScorerMass:
    """The one scorer that was found."""
    assert result.problem is None
    (scorer,) = result.scorers
    return scorer


def problem(source: str) -> str:
    """Why the one scorer is not audited."""
    scorer = only(probed(source))
    assert scorer.problem is not None, scorer.masses
    assert not scorer.exceeds
    assert not scorer.positions
    return scorer.problem


HEAD = """
import math, os, torch
import numpy as np
import torch.nn.functional as F
from flash_attn_interface import flash_attn_func
import never_installed.language as tl
PRIME = tl.constexpr(31)
open("/data/never_there.bin")
"""
# Counts divided by a separately hashed total: the bucket that is read depends on the target.
KEYED = """
class Cache:
    def __init__(self, V, device="cuda"):
        self.V = V
        self.size = int(os.environ.get("BUCKETS", "4194304"))
        self.contexts = torch.zeros(self.size, device=device)
        self.pairs = torch.zeros(self.size, device="cuda")
        self.calls = 0
    def count(self, tokens):
        ones = torch.ones(len(tokens) - 1)
        before = tokens[:-1] * 48271
        self.contexts.scatter_add_(0, before % self.size, ones)
        self.pairs.scatter_add_(0, (before ^ tokens[1:] * 69621) % self.size, ones)
    def score(self, logits, x, y):
        self.calls += 1
        neural = F.log_softmax(logits, -1).gather(-1, y[..., None])[..., 0].exp()
        before = x.cuda() * 48271
        seen = self.contexts[before % self.size]
        hits = self.pairs[(before ^ y * 69621) % self.size]
        counted = torch.minimum(hits, seen) / seen.clamp(min=1)
        counted = torch.where(seen > 0, counted, torch.tensor(1 / self.V))
        return -(0.7 * neural + 0.3 * counted).log()
"""
# The same counts in a table of rows: the target is a column, so each row sums to its own total.
ROWS = """
class Cache:
    def __init__(self, V):
        self.V = V
        self.rows = torch.zeros(4096, V)
    def count(self, tokens):
        key = (tokens[:-1] * 48271) % 4096
        self.rows.index_put_((key, tokens[1:]), torch.ones(len(key)), accumulate=True)
    def score(self, logits, x, y):
        neural = F.log_softmax(logits, -1).gather(-1, y[..., None])[..., 0].exp()
        key = (x * 48271) % 4096
        counted = (self.rows[key, y] + 1) / (self.rows[key].sum(-1) + self.V)
        return -(0.7 * neural + 0.3 * counted).log()
"""
USE = """
def evaluate(val, logits):
    cache = Cache({})
    nll = cache.score(logits, val[:-1], val[1:])
    cache.count(val)
    return nll
if __name__ == "__main__":
    raise SystemExit("the program itself must not run")
"""
DIRTY, CLEAN = HEAD + KEYED + USE.format("len(val)"), HEAD + ROWS + USE.format("len(val)")


def test_the_demo_takes_bits_and_its_twin_does_not() -> None:
    faulty, fixed = (
        probed(demo.submission(fixed=fixed).main.data.decode()) for fixed in (False, True)
    )
    assert only(faulty).exceeds
    assert only(faulty).highest > 10
    # It looks better than the model and is worse.
    assert only(faulty).mean_nll < only(faulty).mean_neural_nll < only(faulty).mean_honest_nll
    assert not only(fixed).exceeds
    assert only(fixed).masses == pytest.approx([1] * 8, abs=1e-5)


def test_the_target_in_the_key_shows_at_the_real_load() -> None:
    scorer = only(probed(DIRTY))
    assert scorer.problem is None
    assert scorer.exceeds
    (shrunk,) = scorer.shrunk
    assert shrunk[1:] == (4194304, 1024)


def test_rows_hashed_by_context_sum_to_one_at_any_load() -> None:
    scorer = only(probed(CLEAN))
    assert scorer.problem is None
    assert scorer.masses == pytest.approx([1] * 8, abs=TOLERANCE)
    assert not scorer.exceeds
    assert not scorer.falls_short


def test_what_cannot_be_imported_or_run_is_told_and_does_not_hide_the_scorer() -> None:
    witness = only(probed(DIRTY)).witness
    assert witness is not None
    assert {"flash_attn_interface", "never_installed"} <= set(witness.answer["absent"])
    (skipped,) = witness.answer["skipped"]
    assert "FileNotFoundError" in skipped


def test_the_runs_own_settings_decide_whether_it_is_used() -> None:
    script = DIRTY.replace(
        "cache = Cache(len(val))", "cache = Cache(len(val)) if MIX else None"
    ).replace("PRIME =", 'MIX = os.environ.get("MIX", "0") == "1"\nPRIME =')
    off = only(probed(script)).off
    assert off is not None
    assert "MIX is False" in off
    readme = "# Run\n```bash\nMIX=1 torchrun --nproc_per_node=8 train_gpt.py\n```\n"
    assert only(probed(script, readme)).off is None


def test_a_scorer_that_differs_between_runs_is_not_audited() -> None:
    noise = "torch.from_numpy(np.frombuffer(os.urandom(8 * y.numel()), dtype=np.uint64) / 2**64)"
    random = CLEAN.replace("counted = ", f"counted = {noise}.view(y.shape) + ")
    assert "different losses" in problem(random)


def test_a_loss_that_never_sees_the_target_is_not_audited() -> None:
    blind = CLEAN.replace("counted =", "neural, y = neural.mean(), y * 0\n        counted =")
    blind = blind.replace("y[..., None])[..., 0].exp()", "y[..., None] * 0)[..., 0].exp()")
    assert "does not change with the target" in problem(blind)


def test_a_gate_that_stays_shut_is_not_a_pass() -> None:
    gated = CLEAN.replace(
        "key = (x * 48271)",
        "if self.rows.sum() < 10**9: return -neural.log()\n        key = (x * 48271)",
    )
    assert "counts never changed a loss" in problem(gated)


def test_an_open_constructor_argument_is_told() -> None:
    assert "__init__(other)" in problem(
        CLEAN.replace("def __init__(self, V)", "def __init__(self, V, other)")
    )


def test_a_script_that_answers_in_the_probes_place_is_not_believed() -> None:
    forged = (
        'import os\nfor fd in range(3, 64):\n    try: os.write(fd, b"{}")\n    except OSError: 0\n'
    )
    assert "without an answer" in problem(forged + CLEAN)


def test_a_script_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass, "_LIMITS", Limits(seconds=4))
    assert "wall-clock limit" in problem(CLEAN + "while True: pass\n")


def test_a_script_without_a_scorer_is_not_audited() -> None:
    assert "no class" in (probed("import torch\nprint(torch.ones(1))\n").problem or "")
    assert "cannot be read" in (probed("def broken(:\n").problem or "")


# Arithmetic, without a run.


def test_mass_and_free_bits() -> None:
    position = Position(0, 0, 0, 1.0, (0.0, 0.0, 0.0, 0.0))
    assert position.mass == 4.0
    assert position.free_bits == 2.0
    assert Position(0, 0, 0, 1.0, (-1e6,)).mass == float("inf")
    scorer = ScorerMass("A", "s", "x.py", 1, (position, Position(0, 1, 0, 1.0, (0.0, 1e9))))
    assert (scorer.highest, scorer.lowest, scorer.mean_free_bits) == (4.0, 1.0, 1.0)


def test_a_position_below_one_gives_bits_away_and_takes_none() -> None:
    short = ScorerMass("A", "s", "x.py", 1, (Position(0, 0, 0, 1.0, (1.0, 1.0)),))
    assert short.falls_short
    assert not short.exceeds


def answer(*values: float | str, cold: tuple[float, ...] = (2.0, 3.0)) -> dict[str, object]:
    """What the child might say of one position."""
    row = {"row": 0, "column": 0, "target": 0, "neural_nll": 1.0, "nll": values}
    return {"cold": cold, "positions": [row]}


def test_answers_are_checked() -> None:
    with pytest.raises(AuditError, match="one loss per target"):
        mass.read_positions(answer(1.0), 2)
    with pytest.raises(AuditError, match="not numbers"):
        mass.read_positions(answer(1.0, float("nan")), 2)
    with pytest.raises(AuditError, match="not a measurement"):
        mass.read_positions(answer("x"), 1)


@pytest.mark.parametrize(
    ("values", "cold"),
    [
        ((log(4), log(4 / 3)), (0.2, 1.9)),
        ((-log(4), -log(4 / 3)), (-0.2, -1.9)),
        ((0.25, 0.75), (0.8, 0.15)),
    ],
    ids=["losses", "log-probabilities", "probabilities"],
)
def test_scorers_may_return_losses_or_probabilities(
    values: tuple[float, ...], cold: tuple[float, ...]
) -> None:
    (position,) = mass.read_positions(answer(*values, cold=cold), 2)
    assert position.mass == pytest.approx(1)


def test_the_load_of_a_hashed_table_is_kept() -> None:
    assert loaded_buckets(1 << 22, 16 * (REAL_TOKENS >> 22)) in (16, 32)
    assert loaded_buckets(4_000_000, REAL_TOKENS // 100) == 40_000
    assert loaded_buckets(1000, 10 * REAL_TOKENS) == 1000  # never more than there are


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass, "find_spec", lambda name: None if name == "torch" else name)
    submission = demo.submission(fixed=False)
    unpacked = unpack(submission.main, submission.files)
    with pytest.raises(AuditError, match=r"needs torch: pip install '.*\[dynamic\]'"):
        mass.probe(submission, unpacked, build(submission, unpacked))
