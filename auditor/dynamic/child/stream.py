"""The seeded data of a probe: a token stream and the logits of a stand-in model.

Integer arithmetic makes both, so that every machine and version gets the same bits.

- Stream: half of the tokens follow from the two before them, the others are uniform; so n-gram
  experts have something to learn.
- Logits of target i: uniform noise in (-1, 1), and a peak at one token, which is the true target
  for half of the positions. The peak's height runs from 2 to 9 with i: from nearly uniform to more
  confident than right, as trained models are on their hard tokens.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]


def mix64(values: Any) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014), element by element."""
    with np.errstate(over="ignore"):
        z = np.asarray(values, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def make_stream(seed: int, count: int, vocabulary: int) -> Tokens:
    """`count` tokens below `vocabulary`."""
    draws = mix64(np.arange(count, dtype=np.uint64) + (np.uint64(seed) << np.uint64(32))).tolist()
    stream = [draw % vocabulary for draw in draws[:2]]
    for draw in draws[2:]:
        follows = (5 * stream[-1] + 3 * stream[-2] + 7) % vocabulary
        stream.append(follows if draw >> 63 else draw % vocabulary)
    return np.array(stream, dtype=np.int64)


def make_logits(seed: int, targets: Tokens, first: int, vocabulary: int) -> NDArray[np.float32]:
    """float32 [n, vocabulary] for the targets at stream positions `first`, `first + 1`, ..."""
    positions = np.arange(first, first + len(targets), dtype=np.uint64)
    own = mix64(positions + (np.uint64(seed) << np.uint64(33)))
    cells = own[:, None] + np.arange(vocabulary, dtype=np.uint64)[None, :]
    noise = (mix64(cells) >> np.uint64(40)).astype(np.float64) / float(1 << 23) - 1.0
    guesses = np.where(
        own >> np.uint64(63), targets, (own % np.uint64(vocabulary)).astype(np.int64)
    )
    noise[np.arange(len(targets)), guesses] += 2.0 + (positions % np.uint64(8)).astype(np.float64)
    return noise.astype(np.float32)
