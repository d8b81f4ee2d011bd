"""A comparison: runs of several methods and seeds on one configuration, in one folder."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from qdmerge.backend import GenomeBackend, Task
from qdmerge.baselines import grid_size
from qdmerge.methods import Method, configure, misfits
from qdmerge.compare._shared import SharedEvaluations
from qdmerge.config import RunConfig
from qdmerge.errors import ConfigError, QDMergeError, RunError
from qdmerge.execution import WorkerPool, limit_threads
from qdmerge.runs import (
    BuildBackend,
    Listener,
    Progress,
    Run,
    RunFolder,
    Workplace,
    build_search,
)
from qdmerge.spaces import WeightSpace

_RUNS_PER_WORKER = 2
"""Runs under way per worker: while one makes a child, another's is evaluated."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes:
        block: Name of the test bed.
        name: Name of the method.
        method: The method.
        seed: Seed of the run; None where the method does not depend on it.
        config: The run's configuration.
        folder: Its folder.
    """

    block: str
    name: str
    method: Method
    seed: int | None
    config: RunConfig
    folder: Path

    @property
    def label(self) -> str:
        """What messages call it."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.name}{seed} on {self.block}"


class Study:
    """Runs of several methods and seeds, each in a folder of its own, which share evaluations.

    Args:
        blocks: Name of a test bed to what all methods are compared on there; the tasks have the
            same names everywhere.
        methods: Name to method.
        seeds: Number of seeds, counted up from the configuration's.
        evaluations: Models that each search may evaluate on validation.
        folder: The comparison's folder; one that exists is gone on with, and may gain methods and
            seeds.
        workers: Processes that evaluate; None for the configured number.

    Attributes:
        config: What the first test bed has.
        tasks: The tasks; known after :meth:`execute`.
        failures: Label to cause of the runs that failed in this session.

    Raises:
        ConfigError: No seeds or evaluations.
        RunError: The folder holds a comparison of another configuration, or something else.
    """

    def __init__(
        self,
        blocks: Mapping[str, RunConfig],
        methods: Mapping[str, Method],
        *,
        seeds: int,
        evaluations: int,
        folder: Path,
        workers: int | None = None,
    ) -> None:
        problems = [
            f"{name} must be at least 1; got {number}"
            for name, number in (("seeds", seeds), ("evaluations", evaluations))
            if number < 1
        ]
        if problems:
            raise ConfigError("\n".join(problems))
        self.blocks = dict(blocks)
        self.config = config = next(iter(blocks.values()))
        self.methods = dict(methods)
        self.seeds = range(config.seed, config.seed + seeds)
        self.evaluations = evaluations
        self.folder = folder
        self.workers = workers or config.execution.workers
        self.tasks: tuple[Task, ...] = ()
        self.failures: dict[str, str] = {}
        self._count = threading.Lock()
        self._check_folder()

    def _check_folder(self) -> None:
        now: dict[str, Any] = {"evaluations": self.evaluations, "blocks": {}}
        for block, config in self.blocks.items():
            echo = config.echo()
            # More seeds and other workers change no run; the budget is each method's.
            kept = echo.keys() - {"seed", "execution", "evaluations"}
            now["blocks"][block] = {key: echo[key] for key in echo if key in kept}
        path = self.folder / "compare.yaml"
        try:
            if path.is_file():
                then = yaml.safe_load(path.read_text(encoding="utf-8"))
                if then != now:
                    raise RunError(
                        f"{self.folder} holds a comparison of another configuration "
                        f"({_difference(then, now)}); choose another --out"
                    )
                return
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise RunError(f"{self.folder} is not empty; choose another --out")
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(now, sort_keys=False), encoding="utf-8")
        except (OSError, yaml.YAMLError) as error:
            raise RunError(f"cannot use {self.folder} for a comparison: {error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(f"another process is comparing in {self.folder}") from error
        try:
            yield
        finally:
            lock.release()

    def execute(self, listener: Listener = lambda progress: None) -> list[PlannedRun]:
        """Runs what has no results yet; a run that fails is told in :attr:`failures`.

        Args:
            listener: Is told of the progress over all runs.

        Returns:
            All runs, finished, or failed.

        Raises:
            ConfigError: Methods that do not fit the configuration; nothing has begun then.
            QDMergeError: The backend cannot be built.
            KeyboardInterrupt: Passed on; everything so far is kept.
        """
        with self._locked():
            threads = self.config.execution.threads or max(1, (os.cpu_count() or 1) // self.workers)
            limit_threads(threads)
            planned = [
                run
                for block, config in self.blocks.items()
                for run in self._plan(block, config, listener)
            ]
            pool = WorkerPool(self.workers, threads, self.config.execution.timeout)
            shared = SharedEvaluations(pool, self.folder / "evaluations.jsonl")
            counter = _Counter(planned, listener)
            try:
                for group in _by_domain(planned):
                    self._execute_group(group, shared, counter, listener)
            finally:
                shared.close()
            return planned

    def _plan(self, block: str, base: RunConfig, listener: Listener) -> list[PlannedRun]:
        """All runs of a test bed, checked against its own backend."""
        _prepare(base, listener)
        backend = BuildBackend(base)()
        try:
            weights = isinstance(backend.space, WeightSpace)
            self._check_tasks(block, backend.tasks)
            problem = misfits(self.methods, base, len(backend.tasks), weights)
            if problem:
                raise ConfigError(problem)
            planned = []
            for name, method in self.methods.items():
                for seed in self.seeds if method.seeded else [None]:
                    config = configure(
                        method,
                        base,
                        seed=base.seed if seed is None else seed,
                        evaluations=self.evaluations,
                        weights=weights,
                        grid_size=grid_size,
                    )
                    end = "run" if seed is None else f"seed-{seed}"
                    folder = self.folder / "runs" / block / name / end
                    planned.append(PlannedRun(block, name, method, seed, config, folder))
            own = (base.backend, base.space)
            for run in {run.name: run for run in planned}.values():
                if (run.config.backend, run.config.space) == own:
                    _check_parts(run, backend)
        finally:
            backend.close()
        return planned

    def _check_tasks(self, block: str, tasks: Sequence[Task]) -> None:
        names = [task.name for task in tasks]
        if self.tasks and names != [task.name for task in self.tasks]:
            raise ConfigError(
                f"test bed '{block}' has other tasks ({', '.join(names)}) than the first one; "
                "compare them one by one"
            )
        self.tasks = tuple(tasks)

    def _execute_group(
        self,
        group: Sequence[PlannedRun],
        shared: SharedEvaluations,
        counter: _Counter,
        listener: Listener,
    ) -> None:
        """Runs that share a backend and a space."""
        open_runs = []
        for run in group:
            folder = RunFolder(run.folder)
            if not folder.results.is_file():
                open_runs.append(run)
                continue
            if folder.read_config() != run.config:
                self._failed(run, _other_configuration(run))
            counter.ended(run)
        if not open_runs:
            return
        config = group[0].config
        try:
            _prepare(config, listener)
            build = BuildBackend(config)
            backend = build()
        except QDMergeError as error:
            for run in open_runs:
                self._failed(run, error)
            return
        try:
            executor = shared.executor(_domain(config, backend.facts()), build)
            workplace = Workplace(backend, executor)
            self._execute_runs(open_runs, workplace, shared, counter)
        finally:
            backend.close()

    def _execute_runs(
        self,
        runs: Sequence[PlannedRun],
        workplace: Workplace,
        shared: SharedEvaluations,
        counter: _Counter,
    ) -> None:
        with ThreadPoolExecutor(_RUNS_PER_WORKER * self.workers) as threads:
            waiting: set[Future[None]] = {
                threads.submit(self._execute_run, run, workplace, counter) for run in runs
            }
            try:
                while waiting:
                    # A wait without end would keep Ctrl-C from being heard on some platforms.
                    ended, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
                    for future in ended:
                        future.result()
            except BaseException:
                shared.stop()
                for future in waiting:
                    future.cancel()
                raise

    def _execute_run(self, planned: PlannedRun, workplace: Workplace, counter: _Counter) -> None:
        try:
            folder = RunFolder(planned.folder)
            if folder.config.exists():
                run = Run.open(planned.folder)
                if run.config != planned.config:
                    raise _other_configuration(planned)
            else:
                run = Run.create(planned.config, planned.folder)
            run.execute(counter.of(planned), workplace)
        except Exception as error:
            self._failed(planned, error)
        counter.ended(planned)

    def _failed(self, planned: PlannedRun, error: Exception) -> None:
        cause = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, QDMergeError):
            cause = f"{type(error).__name__}: {cause}"
        with self._count:
            self.failures[planned.label] = cause


def _difference(then: Any, now: Mapping[str, Any]) -> str:
    """What differs between two plain comparisons, in words."""
    if not isinstance(then, dict) or not isinstance(then.get("blocks"), dict):
        return "its compare.yaml is damaged"
    if then.get("evaluations") != now["evaluations"]:
        return f"{then.get('evaluations')} evaluations, not {now['evaluations']}"
    if list(then["blocks"]) != list(now["blocks"]):
        return f"test beds {', '.join(then['blocks'])}, not {', '.join(now['blocks'])}"
    pairs = [(then["blocks"][block], now["blocks"][block]) for block in now["blocks"]]
    keys = [key for old, new in pairs for key in new if old.get(key) != new[key]]
    return f"other settings of {', '.join(dict.fromkeys(keys))}"


def _check_parts(run: PlannedRun, backend: GenomeBackend) -> None:
    try:
        build_search(run.config, backend)
    except QDMergeError as error:
        raise ConfigError(f"method '{run.name}': {error}") from error


def _other_configuration(planned: PlannedRun) -> RunError:
    return RunError(
        f"{planned.folder} holds a run of another configuration: the method has changed. Remove "
        "it, or choose another --out"
    )


class _Counter:
    """Sums the progress of all runs."""

    def __init__(self, planned: Sequence[PlannedRun], listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._total = sum(run.config.evaluations for run in planned)
        self._runs = len(planned)
        self._ended: set[str] = set()
        self._done: dict[str, int] = {}

    def of(self, planned: PlannedRun) -> Callable[[Progress], None]:
        def hear(progress: Progress) -> None:
            if progress.stage == "search":
                with self._lock:
                    self._done[planned.label] = progress.done
                    self._tell()

        return hear

    def ended(self, planned: PlannedRun) -> None:
        with self._lock:
            self._ended.add(planned.label)
            self._done[planned.label] = planned.config.evaluations
            self._tell()

    def _tell(self) -> None:
        stage = f"{len(self._ended)} of {self._runs} runs"
        done = min(sum(self._done.values()), self._total)
        self._listener(Progress(stage, done, self._total))


def _prepare(config: RunConfig, listener: Listener) -> None:
    config.backend.prepare(lambda stage, done, total: listener(Progress(stage, done, total)))


def _by_domain(planned: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
    """Runs that share a backend and a space, in order: a worker keeps one backend at a time."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in planned:
        groups.setdefault(_domain(run.config, {}), []).append(run)
    return list(groups.values())


def _domain(config: RunConfig, facts: Mapping[str, Any]) -> str:
    """Stands for everything that decides the scores of a solution."""
    echo = config.echo()
    what = [echo["backend"], echo["space"], facts.get("weights"), facts.get("items")]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
