"""Makes a run small while every feature still runs: sizes are changed together, by their names.

The laws
- What counts tokens of a sequence (sequence length, window, stride, chunk) shrinks by one factor;
  a stride that was below its window stays below it.
- Averages of weights reach back over the same share of the steps, two steps at least.
- What counts steps (iterations, warm-up, warm-down, starts and intervals) shrinks by another.
- Widths shrink with the model's width; heads keep their ratio of query to key heads.
- Layers stay: names such as "last 4" or "loop from 3 to 5" depend on their number.
- Hash tables keep the tokens per bucket of the real run, and gates on scored tokens the share of
  the stream that lies behind them.
- Repetitions (epochs, calibration batches, rounds) get a ceiling.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from auditor.dynamic.load_factor import REAL_TOKENS, loaded_buckets

Number = int | float
_FEWEST_TOKENS = 2048  # a batch of fewer is one of sequences


@dataclass(frozen=True)
class Sizes:
    """What a run is shrunk to. `width` is the model's, None leaves it and the heads as they are;
    `sequence` the training sequence's length; `batch` the sequences of a
    step; `tokens` the scored positions."""

    width: int | None = 128
    heads: int = 4
    sequence: int = 64
    batch: int = 16
    tokens: int = 1024
    iterations: int = 6
    vocabulary: int | None = 320
    epochs: int = 2
    repeats: int = 2
    by_steps: bool = True  # no limit of training time, where the script knows that: see `plan`


# From small to as submitted: a script whose fixed shapes do not fit is tried again on the next.
LADDER = (
    Sizes(),
    Sizes(vocabulary=1024, heads=8, width=256, by_steps=False),
    Sizes(vocabulary=None, width=None, iterations=3, sequence=128, batch=8),
)


def ladder(source: str) -> tuple[Sizes, ...]:
    """The sizes to try for a script, in order; interpreted kernels take long for every row."""
    return tuple(sized(source, sizes) for sizes in LADDER)


def sized(source: str, sizes: Sizes) -> Sizes:
    """The sizes, smaller where kernels are interpreted."""
    if "triton" not in source:
        return sizes
    return replace(sizes, sequence=32, batch=min(8, sizes.batch), tokens=512, iterations=3)


@dataclass(frozen=True)
class Factors:
    """How much smaller: `sequence`, `steps`, `width` and `heads` are new over old."""

    sizes: Sizes
    sequence: float
    steps: float
    width: float
    heads: float


def factors(values: Mapping[str, Number], sizes: Sizes) -> Factors:
    """The factors for a script whose settings have these values, by upper-case name."""
    length = _first(values, ("TRAIN_SEQ_LEN", "SEQ_LEN", "BLOCK_SIZE", "CONTEXT_LENGTH"), 1024)
    steps = _first(values, ("ITERATIONS", "NUM_ITERATIONS", "MAX_STEPS", "NUM_STEPS"), 20_000)
    width = _first(values, ("MODEL_DIM", "D_MODEL", "N_EMBD", "HIDDEN_DIM", "DIM"), 512)
    heads = _first(values, ("NUM_HEADS", "N_HEADS", "N_HEAD"), 8)
    shrunk = sizes.width is not None and sizes.width < width
    return Factors(
        sizes,
        min(1.0, sizes.sequence / length),
        min(1.0, sizes.iterations / steps),
        (sizes.width or width) / width if shrunk else 1.0,
        min(1.0, sizes.heads / heads) if shrunk else 1.0,
    )


def _first(values: Mapping[str, Number], names: tuple[str, ...], default: Number) -> Number:
    return next((values[name] for name in names if values.get(name, 0) > 0), default)


Rule = Callable[[Number, Factors], Number]


def shrink(name: str, value: Number | None, by: Factors) -> Number | None:
    """The new value of the setting `name` (upper case); None where it stays.

    `value` is None where the script's default is no number: a rule that needs none still answers.
    """
    for pattern, rule in _RULES:
        if pattern.search(name):
            if value is not None and value < 0:
                return None  # "off" or "all"
            new = rule(value if value is not None else -1, by)
            return None if new == value or new < 0 else new
    return None


def _set_to(choose: Callable[[Sizes], Number | None]) -> Rule:
    def rule(value: Number, by: Factors) -> Number:
        new = choose(by.sizes)
        return value if new is None else new

    return rule


def _scaled(choose: Callable[[Factors], float], least: int, step: int = 1) -> Rule:
    """Multiplies; zero, which switches something off, stays zero."""

    def rule(value: Number, by: Factors) -> Number:
        if value <= 0 or choose(by) == 1.0:
            return value
        return max(min(least, int(value)), round(value * choose(by) / step) * step)

    return rule


def _at_most(choose: Callable[[Sizes], int]) -> Rule:
    return lambda value, by: min(value, choose(by.sizes)) if value >= 0 else value


def _by_load(value: Number, by: Factors) -> Number:
    return loaded_buckets(int(value), by.sizes.tokens) if value >= 1 else value


def _gate(value: Number, by: Factors) -> Number:
    """A gate on scored tokens lies behind the same share of the stream, at least 16 tokens."""
    if value <= 0:
        return value
    return min(int(value), max(16, round(value * by.sizes.tokens / REAL_TOKENS)))


def _average(value: Number, by: Factors) -> Number:
    """The decay of a moving average over 1 / (1 - decay) steps."""
    if not 0.5 < value < 1:
        return value
    return round(1 - 1 / max(2.0, by.steps / (1 - value)), 6)


def _heads(value: Number, by: Factors) -> Number:
    return max(1, round(value * by.heads)) if value > 0 else value


def _length(value: Number, by: Factors) -> Number:
    return value if value <= 0 else max(8, round(value * by.sequence / 8) * 8)


def _stride(value: Number, by: Factors) -> Number:
    """A quarter of a sequence where strides are small, so that windows overlap a few times."""
    return value if value <= 0 else max(by.sizes.sequence // 4, round(value * by.sequence / 8) * 8)


def _chunk(value: Number, by: Factors) -> Number:
    """A chunk of several sequences becomes a quarter of the stream, two sequences at least; a part
    of a sequence shrinks as the sequence does."""
    if value * by.sequence <= by.sizes.sequence:
        return _length(value, by)
    return max(2 * by.sizes.sequence, by.sizes.tokens // 4)


def _batch(value: Number, by: Factors) -> Number:
    """Large values count tokens; small ones sequences or documents."""
    if 0 <= value < _FEWEST_TOKENS:
        return min(value, max(4, by.sizes.batch // 2))
    return by.sizes.batch * by.sizes.sequence


_NUMBER_OF_STEPS = r"^(?:MAX_|TOTAL_|TRAIN_|NUM_)?(?:ITERATIONS|ITERS|STEPS)$"
_STEPPED = (
    r"(?:WARMDOWN|COOLDOWN|MOMENTUM_WARMUP|DECAY|ANNEAL)_(?:ITERS|STEPS|ITERATIONS)$|"
    r"(?:SWA|EMA|LAWA|QAT)_(?:EVERY|FREQ|INTERVAL|START_STEP|WINDOW|FROM)$|START_(?:STEP|ITER)S?$"
)
_RULES: tuple[tuple[re.Pattern[str], Rule], ...] = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (r"^VOCAB_SIZE$|^N_VOCAB$", _set_to(lambda sizes: sizes.vocabulary)),
        (_NUMBER_OF_STEPS, _set_to(lambda sizes: sizes.iterations)),
        (r"^WARMUP_(?:\w+_)?(?:STEPS|ITERS)$", _at_most(lambda _: 1)),
        (r"_WARMUP_STEPS$", _scaled(lambda by: by.steps, 2)),
        (r"^VAL_LOSS_EVERY$|^EVAL_EVERY$|^VAL_EVERY$", _at_most(lambda sizes: sizes.iterations)),
        (r"LOG_EVERY$|LOG_INTERVAL$", _at_most(lambda _: 1)),
        (r"EMA_DECAY$", _average),
        (_STEPPED, _scaled(lambda by: by.steps, 1)),
        (r"BATCH_(?:TOKENS|SIZE)$|^(?:VAL|TRAIN|EVAL)_BATCH", _batch),
        (r"STRIDE$", _stride),
        (r"CHUNK_(?:TOKENS|SIZE|LEN)$", _chunk),
        (r"SEQ_?LEN|CONTEXT_LEN|^BLOCK_SIZE$|WINDOW(?:_SIZE)?$|ROPE_TRAIN", _length),
        (r"^(?:MODEL_DIM|D_MODEL|N_EMBD|HIDDEN_DIM|EMBEDDING_DIM)$",
         _scaled(lambda by: by.width, 32, 32)),
        (r"^(?:NUM_|N_)(?:KV_)?HEADS?$", _heads),
        (r"(?:BIGRAM|TRIGRAM|NGRAM)_VOCAB_SIZE$|BIGRAM_BUCKETS$", _at_most(lambda _: 512)),
        (r"BUCKETS?$|TABLE_SIZE$|HASH_SIZE$", _by_load),
        (r"MIN_TOKENS$|WARMUP_TOKENS$|GATE_TOKENS$", _gate),
        (r"EPOCHS$", _at_most(lambda sizes: sizes.epochs)),
        (r"(?:SLOT|TTT|LBFGS|ETLB|GD|INNER).*_(?:STEPS|ITERS)$", _at_most(lambda _: 3)),
        (r"CALIB\w*(?:BATCHES|SEQS|SAMPLES|STEPS)$", _at_most(lambda sizes: sizes.repeats)),
        (r"PREFIX_DOCS$", _at_most(lambda _: 4)),
        (r"^(?:NUM|N|MAX)_(?:SEQS|SEQUENCES|SAMPLES|BATCHES)$", _at_most(lambda _: 4)),
    )
)  # fmt: skip


# What a call may be given that only ever sizes a loop over data.
LOCAL = re.compile(
    r"^(?:(?:GEN_|CALIB_|MAX_)?SEQ_?LEN|(?:NUM|N|MAX)_(?:SEQS|SEQUENCES|SAMPLES|BATCHES))$|CALIB|"
    r"EMA_DECAY$|^WARMUP_\w*ITERS$"
)


def shrink_all(
    values: Mapping[str, Number | None], sizes: Sizes
) -> Iterator[tuple[str, Number | None, Number]]:
    """(name, old value, new value) of every setting that changes."""
    known = {name: value for name, value in values.items() if value is not None}
    by = factors(known, sizes)
    for name, value in values.items():
        new = shrink(name, value, by)
        if new is not None:
            yield name, value, new
