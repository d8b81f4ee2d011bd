"""A run with noisy scores goes on exactly where it was killed."""

from __future__ import annotations

from qdmerge_toy import ToyBackend

from qdmerge.runs import Run, read_events
from tests.runs.conftest import toy_config


def test_a_killed_run_of_noisy_scores_resumes_exactly(tmp_path, monkeypatch):
    """The toy is as it was, so that two runs can be compared; the search does not know that."""
    monkeypatch.setattr(ToyBackend, "noisy", True, raising=False)
    config = toy_config(14, "merge")
    whole = Run.create(config, tmp_path / "whole")
    expected = whole.execute()
    events = read_events(tmp_path / "whole" / "events.jsonl")
    asked = [event for event in events if event["event"] == "ask" and event["batch"] >= 0]
    assert any(event["parents"] == [None] for event in asked), "nothing was evaluated again"
    lines = (tmp_path / "whole" / "events.jsonl").read_bytes().splitlines(keepends=True)
    for keep in (len(lines) // 3, len(lines) // 2):
        killed = Run.create(config, tmp_path / f"killed{keep}")
        killed.folder.log.write_bytes(b"".join(lines[:keep]))
        for path in (tmp_path / "whole" / "solutions").iterdir():
            target = killed.folder.path / "solutions" / path.name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
        found = killed.execute()
        assert found["archives"] == expected["archives"]
        assert found["chosen"] == expected["chosen"]
