"""The benchmark of the static audit, on a few of the repository's own cases."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "static_audit.py"


def test_it_measures_without_a_clone() -> None:
    command = [sys.executable, str(SCRIPT), "--repo", "", "--runs", "1", "--every", "30"]
    done = subprocess.run(
        [*command, "--format", "json"], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert result["scripts"] >= 2
    assert result["audit_cpu"] > result["parse_cpu"] > 0
    assert result["cpu_ratio"] == result["audit_cpu"] / result["parse_cpu"]
    assert all(wall > 0 and cpu > 0 for wall, cpu in result["peers"].values())


def test_a_clone_that_is_none_is_named(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--repo", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("static_audit: ")
    assert done.stderr.count("\n") == 1
