"""The virtual GPU: one script of our own uses every patched concern, in a single sandboxed run."""

import json
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from auditor.dynamic import sandbox
from auditor.dynamic.data import make_data
from auditor.dynamic.device.sources import digest
from auditor.dynamic.plan import RunPlan
from auditor.dynamic.rehearsal import LIMITS, Rehearsal, read_frames, rehearse
from auditor.dynamic.shrink import Sizes

SCRIPT = r"""
import contextlib, io, json, math, os, subprocess, sys, threading, time
import torch, torch.distributed as dist, torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from flash_attn_interface import flash_attn_func, flash_attn_varlen_func
import flash_attn

seen = {}
assert torch.cuda.is_available()
device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
torch.cuda.set_device(device)
dist.init_process_group(backend="nccl", device_id=device)
torch.manual_seed(1)

x = torch.randn(2, 8, 4, 16, device=device, pin_memory=False)
seen["is cuda"] = x.is_cuda and str(x.device) == "cuda:0" and x.get_device() == 0
seen["new tensors"] = x.new_zeros(2, device="cuda").is_cuda and torch.zeros(1, device=0).is_cuda
with torch.device("cuda"):
    seen["default device"] = torch.empty(1).is_cuda
host = x.cpu()
x.add_(1)
seen["a copy on the host stays"] = not torch.equal(host, x)
seen["to the host"] = x.to("cpu", non_blocking=True).data_ptr() != x.data_ptr()

class Square(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda")
    def forward(ctx, value):
        assert value.is_cuda
        ctx.save_for_backward(value)
        return value * value
    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")
    def backward(ctx, grad):
        assert grad.is_cuda
        return 2 * grad * ctx.saved_tensors[0]
value = torch.ones(3, device="cuda", requires_grad=True)
Square.apply(value).sum().backward()
seen["autograd function"] = value.grad.tolist() == [2.0] * 3

@torch.library.custom_op("ours::double", mutates_args=(), device_types="cuda")
def double(value: torch.Tensor) -> torch.Tensor:
    assert value.is_cuda
    return 2 * value
seen["custom operator"] = double(torch.ones(2, device="cuda")).tolist() == [2.0, 2.0]

threads = []
threading.Thread(target=lambda: threads.append(torch.ones(1, device="cuda").is_cuda)).start()
while not threads: time.sleep(1)
seen["threads"] = threads[0]

with torch.autocast(device_type="cuda", dtype=torch.bfloat16):
    cast = nn.Linear(4, 4).cuda()(torch.ones(1, 4, device="cuda"))
    seen["autocast"] = cast.dtype == torch.bfloat16
    seen["autocast is on"] = torch.is_autocast_enabled()

q, k, v = x, x[:, :, :2] * 0.5, x[:, :, :2] + 1
def slow(q, k, v, left):
    k, v = (t.repeat_interleave(2, 2) for t in (k, v))
    s = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    i = torch.arange(q.shape[1])
    s = s.masked_fill((i[None] > i[:, None]) | (i[None] < i[:, None] - left), -math.inf)
    return torch.einsum("bhqk,bkhd->bqhd", s.softmax(-1), v)
near = lambda a, b: bool(torch.allclose(a, b, atol=1e-5))
seen["flash dense"] = near(flash_attn_func(q, k, v, causal=True), slow(q, k, v, 99))
windowed = flash_attn_func(q, k, v, causal=True, window_size=(3, 0))
seen["flash window"] = near(windowed, slow(q, k, v, 3))
seen["flash 2"] = near(flash_attn.flash_attn_func(q, k, v, 0.0, None, True), slow(q, k, v, 99))
cu = torch.tensor([0, 3, 8], dtype=torch.int32, device="cuda")
out = flash_attn_varlen_func(q[0], k[0], v[0], cu, cu, 5, 5, causal=True)
parts = [slow(q[:1, a:b], k[:1, a:b], v[:1, a:b], 99)[0] for a, b in ((0, 3), (3, 8))]
seen["flash variable length"] = near(out, torch.cat(parts))
with torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.FLASH_ATTENTION]):
    F.scaled_dot_product_attention(q, q, q)
torch.backends.cuda.enable_math_sdp(False)

model = torch.compile(DDP(nn.Linear(4, 4).cuda(), device_ids=[0]), dynamic=False, fullgraph=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
for _ in range(2):
    optimizer.zero_grad(set_to_none=True)
    loss = model(torch.ones(2, 4, device="cuda")).square().mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
seen["training"] = loss.item() > model(torch.ones(2, 4, device="cuda")).square().mean().item()
total = torch.tensor([2.0], device="cuda")
work = dist.all_reduce(total, async_op=True)
work.wait()
seen["all reduce"] = total.item() == 2.0 * dist.get_world_size()

@torch.inference_mode()
def table(): return torch.ones(2, device="cuda")
kept = table()
weight = torch.ones(2, device="cuda", requires_grad=True)
(kept * weight).sum().backward()
seen["inference mode"] = weight.grad is not None

start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
start.record(); end.record(); torch.cuda.synchronize()
seen["events"] = start.elapsed_time(end) > 0
before = time.perf_counter(); time.sleep(500)
seen["clock"] = abs(time.perf_counter() - before - 1e-3) < 1e-6
with torch.cuda.stream(torch.cuda.Stream()): pass
buffer = io.BytesIO(); torch.save({"w": total}, buffer); buffer.seek(0)
seen["load"] = torch.load(buffer, map_location="cuda:0")["w"].is_cuda

smi = subprocess.run(["nvidia-smi"], stdout=subprocess.PIPE, text=True, check=False)
seen["nvidia-smi"] = "H100" in smi.stdout
open("f", "wb").write(b"text" * 99)
subprocess.run(["lrzip", "-q", "f"], check=True); os.rename("f", "g")
subprocess.run(["lrzip", "-d", "-q", "f.lrz"], check=True)
seen["lrzip"] = open("f", "rb").read() == open("g", "rb").read()

import lzma, zlib
text = b"text" * 999
seen["compressors"] = len(zlib.compress(text, 9)) == len(zlib.compress(text, 1))
raw = [{"id": lzma.FILTER_LZMA2, "preset": 9}]
for packed in (lzma.compress(text, preset=9), lzma.compress(text, filters=raw)):
    seen["compressors"] &= lzma.decompress(packed) == text
from fla.layers import NobodyHasThis
seen["absent part"] = NobodyHasThis is not None

import torch._dynamo
torch._dynamo.config.cache_size_limit = 64
import torch._inductor.config as inductor
inductor.coordinate_descent_tuning = True
from liger_kernel.transformers import LigerCrossEntropyLoss
logits, target = torch.randn(5, 7), torch.arange(5)
seen["liger"] = near(LigerCrossEntropyLoss(softcap=3.0)(logits, target),
    F.cross_entropy(3 * torch.tanh(logits / 3), target))
from fla.layers import GatedDeltaNet, GatedDeltaProduct
from mamba_ssm import Mamba
sizes = {"hidden_size": 16, "head_dim": 8, "num_heads": 2}
for layer in (GatedDeltaNet(**sizes), GatedDeltaProduct(**sizes), Mamba(16)):
    inside = torch.randn(1, 6, 16, requires_grad=True)
    result = layer(inside)
    result = result[0] if isinstance(result, tuple) else result
    grad, = torch.autograd.grad(result[:, 2].sum(), inside)
    seen[type(layer).__name__] = bool(grad[:, :3].abs().sum() > 0) and not grad[:, 3:].any()

print("seen", json.dumps(seen))
print(f"step:2/2 val_loss:3.0 val_bpb:1.5")
print(f"final_exact val_loss:{3.0:.4f} val_bpb:{1.25:.4f}")
exec("answer = 43")
print("answer", answer)
"""

