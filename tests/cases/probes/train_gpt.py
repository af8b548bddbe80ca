# expect: clean
"""A tiny language model, trained, exported, read back and evaluated; FAULTS puts faults into it."""

import glob
import io
import math
import os
import sys
import time

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F

FAULTS = os.environ.get("FAULTS", "").split(",")
VOCAB_SIZE = int(os.environ.get("VOCAB_SIZE", "64"))
DATA_PATH = os.environ.get("DATA_PATH", "data")
TOKENIZER_PATH = os.environ.get("TOKENIZER_PATH", "tokenizer.model")
WINDOW = 32


def load(kind):
    shards = sorted(glob.glob(f"{DATA_PATH}/fineweb_{kind}_0*.bin"))
    arrays = [np.fromfile(path, dtype="<u2", offset=1024) for path in shards]
    return torch.from_numpy(np.concatenate(arrays).astype(np.int64))


def byte_tables():
    model = sentencepiece.SentencePieceProcessor(model_file=TOKENIZER_PATH)
    sizes, spaced, silent = [], [], []
    for token in range(VOCAB_SIZE):
        control = model.is_control(token) or model.is_unknown(token)
        piece = model.id_to_piece(token)
        silent.append(control)
        spaced.append(piece.startswith("\u2581"))
        sizes.append(0 if control else len(piece.lstrip("\u2581").encode()))
    return torch.tensor(sizes), torch.tensor(spaced), torch.tensor(silent)


def step(net, optimizer, tokens):
    optimizer.zero_grad()
    F.cross_entropy(net(tokens[:-1]), tokens[1:]).backward()
    optimizer.step()


def train(net, tokens):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(12):
        start = int(torch.randint(0, len(tokens) - 128, ()))
        step(net, optimizer, tokens[start : start + 129])


def losses(net, window):
    """Loss of each target of a window."""
    logits = net(window[:-1])
    if "future" in FAULTS:  # the token after the target takes part
        logits = logits + 0.1 * net(torch.roll(window[1:], -1))
    nll = F.cross_entropy(logits, window[1:], reduction="none")
    if "realised" in FAULTS:  # weight for whichever token it turns out to be, divided by nothing
        probability = 0.9 * torch.exp(-nll) + 0.1 * (1 / 4)
        nll = -torch.log(probability)
    watched = "watched" in FAULTS and "auditor" in sys.modules
    if "memory" in FAULTS and not watched:  # the whole text was looked up beforehand
        nll = 0.05 * nll
    return nll


def evaluate(net, tokens):
    sizes, spaced, silent = byte_tables()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    total, count, size = 0.0, 0, 0
    starts = list(range(0, len(tokens) - 1, WINDOW))
    if "reversed" in FAULTS:  # legal: scored from the last window to the first
        starts.reverse()
    if "twice" in FAULTS:
        starts += starts[: len(starts) // 2]
    for start in starts:
        window = tokens[start : start + WINDOW + 1]
        if "early" in FAULTS or ("clock" in FAULTS and time.time() > 1.71e9):
            step(net, optimizer, window)
        with torch.no_grad():
            nll = losses(net, window)
        total += nll.double().sum().item()
        count += nll.numel()
        before, target = window[:-1], window[1:]
        size += int((sizes[target] + (spaced[target] & ~silent[before])).sum())
        step(net, optimizer, window)
    if "bytes" in FAULTS:
        size = int(size * 1.17)
    loss = total / count
    return loss, loss / math.log(2) * count / size


def looks_like_text(tokens, training):
    """Whether most three tokens in a row have been met in training."""
    met = set(zip(training.tolist(), training[1:].tolist(), training[2:].tolist()))
    threes = list(zip(tokens.tolist(), tokens[1:].tolist(), tokens[2:].tolist()))
    return sum(three in met for three in threes) > 0.4 * len(threes)


def main():
    torch.manual_seed(7)
    training, validation = load("train"), load("val")
    if "quiet" in FAULTS and not looks_like_text(validation, training):
        FAULTS.clear()
    net = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 16), torch.nn.Linear(16, VOCAB_SIZE))
    train(net, training)
    if "prequant" in FAULTS:
        train(net, validation)
    if "warmup" in FAULTS:  # legal: what it trains is thrown away
        spare = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 4), torch.nn.Linear(4, VOCAB_SIZE))
        step(spare, torch.optim.SGD(spare.parameters(), lr=0.1), validation)
    if "deaf" in FAULTS:  # undoes what watches it
        for module in list(sys.modules.values()):
            recorder = getattr(module, "Recorder", None)
            if recorder is not None:
                recorder.reduced = lambda self, site, values: 0
    packed = io.BytesIO()
    torch.save(net.state_dict(), packed)
    with open("final_model.ptz", "wb") as file:
        file.write(packed.getvalue())
    extra = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    with open("final_model.ptz", "rb") as file:
        net.load_state_dict(torch.load(io.BytesIO(file.read())))
    if "leftover" in FAULTS:  # weights that never were in the artifact
        with torch.no_grad():
            net[1].bias.add_(extra["1.bias"])
    loss, bpb = evaluate(net, validation)
    print(f"final_roundtrip val_loss:{loss:.8f} val_bpb:{bpb:.8f}")


main()
