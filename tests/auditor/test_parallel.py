"""Work in several processes: results, order and errors are those of a loop."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from auditor import parallel
from auditor.cli import main
from auditor.errors import AuditError
from auditor.parallel import in_processes
from auditor.submission.load import load_pull_request

HERE = os.getpid()


def _square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def _refuse(number: int) -> int:
    if number % 2:
        raise AuditError(f"{number} is odd")
    return number


def _die_elsewhere(number: int) -> int:
    if number == 2 and os.getpid() != HERE:
        os._exit(1)
    return number


@pytest.fixture(autouse=True)
def _two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_processors", lambda: 2)


def test_results_come_in_order_from_other_processes() -> None:
    results = in_processes(_square, range(9))
    assert [square for square, _ in results] == [n * n for n in range(9)]
    assert HERE not in {process for _, process in results}


@pytest.mark.parametrize("things", [[], [3]])
def test_what_is_one_thing_is_done_here(things: list[int]) -> None:
    assert in_processes(_square, things) == [_square(n) for n in things]


def test_the_first_error_in_order_is_raised() -> None:
    with pytest.raises(AuditError, match="1 is odd"):
        in_processes(_refuse, [0, 1, 2, 3])


def test_what_a_process_died_of_is_done_here() -> None:
    assert in_processes(_die_elsewhere, range(5)) == list(range(5))


def test_a_report_is_the_same_however_many_processes_made_it(
    challenge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = []
    for pr in (1, 9):
        scripts.append(tmp_path / f"{pr}.py")
        scripts[-1].write_bytes(load_pull_request(challenge.path, pr)[0].main.data)
    reports = []
    for processes in (1, 2):
        monkeypatch.setattr(parallel, "_processors", lambda count=processes: count)
        output = tmp_path / f"{processes}.json"
        assert main(["audit", *map(str, scripts), "--output", str(output)]) == 1
        lines = output.read_text(encoding="utf-8").splitlines()
        reports.append([{**json.loads(text), "seconds": 0} for text in lines])
    assert reports[0] == reports[1]
