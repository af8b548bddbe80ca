"""A data folder: training shards, validation shards and the tokenizer that wrote them.

    DIR/fineweb_train_000000.bin ...    DIR/fineweb_val_000000.bin ...    DIR/<name>.model

The challenge's own layout, `datasets/<name>/` beside `tokenizers/`, is understood as well.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hedge_record.data.byte_table import ByteTable
from hedge_record.data.shards import (
    TokenStream,
    count_tokens,
    find_shards,
    load_validation_tokens,
)
from hedge_record.errors import RecordError

MINIMUM_VALIDATION_TOKENS = 1024


@dataclass(frozen=True)
class DataFolder:
    """Where the shards and the tokenizer lie; nothing is read before it is asked for."""

    path: Path
    tokenizer: Path

    def training_stream(self, vocab_size: int) -> TokenStream:
        """The training shards as one endless stream.

        Raises:
            RecordError: no shard, or a damaged one.
        """
        return TokenStream(find_shards(self.path, "train"), vocab_size)

    def check_validation_size(self, sequence_length: int) -> None:
        """Looks at the headers of the validation shards, not at a token.

        Raises:
            RecordError: no shard, or too few tokens to score one full window.
        """
        count = count_tokens(find_shards(self.path, "val"))
        needed = max(sequence_length + 1, MINIMUM_VALIDATION_TOKENS)
        if count < needed:
            raise RecordError(
                f"{self.path}: {count:,} validation tokens are too few for a score; "
                f"give text for at least {needed:,}"
            )

    def validation_tokens(self, vocab_size: int, sequence_length: int) -> Tensor:
        """All validation tokens in order, int64 [N].

        Raises:
            RecordError: no shard, a damaged one, or too few tokens to score one full window.
        """
        self.check_validation_size(sequence_length)
        return load_validation_tokens(find_shards(self.path, "val"), vocab_size)

    def byte_table(self, vocab_size: int) -> ByteTable:
        """The tokenizer's byte table.

        Raises:
            RecordError: no tokenizer, or one of another vocabulary size.
        """
        table = ByteTable.from_sentencepiece(self.tokenizer)
        if table.vocab_size != vocab_size:
            raise RecordError(
                f"{self.tokenizer}: {table.vocab_size} pieces, but the model has {vocab_size}; "
                "choose a preset or a tokenizer with the same vocabulary"
            )
        return table


def open_data_folder(path: Path) -> DataFolder:
    """Finds the tokenizer of a folder of shards.

    Raises:
        RecordError: the folder is missing, holds no shards, or has no tokenizer or several.
    """
    if not path.is_dir():
        raise RecordError(f"{path}: no such folder; give one that holds shards and a tokenizer")
    find_shards(path, "train")
    find_shards(path, "val")
    vocabulary = path.name.rpartition("_sp")[2]
    candidates = sorted(path.glob("*.model")) or sorted(
        path.parent.parent.glob(f"tokenizers/*_{vocabulary}_bpe.model")
    )
    if len(candidates) != 1:
        found = ", ".join(candidate.name for candidate in candidates) or "none"
        raise RecordError(f"{path}: needs exactly one tokenizer *.model, found {found}")
    return DataFolder(path, candidates[0])
