"""A run: a search, its executor, its log and its results."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from qdmerge.backend import GenomeBackend, side_tasks
from qdmerge.errors import QDMergeError, RunError
from qdmerge.execution import Evaluator, Executor, ProcessExecutor, SerialExecutor, limit_threads
from qdmerge.runs._building import (
    DECISIVE,
    BuildBackend,
    SharedBackend,
    build_search,
    can_illustrate,
    changed_facts,
    domain_facts,
    draw_examples,
    final_criteria,
    objectives,
)
from qdmerge.runs._final import choose_and_test, incumbents
from qdmerge.runs._folder import RunFolder, versions
from qdmerge.runs._history import describe_domain, read_history
from qdmerge.runs._log import Event, EventLog
from qdmerge.runs._scores import SplitScores
from qdmerge.runs._search import Listener, LoggedSearch, RunProgress, stage_progress
from qdmerge.search import CycleQD, archive_stats
from qdmerge.settings import RunConfig
from qdmerge.storage import content_digest, moved_into_place

_EXAMPLES = RunProgress("drawing examples", 0, 0)


def _digest(settings: Mapping[str, Any]) -> str:
    return content_digest(settings, sort_keys=True)[:16]


class Run:
    """A run in its folder, new, interrupted or finished.

    Args:
        folder: The run's folder.
        config: Its configuration.

    Attributes:
        folder: The run's folder.
        config: Its configuration.
        warnings: Problems that do not affect the results, a line each.
    """

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        self.folder = folder
        self.config = config
        self.warnings: list[str] = []

    @classmethod
    def create(cls, config: RunConfig, out: str | Path) -> Run:
        """Begin a run in a new folder.

        Raises:
            RunError: The folder is not empty, or cannot be written.
        """
        return cls(RunFolder.create(out, config), config)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open the run in a folder.

        Raises:
            RunError: The folder holds no run, or it cannot be read.
        """
        folder = RunFolder.open(path)
        return cls(folder, folder.read_config())

    @property
    def threads(self) -> int:
        """CPU threads of each worker; by default the cores are shared among the workers."""
        execution = self.config.execution
        return execution.threads or max(1, (os.cpu_count() or 1) // execution.workers)

    def execute(
        self, listener: Listener = lambda progress: None, shared: SharedBackend | None = None
    ) -> dict[str, Any]:
        """Start the run, or resume it from its event log.

        Args:
            listener: Receives the progress.
            shared: Backend and executor that several runs share; the caller closes them, and
                nothing is exported or drawn. None to build them for this run.

        Returns:
            The content of ``results.json``.

        Raises:
            QDMergeError: The run cannot start or continue; what is in the log is kept.
            KeyboardInterrupt: Passed on after the log is complete.
        """
        began = round(time.time(), 3)
        with self.folder.locked():
            self.folder.clear()
            log = EventLog(self.folder.log)
            self._check_log(log)
            own = shared is None
            if shared is None:
                backend = self._build(listener)
                shared = SharedBackend(backend, self._executor(backend))
            try:
                results = self._execute(log, shared, listener, began)
                if own:
                    self._export(shared.backend, results)
                    self._illustrate(shared.backend, listener)
                return results
            except KeyboardInterrupt:
                _log_stop(log, "interrupted")
                raise
            except Exception as error:
                _log_stop(log, f"{type(error).__name__}: {error}")
                raise
            finally:
                if own:
                    shared.executor.close()
                    shared.backend.close()
                log.close()

    def illustrate(self, listener: Listener = lambda progress: None) -> list[Path]:
        """Let the backend draw its own figures of a finished run.

        Args:
            listener: Receives the progress.

        Returns:
            Paths of the figures.

        Raises:
            ConfigError: The backend has no figures of its own.
            RunError: The run has no results yet, its models or data have changed, or the figures
                could not be drawn.
        """
        self.folder.read_results()  # before the backend is built, which can take long
        backend = self._build(listener)
        try:
            _check_same_domain(self.folder.read_events()[0], self._start_facts(backend))
            listener(_EXAMPLES)
            return draw_examples(self.folder, backend)
        finally:
            backend.close()

    def check_unchanged(self, log: EventLog, backend: GenomeBackend) -> None:
        """Check that a log is of this configuration, and of the backend's models and data.

        Raises:
            RunError: It is not, or the run has not begun.
        """
        if not log.events:
            raise RunError(f"{self.folder.path} has not begun; resume it first")
        self._check_log(log)
        _check_same_domain(log.events[0], self._start_facts(backend))

    def _build(self, listener: Listener) -> GenomeBackend:
        limit_threads(self.threads)
        self.config.backend.prepare(stage_progress(listener))
        listener(RunProgress("building the backend", 0, 0))
        return BuildBackend(self.config)()

    def _check_log(self, log: EventLog) -> None:
        if not log.events:
            return
        if log.events[0]["event"] != "start":
            raise RunError(f"{self.folder.log} does not begin with a start; it is not a run's log")
        # The file as it was written counts, too: a setting may have been renamed since.
        known = (_digest(self.config.echo()), _digest(self.folder.read_plain_config()))
        if log.events[0]["config"] not in known:
            raise RunError(
                f"{self.folder.log} belongs to another configuration than {self.folder.config}; "
                "undo the change, or start a new run with it"
            )

    def _executor(self, backend: GenomeBackend) -> Executor:
        execution = self.config.execution
        if execution.workers == 1:
            return SerialExecutor(backend)
        return ProcessExecutor(
            BuildBackend(self.config), execution.workers, self.threads, execution.timeout
        )

    def _execute(
        self, log: EventLog, shared: SharedBackend, listener: Listener, began: float
    ) -> dict[str, Any]:
        config, backend = self.config, shared.backend
        criteria = final_criteria(config.final, backend.tasks)
        search = build_search(config, backend)
        store = self.folder.solutions
        evaluator = Evaluator(shared.executor, config.execution.retries)
        logged = LoggedSearch(
            search,
            evaluator,
            log,
            store,
            budget=config.evaluations,
            seconds=config.seconds,
            in_flight=config.execution.in_flight or config.execution.workers,
            order=config.execution.order,
            max_failures=config.execution.max_failures,
            listener=listener,
        )
        space = backend.space
        self.folder.check_room(config.evaluations + 64, space.dim * np.dtype(space.dtype).itemsize)
        guided = bool(objectives(config, search))
        start = self._start_facts(backend, guided)
        if log.events:
            _check_same_domain(log.events[0], start)
            listener(RunProgress("replaying the log", 0, 0))
            logged.replay()
            log.append("resume", began=began, versions=versions())
        else:
            log.append("start", began=began, **start)
        done = any(event["event"] == "done" for event in log.events)
        if not done:
            seconds = shared.prepare(listener, guided)
            if not any(event["event"] == "prepared" for event in log.events):
                log.append("prepared", seconds=round(seconds, 4))
        logged.run()
        side = [task.name for task in side_tasks(backend)]
        scores = SplitScores(search.tasks, side, evaluator, log, store, listener)
        table = choose_and_test(search, config.final, scores, criteria, config.seed)
        if config.final.table == "picks":
            history = read_history(self.folder.read_events())
            criterion = criteria[config.final.choose_by]
            table["incumbents"] = incumbents(history, criterion, scores, store)
        if not done:
            log.append("done", chosen=table["chosen"])
        return self._write_results(search, scores, table)

    def _export(self, backend: GenomeBackend, table: dict[str, Any]) -> None:
        """Export the chosen model into the folder, if the backend can export."""
        if type(backend).export is GenomeBackend.export or self.folder.model.exists():
            return
        chosen = next(row for row in table["candidates"] if row["name"] == table["chosen"])
        x = self.folder.solutions.get(chosen["solution"])
        try:
            with moved_into_place(self.folder.model) as model:
                backend.export(x, model)
        except OSError as error:
            raise RunError(
                f"cannot write {self.folder.model}: {error.strerror or error}. The results are "
                "complete; make room, then resume the run"
            ) from error

    def _illustrate(self, backend: GenomeBackend, listener: Listener) -> None:
        """Let the backend draw its own figures; an error becomes a warning."""
        if not can_illustrate(backend):
            return
        listener(_EXAMPLES)
        try:
            draw_examples(self.folder, backend)
        except QDMergeError as error:
            self.warnings.append(
                f"{error}. The results are complete; try again with: qdmerge report "
                f"{self.folder.path} --examples"
            )

    def _start_facts(self, backend: GenomeBackend, guided: bool = False) -> dict[str, Any]:
        facts = {
            "threads": self.threads,
            "dim": backend.space.dim,
            "space": backend.space.name,
            **domain_facts(backend, guided),
        }
        return {
            "config": _digest(self.config.echo()),
            "versions": versions(),
            "facts": facts,
            **describe_domain(backend),
        }

    def _write_results(
        self, search: CycleQD, scores: SplitScores, table: dict[str, Any]
    ) -> dict[str, Any]:
        history = read_history(self.folder.read_events())
        results = {
            "tasks": search.tasks,
            **table,
            "evaluations": history.n_children,
            "evaluations_after_search": scores.evaluations,
            "failed": history.n_failed,
            "gradient_passes": history.gradient_passes,
            "seconds": {
                "total": round(sum(history.session_seconds), 1),
                "evaluating": round(history.evaluating_seconds, 1),
                "guiding": round(history.guiding_seconds, 1),
                "preparing": round(history.preparing_seconds, 1),
            },
            "archives": archive_stats(search),
            "seed": self.config.seed,
            "facts": history.facts,
            "config": self.config.echo(),
            "versions": {**versions(), **history.facts.get("versions", {})},
        }
        self.folder.write_results(results)
        return results


def _check_same_domain(recorded: Event, now: Event) -> None:
    """Raise RunError if tasks, models or data have changed since the run began."""
    changed = [
        name
        for name in ("tasks", "measures", "experts")
        if recorded.get(name) != json.loads(json.dumps(now[name]))
    ]
    guide = ["guide"] if "guide" in recorded["facts"] and "guide" in now["facts"] else []
    names = ("space", "dim", *DECISIVE, *guide)
    changed += changed_facts(recorded["facts"], now["facts"], names)
    if changed:
        raise RunError(
            f"{', '.join(changed)} changed since the run began, so its scores are of other models, "
            "data or numbers; restore them, or start a new run"
        )


def _log_stop(log: EventLog, reason: str) -> None:
    """Log why a run stopped; the error itself is raised in any case."""
    if not log.empty:
        with suppress(RunError):
            log.append("stop", reason=reason)


def run_or_resume(
    config: RunConfig, path: str | Path, listener: Listener = lambda progress: None
) -> dict[str, Any]:
    """Return the results of a run; if it has none yet, start it or resume it from its log.

    A script of many runs can thus be interrupted and run again.

    Args:
        config: The run's configuration.
        path: The run's folder.
        listener: Receives the progress.

    Returns:
        The content of ``results.json``.

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
