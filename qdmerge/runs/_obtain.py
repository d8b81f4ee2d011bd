"""Results of runs for scripts that compare many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qdmerge.config import RunConfig
from qdmerge.errors import RunError
from qdmerge.runs._folder import RunFolder
from qdmerge.runs._run import Run
from qdmerge.runs._search import Listener


def obtain_results(
    config: RunConfig, path: str | Path, listener: Listener = lambda progress: None
) -> dict[str, Any]:
    """The results of a run; it is started, or goes on where its log ends, if it has none yet.

    So a script that compares many runs can be stopped and started again.

    Args:
        config: The run's configuration.
        path: The run's folder.
        listener: Is told of the progress.

    Returns:
        ``results.json``.

    Raises:
        RunError: The folder holds a run of another configuration, or the run fails.
    """
    if not RunFolder(path).config.exists():
        return Run.create(config, path).execute(listener)
    run = Run.open(path)
    if run.config != config:
        raise RunError(
            f"{run.folder.path} holds a run of another configuration; choose another folder"
        )
    return run.folder.read_results() if run.folder.results.exists() else run.execute(listener)
