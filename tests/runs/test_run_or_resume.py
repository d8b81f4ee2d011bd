"""Runs for scripts: started, gone on with, or read."""

from __future__ import annotations

import pytest

from qdmerge.errors import RunError
from qdmerge.runs import Run, run_or_resume
from tests.runs.conftest import timeless, toy_config


def test_results_are_made_once_and_read_afterwards(tmp_path):
    config = toy_config(evaluations=3)
    made = run_or_resume(config, tmp_path / "run")
    log = (tmp_path / "run" / "events.jsonl").read_bytes()
    assert run_or_resume(config, tmp_path / "run") == made
    assert (tmp_path / "run" / "events.jsonl").read_bytes() == log


def test_a_run_that_was_ended_goes_on(tmp_path):
    config = toy_config(evaluations=3)
    whole = run_or_resume(config, tmp_path / "whole")

    def stop(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run.create(config, tmp_path / "cut").execute(stop)
    assert timeless(run_or_resume(config, tmp_path / "cut"))["chosen"] == whole["chosen"]


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    run_or_resume(toy_config(evaluations=3), tmp_path / "run")
    with pytest.raises(RunError, match="another configuration"):
        run_or_resume(toy_config(evaluations=4), tmp_path / "run")
