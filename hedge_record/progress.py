"""How long work reports itself: library code calls a `Reporter`, the command line draws it."""

from typing import Protocol


class Reporter(Protocol):
    """Receives the progress of one stage at a time (training, Hessians, GPTQ, TTT, ...)."""

    def start(self, stage: str, total: float, unit: str) -> None:
        """Opens a stage of `total` units, for example 122,880 `tokens` or 600 `steps`."""

    def advance(self, amount: float, **figures: float) -> None:
        """Adds `amount` units; `figures` are shown beside the bar (loss, tokens_per_second)."""

    def finish(self) -> None:
        """Closes the stage."""

    def log(self, line: str) -> None:
        """One line for the training log, in the challenge's own formats."""


class SilentReporter:
    """The reporter of tests and of library calls."""

    def start(self, stage: str, total: float, unit: str) -> None:
        """Nothing is drawn."""

    def advance(self, amount: float, **figures: float) -> None:
        """Nothing is drawn."""

    def finish(self) -> None:
        """Nothing is drawn."""

    def log(self, line: str) -> None:
        """Nothing is kept."""
