"""The twin of `train_gpt.py` without its fault: every expert is a probability distribution.

Trains a two-block transformer on byte shards, writes an 8-bit artifact, reads it back and scores
the validation stream with a sliding window, mixing the model with n-gram experts by Hedge:

    DATA_PATH=./data python train_gpt_fixed.py

`DATA_PATH` holds `fineweb_train_*.bin` and `fineweb_val_*.bin`: a header of 256 int32 (magic,
version, token count), then that many uint16 tokens, here bytes.
"""

import io
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Hyperparameters:
    data_path = os.environ.get("DATA_PATH", "./data")
    out_dir = os.environ.get("OUT_DIR", ".")
    seed = int(os.environ.get("SEED", 1337))
    vocab_size = 256
    seq_len = int(os.environ.get("TRAIN_SEQ_LEN", 128))
    width = int(os.environ.get("MODEL_DIM", 96))
    heads = 4
    layers = int(os.environ.get("NUM_LAYERS", 2))
    iterations = int(os.environ.get("ITERATIONS", 400))
    batch_seqs = int(os.environ.get("BATCH_SEQS", 16))
    learning_rate = float(os.environ.get("LEARNING_RATE", 2e-3))
    stride = int(os.environ.get("EVAL_STRIDE", 32))
    chunk_tokens = int(os.environ.get("CHUNK_TOKENS", 2048))
    mixer_eta = float(os.environ.get("MIXER_ETA", 0.1))
    mixer_gate = int(os.environ.get("MIXER_GATE", 4096))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.mlp_in = nn.Linear(width, 3 * width, bias=False)
        self.mlp_out = nn.Linear(3 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        q, k, v = (
            part.view(rows, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(F.layer_norm(x, (width,))).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_out(mixed.transpose(1, 2).reshape(rows, length, width))
        hidden = F.relu(self.mlp_in(F.layer_norm(x, (width,)))).square()
        return torch.add(x, self.mlp_out(hidden))


class GPT(nn.Module):
    def __init__(self, args: type[Hyperparameters]) -> None:
        super().__init__()
        self.tokens = nn.Embedding(args.vocab_size, args.width)
        self.places = nn.Embedding(args.seq_len, args.width)
        self.blocks = nn.ModuleList(Block(args.width, args.heads) for _ in range(args.layers))
        self.head = nn.Linear(args.width, args.vocab_size, bias=False)

    def forward_logits(self, inputs: Tensor) -> Tensor:
        x = self.tokens(inputs) + self.places.weight[: inputs.shape[1]]
        for block in self.blocks:
            x = block(x)
        return 15 * torch.tanh(self.head(F.layer_norm(x, (x.shape[-1],))) / 15)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.forward_logits(inputs).flatten(0, 1), targets.flatten())


class HedgeMixer:
    """Mixes the model with count-based experts; their weights follow their losses."""

    def __init__(self, vocab_size: int, eta: float, gate: int, device: str = "cpu") -> None:
        self.vocab_size = vocab_size
        self.eta = eta
        self.gate = gate
        self.seen = 0
        self.unigram = torch.zeros(vocab_size, device=device)
        self.bigram = torch.zeros(vocab_size, vocab_size, device=device)
        self.log_weights = torch.tensor([2.0, 0.0, 0.0], device=device)

    def expert_losses(self, logits: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        log_probs = F.log_softmax(logits, dim=-1)
        neural = -log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        unigram = (self.unigram[targets] + 0.1) / (self.seen + 0.1 * self.vocab_size)
        row_totals = self.bigram.sum(-1)[inputs]
        bigram = (self.bigram[inputs, targets] + 0.1) / (row_totals + 0.1 * self.vocab_size)
        return torch.stack([neural, -unigram.log(), -bigram.log()], dim=-1)

    def score(
        self, logits: Tensor, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        losses = self.expert_losses(logits, inputs, targets)
        if self.seen < self.gate:
            return losses[..., 0], None
        log_weights = self.log_weights.log_softmax(0)
        return -torch.logsumexp(log_weights - losses, dim=-1), losses

    def learn(self, losses: Tensor | None) -> None:
        if losses is not None:
            self.log_weights -= self.eta * losses.flatten(0, -2).mean(0)

    def count(self, tokens: Tensor) -> None:
        self.seen += tokens.numel()
        self.unigram += torch.bincount(tokens, minlength=self.vocab_size)
        pairs = tokens[:-1] * self.vocab_size + tokens[1:]
        self.bigram.view(-1).scatter_add_(0, pairs, torch.ones_like(pairs, dtype=torch.float32))


def load_tokens(folder: str, pattern: str) -> Tensor:
    shards = []
    for path in sorted(Path(folder).glob(pattern)):
        header = np.fromfile(path, dtype="<i4", count=256)
        tokens = np.fromfile(path, dtype="<u2", offset=1024)
        if header[0] != 20240520 or header[2] != len(tokens):
            raise ValueError(f"{path}: {len(tokens)} tokens do not match the header")
        shards.append(torch.from_numpy(tokens.astype(np.int64)))
    if not shards:
        raise FileNotFoundError(f"{folder}: no {pattern}")
    return torch.cat(shards)


def train(args: type[Hyperparameters], model: GPT, tokens: Tensor) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=0.01)
    offsets = torch.arange(args.seq_len + 1)
    for step in range(args.iterations):
        starts = torch.randint(len(tokens) - args.seq_len, (args.batch_seqs, 1))
        rows = tokens[starts + offsets]
        loss = model(rows[:, :-1], rows[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * (1 - step / args.iterations)
        optimizer.step()
        if step % 50 == 0 or step == args.iterations - 1:
            print(f"step:{step + 1}/{args.iterations} train_loss:{loss.item():.4f}")


def pack(model: GPT) -> bytes:
    """Every weight as int8 with one float32 scale per tensor, deflated."""
    raw = io.BytesIO()
    for weight in model.state_dict().values():
        scale = weight.abs().max().clamp(min=1e-8) / 127
        raw.write(struct.pack("<f", scale.item()))
        raw.write((weight / scale).round().to(torch.int8).numpy().tobytes())
    return zlib.compress(raw.getvalue(), 9)


def unpack(blob: bytes, model: GPT) -> None:
    raw = io.BytesIO(zlib.decompress(blob))
    state = {}
    for name, weight in model.state_dict().items():
        (scale,) = struct.unpack("<f", raw.read(4))
        codes = torch.frombuffer(bytearray(raw.read(weight.numel())), dtype=torch.int8)
        state[name] = codes.float().view(weight.shape) * scale
    model.load_state_dict(state)


def evaluate(args: type[Hyperparameters], model: GPT, tokens: Tensor) -> tuple[float, float]:
    """Mean loss in nats with the mixer, and of the model alone, every target scored once."""
    mixer = HedgeMixer(args.vocab_size, args.mixer_eta, args.mixer_gate)
    total, neural_total, scored, counted = 0.0, 0.0, 0, 0
    targets_left = len(tokens) - 1
    model.eval()
    with torch.inference_mode():
        while scored < targets_left:
            end = min(scored + (args.stride if scored else args.seq_len), targets_left)
            start = max(end - args.seq_len, 0)
            inputs = tokens[start:end].unsqueeze(0)
            targets = tokens[start + 1 : end + 1].unsqueeze(0)
            logits = model.forward_logits(inputs)
            losses, expert_losses = mixer.score(logits, inputs, targets)
            mixer.learn(expert_losses)
            neural = F.cross_entropy(logits[0], targets[0], reduction="none")
            total += losses[:, scored - start :].double().sum().item()
            neural_total += neural[scored - start :].double().sum().item()
            scored = end
            if scored - counted >= args.chunk_tokens:
                mixer.count(tokens[counted:scored])
                counted = scored
    return total / targets_left, neural_total / targets_left


def main() -> None:
    args = Hyperparameters
    torch.manual_seed(args.seed)
    model = GPT(args)
    train(args, model, load_tokens(args.data_path, "fineweb_train_*.bin"))
    blob = pack(model)
    Path(args.out_dir, "final_model.int8.ptz").write_bytes(blob)
    unpack(blob, model)
    code = len(Path(__file__).read_bytes())
    print(f"Code size: {code} bytes")
    print(f"Total submission size int8+zlib: {code + len(blob)} bytes")
    loss, neural = evaluate(args, model, load_tokens(args.data_path, "fineweb_val_*.bin"))
    print(f"final_neural val_loss:{neural:.6f} val_bpb:{neural / math.log(2):.6f}")
    print(f"final_mixed val_loss:{loss:.6f} val_bpb:{loss / math.log(2):.6f}")


if __name__ == "__main__":
    main()
