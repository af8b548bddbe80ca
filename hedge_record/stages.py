"""How the stages of a record are run: afresh, or with what an earlier session finished."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from hedge_record.progress import Reporter


class Stages(Protocol):
    """Runs the stages of a record, or knows the result of an earlier session."""

    def stage(
        self,
        name: str,
        compute: Callable[[Reporter], dict[str, Any]],
        reporter: Reporter,
        *,
        resumable: bool = False,
    ) -> dict[str, Any]:
        """The plain result of a stage, with its `seconds`."""


class FreshStages:
    """Runs every stage."""

    def stage(
        self,
        name: str,  # noqa: ARG002
        compute: Callable[[Reporter], dict[str, Any]],
        reporter: Reporter,
        *,
        resumable: bool = False,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Computes, and adds the seconds it took."""
        started = time.perf_counter()
        result = compute(reporter)
        return {"seconds": time.perf_counter() - started, **result}
