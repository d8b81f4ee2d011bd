"""The folder of an unfinished training: kept for its own training, emptied for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qdmerge.errors import ConfigError, RunError
from qdmerge.training import same_origin, unfinished


def origin(rate: float = 1.0, torch: str = "2.0") -> dict[str, Any]:
    return {"settings": {"rate": rate}, "versions": {"torch": torch}}


def test_origins_are_compared_without_versions() -> None:
    assert same_origin({**origin(torch="1.0"), "earlier_versions": [{}]}, origin())
    assert not same_origin(origin(rate=2.0), origin())
    assert not same_origin({}, origin())


def test_state_is_kept_for_the_same_training_and_removed_for_another(tmp_path: Path) -> None:
    out, seen = tmp_path / "model", []
    for made_from in (origin(), origin(torch="2.1"), origin(torch="2.1"), origin(rate=2.0)):
        with unfinished(out, made_from) as (folder, earlier):
            seen.append(((folder / "state").exists(), [old["torch"] for old in earlier]))
            (folder / "state").touch()
    assert seen == [(False, []), (True, ["2.0"]), (True, ["2.0"]), (False, [])]
    assert folder == tmp_path / "model.training"
    assert not out.exists()


def test_a_second_training_and_a_folder_of_something_else_are_refused(tmp_path: Path) -> None:
    with (
        unfinished(tmp_path / "model", origin()),
        pytest.raises(RunError, match=r"another process is training \S+model; wait"),
        unfinished(tmp_path / "model", origin()),
    ):
        pass
    (tmp_path / "other.training").mkdir()
    (tmp_path / "other.training" / "notes.txt").touch()
    with (
        pytest.raises(ConfigError, match="holds something else"),
        unfinished(tmp_path / "other", origin()),
    ):
        pass