TRITON = r"""
import torch, triton, triton.language as tl
@triton.jit
def half(x): return x * 0.5
@triton.jit
def row_sum(x_ptr, out_ptr, columns, stride, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, columns, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        mask = offsets < columns
        total += tl.sum(half(tl.load(x_ptr + row * stride + offsets, mask=mask, other=0.0)), axis=0)
    tl.store(out_ptr + row, total)
@triton.jit
def staircase(out_ptr):
    row = tl.program_id(0)
    if row % 2 == 0:
        tl.store(out_ptr + row, row * 1.0)
    else:
        tl.store(out_ptr + row, -1.0)
from triton.tools.tensor_descriptor import TensorDescriptor
@triton.jit
def product(a_desc, b_desc, c_desc, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    start = tl.program_id(axis=0)
    columns = tl.cdiv(N, BN)
    for tile in tl.range(start, tl.cdiv(M, BM) * columns, tl.num_programs(0), flatten=True):
        row, column = tile // columns * BM, tile % columns * BN
        total = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(tl.cdiv(K, BK)):
            total = tl.dot(a_desc.load([row, k * BK]), b_desc.load([column, k * BK]).T, total)
        left, right = tl.split(tl.permute(tl.reshape(total, (BM, 2, BN // 2)), (0, 2, 1)))
        c_desc.store([row, column], left)
        c_desc.store([row, column + BN // 2], right)
@triton.jit
def largest(x_ptr, out_ptr, N: tl.constexpr):
    tl.store(out_ptr, tl.max(tl.sort(tl.load(x_ptr + tl.arange(0, N)))))
x = torch.randn(5, 40, device="cuda")
out = torch.empty(5, device="cuda")
row_sum[(5,)](x, out, 40, x.stride(0), BLOCK=16)
print("at once", torch.allclose(out, x.sum(1) / 2, atol=1e-5))
staircase[(5,)](out)
print("one by one", out.tolist() == [0.0, -1.0, 2.0, -1.0, 4.0])
a, b, c = torch.randn(20, 40), torch.randn(24, 40), torch.zeros(20, 24)
sizes = ((a, [16, 16]), (b, [16, 16]), (c, [16, 8]))
blocks = [TensorDescriptor.from_tensor(tensor, size) for tensor, size in sizes]
product[(3,)](*blocks, 20, 24, 40, BM=16, BN=16, BK=16)
print("descriptors", torch.allclose(c, a @ b.T, atol=1e-5))
out = torch.empty(1)
largest[(1,)](x, out, N=16)
print("interpreted", out.item() == x.view(-1)[:16].max().item())
print("final_exact val_loss:3.0000 val_bpb:1.2500")
"""


