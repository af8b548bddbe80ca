"""What enters the residual stream beside the token embedding: bigrams, smear, values."""

import torch
from torch import Tensor, nn

from hedge_record.model.linear import CastedLinear


def bigram_buckets(tokens: Tensor, buckets: int) -> Tensor:
    """The hashed pair (previous token, token) at every position: [..., T] -> [..., T] int64.

    The last bucket is kept for position 0, which has no predecessor.
    """
    hashed = (36313 * tokens[..., 1:]) ^ (27191 * tokens[..., :-1])
    first = torch.full_like(tokens[..., :1], buckets - 1)
    return torch.cat((first, hashed % (buckets - 1)), dim=-1)


class ProjectedEmbedding(nn.Module):
    """A narrow embedding table projected to a wider vector and scaled."""

    def __init__(self, rows: int, embedding_width: int, width: int, scale: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(rows, embedding_width)
        self.proj = (
            nn.Identity()
            if embedding_width == width
            else CastedLinear(embedding_width, width, bias=False)
        )
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, indices: Tensor) -> Tensor:
        """[B, T] int64 -> [B, T, width]."""
        projected: Tensor = self.proj(self.embed(indices))
        return projected * self.scale.to(projected.dtype)


class BigramHashEmbedding(ProjectedEmbedding):
    """An input embedding of the last two tokens, both of them already seen."""

    def __init__(self, buckets: int, embedding_width: int, width: int) -> None:
        super().__init__(buckets, embedding_width, width, scale=0.05)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T] int64 -> [B, T, width]."""
        return super().forward(bigram_buckets(tokens, self.embed.num_embeddings))


class ValueEmbedding(ProjectedEmbedding):
    """A second token embedding, added to the attention values of some blocks."""

    def __init__(self, vocab_size: int, embedding_width: int, width: int) -> None:
        super().__init__(vocab_size, embedding_width, width, scale=0.1)


class SmearGate(nn.Module):
    """Mixes every position with its predecessor, by a learned share per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] -> [B, T, width]; position 0 mixes with zeros."""
        share = torch.sigmoid(self.gate.to(x.dtype))
        previous = nn.functional.pad(x, (0, 0, 1, 0))[:, :-1]
        return (1 - share) * x + share * previous
