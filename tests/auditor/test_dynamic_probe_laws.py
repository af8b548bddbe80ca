"""Laws of the parts that probes are made of: records, bindings, cycles, ratios, findings."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.dynamic.capture.record import Recorder, Site, unpack
from auditor.dynamic.data import make_data
from auditor.dynamic.probes import kraft, once, ranks
from auditor.dynamic.probes.binding import Target, bind, submitted
from auditor.dynamic.probes.flip import cycle
from auditor.dynamic.probes.result import Outcome, ProbeResult, ScriptResult
from auditor.dynamic.probes.stream import Stream
from auditor.dynamic.probes.trace import Trace, Written
from auditor.evidence.figures import Metric
from auditor.finding import Basis, Confidence, Evidence, Finding, Status
from auditor.rules.measured import _refuted

SITE = Site("train_gpt.py", 7, "sum")
RNG = np.random.default_rng(3)


def test_a_record_is_unpacked_as_it_was() -> None:
    recorder = Recorder()
    for size in (3, 1, 4):
        recorder.reduced(SITE, RNG.normal(size=size))
    entry, values = recorder.packed()
    events = unpack(entry, values)[SITE]
    assert [e.ordinal for e in events] == [1, 2, 3]
    kept = recorder.sites[SITE].latest
    assert all(np.array_equal(a.values, b.values) for a, b in zip(events, kept, strict=True))


def test_only_the_latest_values_of_a_place_are_kept() -> None:
    recorder = Recorder(keep=10)
    for number in range(100):
        recorder.reduced(SITE, np.full(4, float(number)))
    kept = recorder.sites[SITE]
    assert 10 <= kept.held < 14
    assert kept.latest[-1].ordinal == 100


def test_damaged_records_are_refused() -> None:
    recorder = Recorder()
    recorder.reduced(SITE, np.ones(4))
    entry, values = recorder.packed()
    with pytest.raises(ValueError, match="places"):
        unpack(entry, zlib.compress(np.ones(3).tobytes()))
    with pytest.raises(zlib.error):
        unpack(entry, b"no compressed data")
    with pytest.raises(KeyError):
        unpack({}, values)


def trace(
    parts: list[np.ndarray], printed: str, site: Site = SITE, trained: Sequence[np.ndarray] = ()
) -> Trace:
    """A run that reduced `trained` at one place, read its artifact, reduced `parts` there and then
    printed a line."""
    recorder = Recorder()
    for part in trained:
        recorder.reduced(site, part)
    recorder.file("read", "model.ptz")
    for part in parts:
        recorder.reduced(site, part)
    told = ((recorder.now(), printed),)
    artifacts = (Written("model.ptz", 9, "digest", "digest"),)
    return Trace(unpack(*recorder.packed()), told, (), tuple(recorder.files), artifacts)


def losses(count: int) -> list[np.ndarray]:
    return [RNG.exponential(2.0, size=8) + 0.1 for _ in range(count // 8)]


def bound_size(run: Trace, tokens: int, size: int = 0) -> int | None:
    metric = submitted(run.log.metrics, None)
    assert metric is not None
    bound = bind(run, metric, Target(tokens, size))
    return None if bound is None else bound.losses.size


def test_the_mean_of_the_latest_values_is_bound_and_earlier_evaluations_are_not() -> None:
    earlier, scored = losses(64), losses(64)
    mean = np.concatenate(scored).mean()
    assert bound_size(trace(earlier + scored, f"final val_loss:{mean:.6f} val_bpb:1.0"), 64) == 64
    wrong = f"final val_loss:{mean + 1e-4:.6f} val_bpb:1.0"
    assert bound_size(trace(earlier + scored, wrong), 64) is None


def test_masked_values_and_logarithms_are_bound() -> None:
    scored = np.concatenate(losses(64))
    mask = np.zeros(128)
    mask[::2] = scored
    printed = f"final val_loss:{scored.mean():.6f} val_bpb:1.0"
    assert bound_size(trace([mask], printed), 64) == 64
    logs = trace([-scored], printed, Site("train_gpt.py", 9, "log"))
    assert bound_size(logs, 64) == 64


def test_bits_per_byte_alone_are_bound_by_the_bytes_of_the_text() -> None:
    scored = losses(64)
    bpb = np.concatenate(scored).sum() / math.log(2) / 200
    assert bound_size(trace(scored, f"final val_bpb:{bpb:.6f}"), 64, 200) == 64
    assert bound_size(trace(scored, f"final val_bpb:{bpb:.6f}"), 64, 190) is None


def of_ranks(parts: list[list[np.ndarray]], printed: float) -> Outcome:
    """What the probe says of ranks that score `parts`, after one alone scored all of 64."""
    scored = losses(64)
    mean = np.concatenate(scored).mean()
    alone = trace(scored, f"final val_loss:{mean:.6f} val_bpb:1.0", trained=losses(40))
    metric = submitted(alone.log.metrics, None)
    assert metric is not None
    bound = bind(alone, metric, Target(64, 0))
    assert bound is not None
    runs = [trace(part, f"final val_loss:{printed:.6f} val_bpb:1.0") for part in parts]
    return ranks.judge(bound, alone, {len(parts): runs}, "").outcome


def test_ranks_share_the_targets_and_print_the_mean_over_all_of_them() -> None:
    first, second = losses(32), losses(32)
    mean = float(np.concatenate(first + second).mean())
    own = float(np.concatenate(first).mean())
    assert of_ranks([first, second], mean) is Outcome.CLEAN
    assert of_ranks([first + second, first + second], mean) is Outcome.CLEAN  # each scores all
    assert of_ranks([first, second], own) is Outcome.FOUND  # nothing was summed over the ranks
    assert of_ranks([first, second[:-1]], mean) is Outcome.FOUND  # some targets are left out
    assert of_ranks([[], []], mean) is Outcome.NOT_AUDITED  # they take another way


@given(st.permutations(range(6)), st.lists(st.sets(st.integers(0, 5)), min_size=6, max_size=6))
def test_no_order_of_coding_is_called_a_cycle(order: list[int], more: list[set[int]]) -> None:
    """Whatever later losses the flips move: each moves its own, and none moves one before it."""
    place = {token: at for at, token in enumerate(order)}
    moved = [
        np.array([token, *(other for other in extra if place[other] > place[token])])
        for token, extra in enumerate(more)
    ]
    assert not cycle(moved)


def test_losses_that_move_each_other_are_a_cycle() -> None:
    everything = np.arange(9)
    assert cycle([everything, everything])
    assert cycle([np.array([1, 2]), np.array([2, 3]), np.array([1, 3])])
    assert not cycle([np.array([1, 2]), np.array([2, 3])])


def test_free_bits_a_byte_lie_in_their_interval() -> None:
    counts = np.array([1, 2, 3, 1])
    exact, interval = kraft.ratio(0.5 * counts, counts)
    assert exact == pytest.approx(0.5)
    assert interval == pytest.approx((0.5, 0.5))
    loose, (low, high) = kraft.ratio(np.array([0.1, 0.9, 0.4, 0.7]), counts)
    assert low < loose < high


def test_bytes_of_the_stream_are_those_of_its_text() -> None:
    data = make_data(64, validation_tokens=129)
    stream = Stream.of(data)
    documents = "".join(
        "\n" if token == 1 else data.pieces[token].text for token in data.validation
    ).split("\n")[1:]
    plain = [text.replace("\u2581", " ").removeprefix(" ") for text in documents]
    assert stream.byte_counts().sum() == sum(len(text.encode()) for text in plain)


@pytest.mark.parametrize(("factor", "outcome"), [(1.0, Outcome.CLEAN), (1.17, Outcome.FOUND)])
def test_bytes_implied_by_the_printed_scores_decide(factor: float, outcome: Outcome) -> None:
    stream = Stream.of(make_data(64, validation_tokens=129))
    size = stream.byte_counts().sum() * factor
    loss = 3.25
    bpb = loss / math.log(2) * stream.targets / size
    line = f"final val_loss:{loss:.8f} val_bpb:{bpb:.8f}"
    metric = Metric("final", loss, bpb, None, Evidence("printed", 1, line))
    result = once.judge(metric, None, stream)
    assert result.outcome is outcome
    assert result.outside


def finding(rule: str = "C3", line: int = 12) -> Finding:
    evidence = (Evidence("records/x/train_gpt.py", line, "optimizer.step()"),)
    return Finding(rule, Status.FAIL, Basis.STATIC, Confidence.HIGH, "trains early", evidence)


def clean(*names: str) -> ScriptResult:
    probes = tuple(ProbeResult(name, Outcome.CLEAN, "nothing moves") for name in names)
    return ScriptResult(probes, lines=frozenset({("train_gpt.py", 12)}))


def test_a_failure_is_lowered_only_where_its_lines_ran_and_all_its_probes_are_clean() -> None:
    lowered = _refuted(finding(), clean("flip", "order"))
    assert lowered.status is Status.NOTE
    assert "ran in the sandbox" in lowered.reason
    assert _refuted(finding(line=13), clean("flip", "order")).status is Status.FAIL
    assert _refuted(finding(), clean("flip")).status is Status.FAIL
    assert _refuted(finding("C2b"), clean(*("flip", "order", "mass"))).status is Status.FAIL
    logged = replace(finding(), basis=Basis.LOG)
    assert _refuted(logged, clean("flip", "order")).status is Status.FAIL