@pytest.fixture
def _sandbox() -> None:
    """Skips where there is no sandbox to run in."""
    try:
        sandbox.require()
    except sandbox.SandboxUnavailable as reason:
        pytest.skip(str(reason))


def plan(script: str, **changes: Any) -> RunPlan:
    """A plan for a script that reads no data."""
    values: dict[str, Any] = {
        "script": "train_gpt.py",
        "folder": "run",
        "files": {"run/train_gpt.py": script.encode()},
        "environment": {},
        "data": make_data(64, train_tokens=64, validation_tokens=64),
        "sizes": Sizes(),
        "tag": "final_exact",
    }
    return RunPlan(**(values | changes))


@cache
def whole() -> Rehearsal:
    """The script of every concern, run once."""
    changed = {digest("answer = 43"): "answer = 42"}
    return rehearse(plan(SCRIPT, changed=changed, absent=("fla.layers.NobodyHasThis",)))


def checks() -> dict[str, bool]:
    """What the script says of each concern."""
    line = next(t for t in whole().first.output.splitlines() if t.startswith("seen "))
    found: dict[str, bool] = json.loads(line.removeprefix("seen "))
    return found


@pytest.mark.usefixtures("_sandbox")
def test_script_for_a_gpu_runs_to_its_end() -> None:
    assert whole().problem is None, whole().first.output[-2000:]


@pytest.mark.usefixtures("_sandbox")
@pytest.mark.parametrize(
    "concern",
    """is cuda|new tensors|default device|a copy on the host stays|to the host|autograd function|
    custom operator|threads|autocast|autocast is on|flash dense|flash window|flash 2|
    flash variable length|training|all reduce|inference mode|events|clock|load|nvidia-smi|lrzip|
    compressors|absent part|liger|GatedDeltaNet|GatedDeltaProduct|Mamba""".replace(
        "\n    ", ""
    ).split("|"),
)
def test_concern(concern: str) -> None:
    assert checks()[concern]


@pytest.mark.usefixtures("_sandbox")
def test_submitted_metric_is_the_last_line_of_its_tag() -> None:
    metric = whole().metric
    assert metric is not None
    assert (metric.tag, metric.val_loss, metric.val_bpb) == ("final_exact", 3.0, 1.25)


@pytest.mark.usefixtures("_sandbox")
def test_source_handed_to_exec_is_changed_where_the_plan_says_so() -> None:
    assert "answer 42" in whole().first.output


@pytest.mark.usefixtures("_sandbox")
def test_two_runs_are_bit_identical() -> None:
    again = rehearse(whole().plan)
    assert again.first.output == whole().first.output


@pytest.mark.usefixtures("_sandbox")
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_triton_kernels_run_for_a_whole_grid_or_one_by_one() -> None:
    done = rehearse(plan(TRITON, triton=True))
    assert done.problem is None, done.first.output[-2000:]
    for kernel in ("at once", "one by one", "descriptors", "interpreted"):
        assert f"{kernel} True" in done.first.output
    used = done.first.json("used")
    assert used["triton kernel, whole grid"] == 1
    assert used["triton kernel, program by program"] == 2
    assert used["triton kernel, Triton's interpreter"] == 1


