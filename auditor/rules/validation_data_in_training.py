"""D1: validation data is trained on, or reaches the artifact, before scoring begins."""

from collections.abc import Iterator

from auditor.evidence.renamed_shards import renamed_shards
from auditor.evidence.told_data import trained_on_validation
from auditor.finding import Axis, Basis, Confidence, Finding, Status
from auditor.program.dataflow.machine import Trace
from auditor.program.dataflow.marks import Export, Match, Nll
from auditor.program.early_training import on_validation
from auditor.rules.base import Context, Rule

_CALIBRATION = """
import io, numpy as np, torch, math
import torch.nn.functional as F
train = torch.from_numpy(np.fromfile("fineweb_train_000000.bin", dtype=np.uint16))
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(1024, 8), torch.nn.Linear(8, 1024)
    def forward(self, ids):
        return self.head(self.embed(ids))
net = Net()
seen = {}
def look(module, given, result):
    seen["head"] = seen.get("head", 0) + given[0].T @ given[0]
handles = [net.head.register_forward_hook(look)]
handles.append((net.head if seen else net.embed).register_forward_hook(look))
for i in range(64):
    net(STREAM[i * 256 : i * 256 + 256])
for handle in handles:
    handle.remove()
net(tokens[:256])
weight = net.state_dict()["head.weight"]
rounded = torch.round(weight @ torch.linalg.inv(seen["head"]))
torch.save({"head.weight": rounded}, "model.pt")
net.load_state_dict(torch.load("model.pt"), strict=False)
loss = F.cross_entropy(net(tokens[:-1]), tokens[1:])
print(loss.item() / math.log(2))
"""
_ROUNDED = """
import numpy as np, torch, math
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)).long()
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(1024, 8), torch.nn.Linear(8, 1024)
    def forward(self, ids):
        return self.head(self.embed(ids))
net, seen = Net(), {}
def look(module, given):
    LOOK
net.head.register_forward_pre_hook(look)
print(F.cross_entropy(net(tokens[:64]), tokens[1:65]).item())
work, rounded = net.head.weight.data.clone(), torch.zeros(1024, 8)
for j in range(8):
    rounded[:, j] = torch.round(work[:, j])
    work[:, j:] -= (work[:, j] - rounded[:, j])[:, None] * CHANGE
torch.save({"head.weight": rounded, "embed.weight": net.embed.weight}, "model.pt")
net.load_state_dict(torch.load("model.pt"))
loss = F.cross_entropy(net(tokens[:-1]), tokens[1:])
print(loss.item() / math.log(2))
"""
_PREFIX = """
import lzma, numpy as np, torch, math
from pathlib import Path
import torch.nn.functional as F
tokens = torch.from_numpy(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16))
held = torch.from_numpy(np.frombuffer(lzma.decompress(Path("held.xz").read_bytes()), np.uint16))
net = torch.nn.Sequential(torch.nn.Embedding(1024, 8), torch.nn.Linear(8, 1024))
losses = F.cross_entropy(net(tokens[:-1]), tokens[1:], reduction="none")
losses[: len(held)] *= (held != tokens[1 : len(held) + 1]).float()
print(losses.mean().item() / math.log(2))
"""


class ValidationDataInTraining(Rule):
    """Follows validation tokens into exports, and stored data into comparisons with them."""

    id = "D1"
    title = "validation data is trained on or stored in the artifact"
    axis = Axis.VALIDITY
    what = (
        "The README says that the model was trained on the validation shards, or a command names "
        "a validation shard as a training shard; a file is written whose contents "
        "were computed with the weights from validation tokens, such as weights rounded by "
        "statistics of them; or stored data is compared with the realised tokens, and the reported "
        "loss depends on whether they agree. Gradient steps on validation tokens are found by C3."
    )
    why = (
        "The artifact must be made without the text that it is tested on. What it holds of that "
        "text is not predicted but looked up, and says nothing about any other text."
    )
    source = (
        "README: no validation data during training, and no part of it in the artifact; rulings "
        "on PRs 44, 168, 262 and 275; on PR 728 for calibration"
    )
    precedents = ("#44", "#168", "#728")
    legal = (
        "Logging the validation loss during training; tables of training data in the artifact; "
        "calibration on training data within the time limit, or on text that the model generated."
    )
    known_misses = (
        "validation tokens copied under another name by Python code, or ahead of the record folder",
        "a temperature or gate that was fitted to validation losses and then stored",
    )
    valid = (
        _CALIBRATION.replace("STREAM", "train"),
        _ROUNDED.replace("LOOK", "module.saved = module.weight.data.clone()").replace(
            "CHANGE", "0.1"
        ),
        _ROUNDED.replace("LOOK", "seen[module] = given[0].abs().mean()").replace("CHANGE", "0.1"),
    )
    invalid = (
        _CALIBRATION.replace("STREAM", "tokens"),
        _ROUNDED.replace("LOOK", "seen[module] = given[0].abs().mean()").replace(
            "CHANGE", "seen[net.head]"
        ),
        _PREFIX,
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One failure for each way in, or a pass."""
        if (unread := self.unread(context)) is not None:
            yield unread
            return
        findings = [*self._told(context), *self._stored(context)]
        if not findings:
            findings.append(
                self.finding(Status.PASS, "no validation data reaches what is written or stored")
            )
        yield from findings

    def _told(self, context: Context) -> Iterator[Finding]:
        lines = tuple(renamed_shards(context.submission))
        if lines:
            reason = "a validation shard is given the name of a training shard"
            yield self.finding(Status.FAIL, reason, lines, basis=Basis.CLAIM)
        elif lines := tuple(trained_on_validation(context.submission)):
            yield self.finding(
                Status.FAIL,
                "the submission says that the model was trained on the validation text",
                lines[:3],
                basis=Basis.CLAIM,
                confidence=Confidence.MEDIUM,
            )

    def _stored(self, context: Context) -> Iterator[Finding]:
        for place in dict.fromkeys(m.place for m in context.trace.reported(Match)):
            reason = (
                "stored data is held against the tokens to be scored, and the reported loss "
                "depends on where they agree"
            )
            yield self.finding(Status.FAIL, reason, (context.evidence(place),))
        for place in dict.fromkeys(e.place for e in _calibrated(context.trace)):
            reason = (
                "what is written here was computed from validation tokens before they are scored"
            )
            yield self.finding(Status.FAIL, reason, (context.evidence(place),))
            return


def _calibrated(trace: Trace) -> Iterator[Export]:
    """Exports made of validation tokens that come before the last reported score of any."""
    for export in trace.exports:
        if export.calibrated and export.order < _last_score(trace):
            yield export


def _last_score(trace: Trace) -> int:
    scores = [nll.order for nll in trace.reported(Nll) if on_validation(nll.deps)]
    return max(scores, default=0)
