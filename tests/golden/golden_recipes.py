"""Numbers measured from PR 700's own script, and the recipes that lead to their inputs.

`pr700.json` holds facts only; its `recipe` says in words what the functions here compute. Tests
import this module by name: pytest and mypy have this folder on their path.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hedge_record.config import ModelConfig
from hedge_record.model.gpt import GPT


@cache
def golden_numbers() -> dict[str, Any]:
    """The whole of pr700.json."""
    path = Path(__file__).with_name("pr700.json")
    numbers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return numbers


def lcg(count: int, vocab_size: int, seed: int = 1) -> list[int]:
    """Tokens of a linear congruential generator, every third one a repetition of seven before."""
    state = seed
    tokens: list[int] = []
    for index in range(count):
        state = (1103515245 * state + 12345) % 2**31
        repeats = index % 3 == 2 and index >= 7
        tokens.append(tokens[index - 7] if repeats else (state >> 16) % vocab_size)
    return tokens


def lcg_rows(rows: int, length: int, vocab_size: int = 64, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs and targets, each [rows, length], of consecutive spans of length + 1 tokens."""
    tokens = torch.tensor(lcg(rows * (length + 1), vocab_size, seed)).view(rows, length + 1)
    return tokens[:, :-1], tokens[:, 1:]


def set_deterministic_weights(model: nn.Module) -> None:
    """Parameter k in name order, flat index i: 0.08 * sin(0.37 i + k)."""
    with torch.no_grad():
        for k, (_, parameter) in enumerate(sorted(model.named_parameters())):
            values = 0.08 * np.sin(0.37 * np.arange(parameter.numel()) + k)
            parameter.copy_(torch.from_numpy(values).view(parameter.shape))


def tiny_model_config() -> ModelConfig:
    """The golden file's `tiny_config`, with the original's rotary training length."""
    tiny = golden_numbers()["tiny_config"]
    return ModelConfig(
        vocab_size=tiny["vocab_size"],
        layers=tiny["num_layers"],
        width=tiny["model_dim"],
        heads=tiny["num_heads"],
        kv_heads=tiny["num_kv_heads"],
        mlp_multiple=tiny["mlp_mult"],
        tie_embeddings=tiny["tie_embeddings"],
        embedding_std=tiny["tied_embed_init_std"],
        logit_softcap=tiny["logit_softcap"],
        bigram_buckets=tiny["bigram_vocab_size"],
        bigram_width=tiny["bigram_dim"],
        value_embedding=tiny["ve_enabled"],
        value_embedding_width=tiny["ve_dim"],
        value_embedding_layers=tuple(int(layer) for layer in tiny["ve_layers"].split(",")),
        xsa_layers=tiny["xsa_last_n"],
        rope_dims=tiny["rope_dims"],
        rope_base=tiny["rope_base"],
        rope_training_length=1024,
        qk_gain=tiny["qk_gain_init"],
        depth_scale=tiny["ln_scale"],
        depth_gate=tiny["dtg"],
    )


def tiny_model() -> GPT:
    """The float32 model of `tiny_config` with deterministic weights, in training mode."""
    model = GPT(tiny_model_config())
    set_deterministic_weights(model)
    return model


def assert_matches_stats(values: Tensor, stats: dict[str, Any], relative: float = 1e-4) -> None:
    """Compares a tensor with its golden sums (over float64) and its first and last eight values.

    A plain sum cancels, so its tolerance is relative to the sum of magnitudes.
    """
    flat = values.detach().double().flatten()
    assert flat.numel() == stats["n"]
    assert math.isclose(flat.sum(), stats["sum"], abs_tol=relative * stats["abs_sum"])
    assert math.isclose(flat.abs().sum(), stats["abs_sum"], rel_tol=relative)
    assert math.isclose(flat.square().sum(), stats["sq_sum"], rel_tol=relative)
    ends = torch.tensor(stats["first"] + stats["last"], dtype=torch.float64)
    assert torch.cat((flat[:8], flat[-8:])).allclose(ends, rtol=relative, atol=relative * 0.01)
