"""D2: training data is read after the training window has closed."""

import re
from collections.abc import Iterator

from auditor.evidence.figures import Calibration, LogClaims
from auditor.finding import Axis, Basis, Confidence, Finding, Status
from auditor.program.dataflow.machine import Trace
from auditor.program.dataflow.marks import Deadline, Place, Source
from auditor.rules.base import Context, Rule
from auditor.rules.track import outside_the_record_track

WINDOW = 600.0  # seconds
OVERHANG = 7.0  # seconds of calibration beyond it that merged records show
CLOSING = 0.1  # seconds before its end at which the window counts as used up
SET_ASIDE = 60.0  # seconds before its end within which a deadline is one that sets time aside
OTHER_BUDGET = 700.0  # a longer run was not made for this window
# Text that a model samples itself is no training data.
_SAMPLES = re.compile(r"\bmultinomial\s?\(")


_FULL = (WINDOW - CLOSING, WINDOW + CLOSING)
_COUNTS = """
import time, numpy as np, torch, math
import torch.nn.functional as F
train = torch.from_numpy(np.fromfile("fineweb_train_000000.bin", dtype=np.uint16))
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(1024, 8), torch.nn.Linear(8, 1024)
    def forward(self, ids):
        return self.head(self.embed(ids))
net, began = Net(), time.perf_counter()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
limit = 1000.0 * 600.0 - RESERVED
step = 0
while 1000.0 * (time.perf_counter() - began) < limit:
    part = train[step * 256 : step * 256 + 257]
    opt.zero_grad()
    F.cross_entropy(net(part[:-1]), part[1:]).backward()
    opt.step()
    step += 1
peaks = torch.zeros(1024)
for i in range(64):
    peaks = torch.maximum(peaks, net(train[i * 256 : i * 256 + 256]).abs().amax(0))
torch.save({"peaks": peaks}, "model.pt")
loss = F.cross_entropy(net(tokens[:-1]), tokens[1:])
print(loss.item() / math.log(2))
"""


class LateTrainingData(Rule):
    """Adds up, from the logs, the training clock and the calibration that follows."""

    id = "D2"
    title = "training data is read after the 600 seconds of training"
    axis = Axis.VALIDITY
    what = (
        "A log in which the training clock has used the whole window, nothing of it was set aside, "
        "and statistics for quantisation are then collected from training data; or in which the "
        "clock and that calibration add up to more than 607 seconds. Without any log, the code: "
        "training data flows through the network after the last training step, and the only "
        "deadline near 600 seconds that the clock is held against is the whole window."
    )
    why = (
        "After the window only the artifact may speak of the training data. Calibration is a use "
        "of that data like any other and belongs inside the ten minutes."
    )
    source = (
        "README: no training data at evaluation unless its bits are paid for; rulings on PRs 535, "
        "569 and 639 in issue 677. Overhangs of 4.3 and 6.5 seconds were merged: PRs 1855 and 2135"
    )
    precedents = ("#569", "#593", "#639")
    legal = (
        "Seconds set aside within the window; calibration on text that the model generates, or on "
        "random tokens."
    )
    known_misses = (
        "calibration that the log does not mention; without a log, a deadline that is no constant",
        "training shards that are read while scoring, but not by the network",
    )

    valid = (_COUNTS.replace("RESERVED", "12000.0"),)
    invalid = (_COUNTS.replace("RESERVED", "0.0"),)

    def check(self, context: Context) -> Iterator[Finding]:
        """The first failure over the logs, else the largest overhang, else a pass."""
        if outside_the_record_track(context):
            yield self.finding(Status.NOT_APPLICABLE, "not in the record track", basis=Basis.LOG)
            return
        samples = bool(_SAMPLES.search(context.program.source))
        found = [f for log in context.claims.logs if (f := self._log(log, samples)) is not None]
        for status in (Status.FAIL, Status.NOTE, Status.PASS):
            if chosen := next((f for f in found if f.status is status), None):
                yield chosen
                return
        yield self._in_code(context)

    def _in_code(self, context: Context) -> Finding:
        """What the code says where no log shows how training ended."""
        trace = context.trace
        late = _late_pass(trace)
        deadline = _whole_window(trace) if late is not None else None
        logged = any(log.train_stop is not None for log in context.claims.logs)
        if late is None or deadline is None or logged:
            return self.finding(
                Status.NOT_APPLICABLE, "no log shows calibration after training", basis=Basis.LOG
            )
        return self.finding(
            Status.FAIL,
            "training data flows through the network after training has used the whole window",
            (context.evidence(late), context.evidence(deadline.place)),
            confidence=Confidence.MEDIUM,
        )

    def _log(self, log: LogClaims, samples: bool) -> Finding | None:
        """One log, if it shows calibration after the stop of a run made for this window."""
        later = [c for c in log.run.calibrations if c.after]
        if log.train_stop is None or not later:
            return None
        stop = log.train_stop.value / 1000
        if stop > OTHER_BUDGET:
            return None
        evidence = (log.train_stop.evidence, *(c.evidence for c in later[:3]))
        if any(c.data == "generated" for c in later):
            return self.finding(
                Status.PASS, "calibration takes no training data", evidence, basis=Basis.LOG
            )
        took = max((c.seconds for c in later if c.seconds is not None), default=None)
        status, reason, confidence = _judge(stop, took, log, later, samples)
        return self.finding(status, reason, evidence, basis=Basis.LOG, confidence=confidence)


def _late_pass(trace: Trace) -> Place | None:
    """Where training tokens flow through the network after the last step that they train it by."""
    steps = [t.order for t in trace.trains if any(m == Source("train") for m in t.deps)]
    last = trace.last_pass
    return last.place if last is not None and steps and last.order > max(steps) else None


def _whole_window(trace: Trace) -> Deadline | None:
    """The deadline that is the whole window, if nothing is held against one shortly before it."""
    near = [d for d in trace.deadlines if WINDOW - SET_ASIDE <= _seconds(d) <= _FULL[1]]
    return near[0] if near and all(_seconds(d) >= _FULL[0] for d in near) else None


def _seconds(deadline: Deadline) -> float:
    """Its limit in seconds: one in the thousands is in milliseconds."""
    return deadline.limit / 1000 if deadline.limit > 10 * WINDOW else deadline.limit


def _judge(
    stop: float, took: float | None, log: LogClaims, later: list[Calibration], samples: bool
) -> tuple[Status, str, Confidence]:
    end = stop + (took or 0.0)
    known = any(c.data == "training" for c in later)
    certain = Confidence.HIGH if known else Confidence.MEDIUM
    breach = Status.NOTE if samples and not known else Status.FAIL
    spent = f"training stops at {stop:.1f} s"
    if took is not None and end > WINDOW + OVERHANG:
        return breach, f"{spent} and calibration takes {took:.1f} s more: {end:.1f} s", certain
    if log.run.reserve is None and stop >= WINDOW - CLOSING:
        more = f" of {took:.1f} s" if took is not None else ""
        return breach, f"{spent} with nothing set aside; calibration{more} follows", certain
    if took is not None and end > WINDOW:
        return Status.NOTE, f"{spent}, calibration ends {end - WINDOW:.1f} s past it", certain
    if took is None:
        return Status.NOTE, f"{spent}; how long the calibration took is not logged", Confidence.LOW
    return Status.PASS, f"training and calibration end at {end:.1f} s", certain
