"""The environment variables of a one-file script: a preset's numbers under the challenge's names.

Every number of the preset can be overridden by a variable of its own (`SEED`, `ITERATIONS`,
`MODEL_DIM`, ...). The switches of PR 700's script work as they do there.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_type_hints

from hedge_record.config import RecordConfig

# Where the challenge's scripts have another name than the upper-cased field.
ENVIRONMENT_NAMES = {
    "model.layers": "NUM_LAYERS",
    "model.width": "MODEL_DIM",
    "model.heads": "NUM_HEADS",
    "model.kv_heads": "NUM_KV_HEADS",
    "model.mlp_multiple": "MLP_MULT",
    "model.embedding_std": "TIED_EMBED_INIT_STD",
    "model.bigram_buckets": "BIGRAM_VOCAB_SIZE",
    "model.bigram_width": "BIGRAM_DIM",
    "model.value_embedding": "VE_ENABLED",
    "model.value_embedding_width": "VE_DIM",
    "model.value_embedding_layers": "VE_LAYERS",
    "model.xsa_layers": "XSA_LAST_N",
    "model.rope_training_length": "ROPE_TRAIN_SEQ_LEN",
    "model.qk_gain": "QK_GAIN_INIT",
    "model.depth_scale": "LN_SCALE",
    "model.depth_gate": "DTG_ENABLED",
    "training.seconds": "MAX_WALLCLOCK_SECONDS",
    "training.reserved_seconds": "GPTQ_RESERVE_SECONDS",
    "training.batch_tokens": "TRAIN_BATCH_TOKENS",
    "training.sequence_length": "TRAIN_SEQ_LEN",
    "training.micro_batches": "GRAD_ACCUM_STEPS",
    "training.warmdown_steps": "WARMDOWN_ITERS",
    "training.embedding_lr": "TIED_EMBED_LR",
    "training.weight_decay": "MUON_WD",
    "training.adam_weight_decay": "ADAM_WD",
    "training.adam_epsilon": "ADAM_EPS",
    "training.muon_momentum_start": "MUON_MOMENTUM_WARMUP_START",
    "training.newton_schulz_steps": "MUON_BACKEND_STEPS",
    "training.gradient_clip": "GRAD_CLIP_NORM",
    "training.qat_lr_threshold": "LATE_QAT_THRESHOLD",
    "training.log_every": "TRAIN_LOG_EVERY",
    "export.prune_fraction": "PRUNE_PCT",
    "export.calibration_sequences": "GPTQ_CALIBRATION_SEQUENCES",
    "evaluation.sequence_length": "EVAL_SEQ_LEN",
    "evaluation.stride": "EVAL_STRIDE",
    "evaluation.batch_windows": "EVAL_BATCH_SEQS",
    "evaluation.ttt_batch_sequences": "TTT_BATCH_SEQS",
    "evaluation.ttt_lr_ramp": "ADAPTIVE_LR_MAX",
    "evaluation.ttt_unfrozen_blocks": "TTT_FREEZE_BLOCKS",  # how many it thaws, for all its name
    "evaluation.ttt_gradient_clip": "TTT_GRAD_CLIP",
    "evaluation.ttt_polyak_decay": "POLYAK_DECAY",
    "evaluation.ttt_byte_weighted": "BYTE_WEIGHTED_TTT",
    "evaluation.temperature": "TTT_TEMPERATURE",
}

# Variables of the members of a pair.
MEMBER_NAMES = {"training.adam_betas": ("BETA1", "BETA2")}


class Switch(NamedTuple):
    """A variable whose other setting than `default` gives a field another value."""

    variable: str
    default: str
    value: Any


SWITCHES = {
    "training.qat_rounding": Switch("SOFT_ROUND_QAT", "0", "soft"),
    "evaluation.mixer": Switch("USE_MIXER", "1", "off"),
    "evaluation.ttt_polyak_decay": Switch("USE_POLYAK", "1", 0.0),
    "evaluation.ttt_lr_ramp": Switch("ADAPTIVE_LR", "1", 1.0),
}


def environment_of(config: RecordConfig) -> dict[str, str]:
    """The variables under which a script of the challenge runs `config`."""
    found: dict[str, str] = {}
    for name, value in config_fields(config):
        if name in MEMBER_NAMES:
            found |= dict(zip(MEMBER_NAMES[name], map(str, value), strict=True))
        else:
            found[environment_name(name)] = _spelled(value)
    return found


def config_fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every number of a configuration under its name, such as `model.width` or `seed`."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from config_fields(value, f"{field.name}.")
        elif field.name != "name":
            yield f"{prefix}{field.name}", value


def _spelled(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(int(value or 0))
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def config_expression(config: RecordConfig) -> str:
    """A call that builds `config`, each number read from its environment variable first."""
    return _dataclass_expression(config, "", 0)


def environment_name(field: str) -> str:
    """The environment variable of a field such as `model.width` or `seed`."""
    return ENVIRONMENT_NAMES.get(field, field.rpartition(".")[2].upper())


def _dataclass_expression(value: Any, prefix: str, depth: int) -> str:
    indent = "    " * depth
    hints = get_type_hints(type(value))
    lines = []
    for field in dataclasses.fields(value):
        member = getattr(value, field.name)
        if dataclasses.is_dataclass(member):
            text = _dataclass_expression(member, f"{prefix}{field.name}.", depth + 1)
        elif field.name == "name":
            text = repr(member)
        else:
            text = _field_expression(f"{prefix}{field.name}", member, hints[field.name])
        lines.append(f"{indent}    {field.name}={text},\n")
    return f"{type(value).__name__}(\n{''.join(lines)}{indent})"


def _field_expression(name: str, value: Any, hint: Any) -> str:
    if name in MEMBER_NAMES:
        pairs = zip(MEMBER_NAMES[name], value, strict=True)
        return f"({', '.join(f'float(os.environ.get({v!r}, {str(n)!r}))' for v, n in pairs)})"
    text = _variable_expression(environment_name(name), value, hint)
    if name not in SWITCHES:
        return text
    switch = SWITCHES[name]
    is_default = f"os.environ.get({switch.variable!r}, {switch.default!r}) == {switch.default!r}"
    return f"{text} if {is_default} else {switch.value!r}"


def _variable_expression(variable: str, value: Any, hint: Any) -> str:
    """How a field of type `hint` is read from the environment; 0 stands for None."""
    read = f'os.environ.get("{variable}", "'
    if isinstance(value, bool):
        return f'{read}{int(value)}") == "1"'
    if isinstance(value, tuple):
        kind = get_args(hint)[0].__name__
        text = ",".join(map(str, value))
        return f'tuple({kind}(part) for part in {read}{text}").split(",") if part)'
    if isinstance(value, str):
        return f'{read}{value}")'
    if type(None) in get_args(hint):
        return f'float({read}{value or 0}")) or None'
    return f'{hint.__name__}({read}{value!r}"))'
