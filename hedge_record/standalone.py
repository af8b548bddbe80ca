"""What `train_gpt.py` does when it is run: the whole record, with plain lines as its report."""

from pathlib import Path

from hedge_record.config import RecordConfig
from hedge_record.data.folder import DataFolder
from hedge_record.errors import RecordError
from hedge_record.files import make_folder
from hedge_record.pipeline import ARTIFACT_NAME, run_record
from hedge_record.progress import SilentReporter
from hedge_record.result import RecordResult
from hedge_record.stages import FreshStages
from hedge_record.training.distributed import connected_ranks


class LineReporter(SilentReporter):
    """Prints log lines and writes them to a file; draws nothing."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        path.unlink(missing_ok=True)
        self._path = path

    def log(self, line: str) -> None:
        """Prints and keeps one line."""
        print(line, flush=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def standalone_main(
    config: RecordConfig, script: str, data_path: str, tokenizer_path: str
) -> RecordResult:
    """Runs the record in the current folder: artifact here, log under `logs/`.

    Exits with one line on bad data or an impossible configuration.
    """
    data = DataFolder(Path(data_path), Path(tokenizer_path))
    try:
        with connected_ranks() as (ranks, device):
            log = Path("logs") / f"train_seed{config.seed}.log"
            return run_record(
                config,
                data,
                Path(ARTIFACT_NAME),
                code_bytes=Path(script).stat().st_size,
                device=device,
                reporter=LineReporter(log) if ranks.is_first else SilentReporter(),
                stages=FreshStages(),
            )
    except RecordError as error:
        raise SystemExit(f"error: {error}") from error
