"""How many UTF-8 bytes of text each token stands for: the denominator of bits per byte.

Three subtleties decide whether the sum over a text equals the text's own UTF-8 length:
1. A piece's leading `▁` is a space only when the token before it is text; after a boundary token
   (control, unknown, unused) SentencePiece drops that space when it decodes.
2. Byte pieces (`<0x41>`) stand for one byte, not for the six characters of their name.
3. Control, unknown and unused pieces stand for no text at all.
"""

from dataclasses import dataclass
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from hedge_record.errors import RecordError


@dataclass(frozen=True)
class ByteTable:
    """Per piece: `base_bytes` int32 [V], `has_leading_space` bool [V], `is_boundary` bool [V]."""

    base_bytes: Tensor
    has_leading_space: Tensor
    is_boundary: Tensor

    @classmethod
    def from_sentencepiece(cls, path: Path) -> "ByteTable":
        """Reads the table off a SentencePiece model.

        Raises:
            RecordError: the file is missing or no SentencePiece model.
        """
        tokenizer = load_tokenizer(path)
        size = tokenizer.vocab_size()
        base_bytes = torch.zeros(size, dtype=torch.int32)
        has_leading_space = torch.zeros(size, dtype=torch.bool)
        is_boundary = torch.zeros(size, dtype=torch.bool)
        for token in range(size):
            if (
                tokenizer.is_control(token)
                or tokenizer.is_unknown(token)
                or tokenizer.is_unused(token)
            ):
                is_boundary[token] = True
            elif tokenizer.is_byte(token):
                base_bytes[token] = 1
            else:
                piece = tokenizer.id_to_piece(token)
                has_leading_space[token] = piece.startswith("▁")
                # A further `▁` inside the piece decodes to a space as well: one byte, not three.
                text = piece.removeprefix("▁").replace("▁", " ")
                base_bytes[token] = len(text.encode("utf-8"))
        return cls(base_bytes, has_leading_space, is_boundary)

    @property
    def vocab_size(self) -> int:
        """Number of pieces V."""
        return self.base_bytes.numel()

    def to(self, device: torch.device) -> "ByteTable":
        """The same table on another device."""
        return ByteTable(
            self.base_bytes.to(device),
            self.has_leading_space.to(device),
            self.is_boundary.to(device),
        )

    def target_bytes(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """UTF-8 bytes of each target given the token before it: int32, the shape of `targets`."""
        space = self.has_leading_space[targets] & ~self.is_boundary[inputs]
        return self.base_bytes[targets] + space.int()


def load_tokenizer(path: Path) -> sentencepiece.SentencePieceProcessor:
    """Opens a SentencePiece model.

    Raises:
        RecordError: the file is missing or no SentencePiece model.
    """
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: the tokenizer cannot be read ({error.strerror})") from error
    except RuntimeError as error:
        raise RecordError(f"{path}: not a SentencePiece model") from error
