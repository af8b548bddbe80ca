"""The data that a command was told to use, and the name of what is done with it."""

import hashlib
from argparse import Namespace

from hedge_record.config import RecordConfig
from hedge_record.data.corpus import data_identity, prepare_folder
from hedge_record.data.embedded import prepare_embedded
from hedge_record.data.folder import DataFolder, open_data_folder
from hedge_record.data.user_text import read_text_corpus
from hedge_record.progress import Reporter


def prepare_data(options: Namespace, config: RecordConfig, reporter: Reporter) -> DataFolder:
    """The folder of `--data`, the text of `--text`, or the embedded corpus, ready to be read."""
    vocab_size = config.model.vocab_size
    if options.data is not None:
        return open_data_folder(options.data)
    if options.text is not None:
        corpus = read_text_corpus(options.text)
        name = f"text_{corpus.source['sha256'][:12]}_sp{vocab_size}"
        return prepare_folder(corpus, options.data_root / name, vocab_size, reporter=reporter)
    return prepare_embedded(options.data_root, vocab_size, reporter=reporter)


def bundle_data_paths(data: DataFolder) -> tuple[str, str]:
    """The defaults of DATA_PATH and TOKENIZER_PATH: below `./data`, on whatever machine."""
    folder = f"./data/{data.path.name}"
    return folder, f"{folder}/{data.tokenizer.name}"


def run_digest(script: str, data: DataFolder) -> str:
    """Tells runs apart by their code, configuration and data."""
    identity = f"{script}\n{sorted(data_identity(data.path)['files'].items())}"
    return hashlib.sha256(identity.encode("utf-8")).hexdigest()[:12]
