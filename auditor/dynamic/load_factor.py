"""Keeps a hashed table as full as in the real run, where collisions are what breaks a scorer."""

import math

REAL_TOKENS = 62_021_632  # targets of the challenge's validation set
_FEWEST = 16


def loaded_buckets(buckets: int, tokens: int) -> int:
    """As many buckets as give `tokens` the real run's tokens per bucket; powers of two stay so."""
    wanted = max(float(_FEWEST), buckets * tokens / REAL_TOKENS)
    if buckets & (buckets - 1) == 0:
        wanted = 2.0 ** round(math.log2(wanted))
    return min(buckets, round(wanted))