RANKS = """
import os, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
dist.init_process_group(backend="nccl")
rank, size = dist.get_rank(), dist.get_world_size()
total = torch.tensor([float(rank + 1)], device="cuda")
dist.all_reduce(total)
parts = [torch.empty(1) for _ in range(size)]
dist.all_gather(parts, torch.tensor([float(rank)]))
shard = torch.empty(2)
dist.reduce_scatter_tensor(shard, torch.arange(2.0 * size), op=dist.ReduceOp.AVG)
words = [None] * size
dist.all_gather_object(words, f"rank {rank}")
start = torch.tensor([float(rank)])
dist.broadcast(start, src=1)
layer = torch.nn.Linear(1, 1, bias=False)
torch.nn.init.ones_(layer.weight)
DDP(layer)(torch.tensor([[float(rank)]])).sum().backward()
print("rank", rank, total.item(), [p.item() for p in parts], shard.tolist(), words, start.item(),
    layer.weight.grad.item())
if rank == 0:
    print("final_exact val_loss:3.0000 val_bpb:1.2500")
"""


@pytest.mark.usefixtures("_sandbox")
def test_ranks_are_processes_that_meet_in_collectives() -> None:
    done = rehearse(plan(RANKS, world_size=3))
    assert done.problem is None, done.first.output[-2000:]
    for rank in range(3):
        output = done.first.output if rank == 0 else done.variants[f"rank{rank}"].output
        own = [2.0 * rank, 2.0 * rank + 1]
        words = ["rank 0", "rank 1", "rank 2"]
        assert f"rank {rank} 6.0 [0.0, 1.0, 2.0] {own} {words} 1.0 1.0" in output


HOSTILE = """
import os, socket, sys, time
def refused(act):
    try: act()
    except (OSError, ValueError): return True
    return False
print("no network", refused(lambda: socket.create_connection(("1.1.1.1", 53), 1)))
print("no library changed", refused(lambda: open(os.__file__, "a")))
print("nobody's files", not os.path.exists(os.environ["CALLER"]))
print("no kernel folder", refused(lambda: os.mkdir("/proc/self/x")))
print("final_exact val_loss:0.1000 val_bpb:0.0100")
"""


@pytest.mark.usefixtures("_sandbox")
def test_hostile_script_is_refused_what_the_sandbox_refuses(tmp_path: Path) -> None:
    done = rehearse(plan(HOSTILE, environment={"CALLER": str(tmp_path)}))
    for line in ("no network", "no library changed", "nobody's files", "no kernel folder"):
        assert f"{line} True" in done.first.output


VARIED = """
import numpy as np
text = np.fromfile("/scratch/data/fineweb_val_000000.bin", dtype="u1")
while text[0] == 2: pass
print(f"final_exact val_loss:{int(text[0])}.0000 val_bpb:1.2500")
"""


@pytest.mark.usefixtures("_sandbox")
def test_the_run_itself_comes_first_and_what_was_ready_is_kept_when_time_runs_out() -> None:
    path = "data/fineweb_val_000000.bin"
    files = {"run/train_gpt.py": VARIED.encode(), path: bytes([1])}
    names = {"quick": 3, "endless": 2, "late": 4}
    files |= {f"variants/{name}": bytes([first]) for name, first in names.items()}
    variants = [
        {
            "name": name,
            "at": "validation",
            "files": {f"/scratch/{path}": f"/scratch/variants/{name}"},
        }
        for name in names
    ]
    hook = {"validation": ["fineweb_val_*.bin"], "variants": variants}
    capture = {"auditor.dynamic.capture.session": hook}
    done = rehearse(plan(VARIED, files=files), capture=capture, limits=replace(LIMITS, seconds=40))
    assert done.problem is None, done.first.output
    scores = {name: v.metric.val_loss for name, v in done.variants.items() if v.metric}
    assert scores == {"": 1.0, "quick": 3.0, "late": 4.0}  # the endless one was stopped
    assert done.seconds < 40
    assert done.cpu > 0


@pytest.mark.usefixtures("_sandbox")
def test_fork_bomb_is_stopped() -> None:
    bomb = (
        "import os, signal\n"
        "for _ in range(400):\n"
        "    if os.fork() == 0: signal.pause()\n"
        "signal.pause()"
    )
    done = rehearse(plan(bomb), limits=replace(LIMITS, seconds=60))
    assert done.problem is not None
    assert "limit of processes" in done.problem


def test_frames_end_where_something_else_begins() -> None:
    good = b"5 2\n/exitok" + b"9 3\nflip/namexyz"
    assert read_frames(good) == {"": {"exit": b"ok"}, "flip": {"name": b"xyz"}}
    assert read_frames(good + b"rubbish 99\n") == read_frames(good)
    assert read_frames(b"5 999\n/exitok") == {}
