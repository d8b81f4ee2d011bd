"""Search baselines by name in runs: logged, and resumed exactly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from qdmerge.runs import Run, read_events
from qdmerge.settings import parse_config
from tests.runs.conftest import essence, timeless

SEARCHES: dict[str, dict[str, Any]] = {
    "random": {"distribution": "uniform"},
    "scalar_cma_es": {"objective": "geometric_mean", "popsize": 4},
    "nsga2": {"population": 6},
    "m2n2": {"population": 5},
    "iso_line": {"iso_sigma": 0.05},
}


def steps(run: Path) -> list[dict[str, Any]]:
    """The steps of the search; at the end, what failed is tried once more by every session."""
    events = essence(read_events(run / "events.jsonl"))
    return [event for event in events if event["event"] in ("ask", "scores", "failed", "tell")]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    config = parse_config(
        {
            "backend": {"name": "toy", "fault": "nan", "fault_rate": 0.2},
            "evaluations": 24,
            "archive": {"name": "grid", "bins": 6},
            "emitters": [{"name": name, **SEARCHES[name]}],
            "scheduler": "fixed",
            "final": {"leading": 2, "bootstrap": 100},
        }
    )
    results = Run.create(config, tmp_path / "whole").execute()
    log = (tmp_path / "whole" / "events.jsonl").read_bytes()
    expected = steps(tmp_path / "whole")
    assert {event["task"] for event in expected if event["event"] == "ask"} == {None, "task0"}
    assert any(event["event"] == "failed" for event in expected)
    for share in (0.4, 0.7):
        cut = tmp_path / f"cut{share}"
        shutil.copytree(tmp_path / "whole", cut)
        (cut / "results.json").unlink()
        (cut / "events.jsonl").write_bytes(log[: int(share * len(log))])
        assert timeless(Run.open(cut).execute()) == timeless(results)
        assert steps(cut) == expected
