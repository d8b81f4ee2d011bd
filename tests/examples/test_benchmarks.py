"""Scripts that measure, on what is small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.mark.slow  # five commands, one after the other
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_runs_are_resumed_to_the_same_end(workers: int) -> None:
    command = [sys.executable, str(BENCHMARKS / "resume.py"), "toy", "--kills", "3"]
    for setting in ("evaluations=60", "final.bootstrap=100", f"execution.workers={workers}"):
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill 3, of `resume`: " in done.stdout
    assert done.stdout.endswith("equal: events, solutions and results of both runs\n")
