"""What `train_gpt.py` does when it is run: the whole record, with plain lines as its report."""

import os
from pathlib import Path

from hedge_record.config import RecordConfig
from hedge_record.data.folder import DataFolder
from hedge_record.errors import RecordError
from hedge_record.files import append_line, make_folder
from hedge_record.pipeline import ARTIFACT_NAME, run_record
from hedge_record.progress import SilentReporter
from hedge_record.result import RecordResult
from hedge_record.stages import FreshStages
from hedge_record.training.distributed import connected_ranks

# Switches of PR 700's script for what it submitted without, and the setting that it ran with.
OTHER_SWITCHES = {
    "QTTT": "0",
    "TTT_OPTIMIZER": "adamw",
    "INT6_LAST_N": "0",
    "QAT_ENABLED": "0",
    "TTT_ONLY": "0",
}


def check_switches() -> None:
    """Raises `RecordError` where a variable asks for a variant that there is not."""
    for name, setting in OTHER_SWITCHES.items():
        if os.environ.get(name, setting) != setting:
            raise RecordError(
                f"environment variable {name}={os.environ[name]}: this script has that variant "
                f"not; unset it, or set it to {setting}"
            )


class LineReporter(SilentReporter):
    """Prints log lines and writes them to a file; draws nothing."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        path.unlink(missing_ok=True)
        self._path = path

    def log(self, line: str) -> None:
        """Prints and keeps one line."""
        print(line, flush=True)
        append_line(self._path, line)


def standalone_main(
    config: RecordConfig, script: str, data_path: str, tokenizer_path: str
) -> RecordResult:
    """Runs the record in the current folder: artifact here, log under `logs/`
    (`logs/<RUN_ID>.txt` where that is set).

    Exits with one line on bad data or an impossible configuration.
    """
    data = DataFolder(Path(data_path), Path(tokenizer_path))
    try:
        check_switches()
        with connected_ranks() as (ranks, device):
            run_id = os.environ.get("RUN_ID")
            log = Path("logs") / (f"{run_id}.txt" if run_id else f"train_seed{config.seed}.log")
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
