"""The validation stream of a run as probes see it, and the shards that differ from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.dynamic.data import HEADER, DataSet, make_shard

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """`ordinary` are the tokens that stand for text, `common` those that most of the text is made
    of; `sizes` the bytes of each token of the
    vocabulary, its leading space included; `spaced` whether it begins with one."""

    tokens: Tokens
    ordinary: Tokens
    common: Tokens
    sizes: Tokens
    spaced: NDArray[np.bool_]

    @classmethod
    def of(cls, data: DataSet) -> "Stream":
        """The stream of a data set."""
        sizes = np.array([piece.size for piece in data.pieces])
        spaced = np.array([piece.text.startswith("\u2581") for piece in data.pieces])
        ordinary = np.flatnonzero(sizes > 0)
        return cls(np.array(data.validation), ordinary, np.array(data.common), sizes, spaced)

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return len(self.sizes)

    @property
    def targets(self) -> int:
        """Tokens that are predicted: all but the first."""
        return len(self.tokens) - 1

    def byte_counts(self, tokens: Tokens | None = None) -> Tokens:
        """Bytes of each target: a leading space counts unless the token before is no text."""
        stream = self.tokens if tokens is None else tokens
        before, target = stream[:-1], stream[1:]
        counted: Tokens = self.sizes[target] - (self.spaced[target] & (self.sizes[before] == 0))
        return counted

    def is_text(self, index: int) -> bool:
        """Whether token `index` stands for text, and is no document mark."""
        return bool(self.sizes[self.tokens[index]])

    def with_token(self, index: int, token: int) -> bytes:
        """The shard with another token at `index`."""
        changed = self.tokens.copy()
        changed[index] = token
        return make_shard(changed.tolist())

    def with_random(self, start: int, random: np.random.Generator) -> Tokens:
        """The stream with uniform common tokens from `start` on; document marks stay."""
        changed = self.tokens.copy()
        text = np.flatnonzero(self.sizes[changed] > 0)
        text = text[text >= start]
        changed[text] = random.choice(self.common, len(text))
        return changed

    def drawn(self, tokens: Tokens, random: np.random.Generator) -> Tokens:
        """A text of the same documents as `tokens`, uniform over all ordinary tokens."""
        text = random.choice(self.ordinary, len(tokens))
        return np.where(self.sizes[tokens] > 0, text, tokens)


def read_shard(data: bytes) -> Tokens:
    """The tokens of a shard."""
    return np.frombuffer(data, "<u2", offset=4 * HEADER).astype(np.int64)
