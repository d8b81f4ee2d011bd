"""A comparison: all runs, resumable, in one budget."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import yaml

from qdmerge.backend import Task
from qdmerge.compare._methods import Method
from qdmerge.compare._plan import Plan, PlannedRun, by_domain, check_distinct, domain, prepare
from qdmerge.compare._shared_backend import SharedEvaluations
from qdmerge.errors import ConfigError, QDMergeError, RunError
from qdmerge.execution import WorkerPool, limit_threads
from qdmerge.runs import (
    DECISIVE,
    BuildBackend,
    Listener,
    Run,
    RunFolder,
    RunProgress,
    SharedBackend,
    changed_facts,
    domain_facts,
    warm_up,
)
from qdmerge.settings import RunConfig
from qdmerge.storage import locked, write_whole


class Counter:
    """Sums the progress of all runs, which report from threads of their own.

    Args:
        planned: All runs.
        listener: Is told of the sum.
    """

    def __init__(self, planned: Sequence[PlannedRun], listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._total = sum(run.config.evaluations for run in planned)
        self._runs = len(planned)
        self._ended: set[str] = set()
        self._done: dict[str, int] = {}

    def of(self, planned: PlannedRun) -> Listener:
        """Hears one run."""

        def hear(progress: RunProgress) -> None:
            if progress.stage == "search":
                with self._lock:
                    self._done[planned.label] = progress.done
                    self._tell()

        return hear

    def ended(self, planned: PlannedRun) -> None:
        """Counts a run as ended, well or not."""
        with self._lock:
            self._ended.add(planned.label)
            self._done[planned.label] = planned.config.evaluations
            self._tell()

    def _tell(self) -> None:
        stage = f"{len(self._ended)} of {self._runs} runs"
        done = min(sum(self._done.values()), self._total)
        self._listener(RunProgress(stage, done, self._total))


_DESCRIPTION, _LOCK = "compare.yaml", ".lock"
_RUNS_DEPEND_ON = ("threads", "retries", "max_failures")
_RUNS_PER_WORKER = 2
"""Runs under way per worker: while one makes a child, another's is evaluated."""


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
        ConfigError: No seeds, evaluations or workers.
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
        numbers = {"seeds": seeds, "evaluations": evaluations, "workers": workers}
        problems = [
            f"{name} must be at least 1; got {number}"
            for name, number in numbers.items()
            if number is not None and number < 1
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
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._count = threading.Lock()
        self._check_folder()

    def _description(self) -> dict[str, Any]:
        """What may not change between two sessions of a comparison."""
        now: dict[str, Any] = {"evaluations": self.evaluations, "blocks": {}}
        for block, config in self.blocks.items():
            echo = config.echo()
            # More seeds and other workers change no run; the budget is each method's.
            kept = {key: echo[key] for key in echo if key not in ("seed", "evaluations")}
            execution = kept["execution"]
            kept["execution"] = {key: execution[key] for key in _RUNS_DEPEND_ON}
            now["blocks"][block] = kept
        return now

    def _check_folder(self) -> None:
        path, now = self.folder / _DESCRIPTION, self._description()
        try:
            if path.is_file():
                then = yaml.safe_load(path.read_text(encoding="utf-8"))
                if then != now:
                    raise RunError(
                        f"{self.folder} holds a comparison of another configuration "
                        f"({_difference(then, now)}); choose another --out"
                    )
                return
            # A comparison that was refused before it began has left these.
            harmless = {_LOCK, f"{path.name}.part"}
            if self.folder.is_dir() and {file.name for file in self.folder.iterdir()} - harmless:
                raise RunError(f"{self.folder} is not empty; choose another --out")
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError, yaml.YAMLError) as error:
            cause = " ".join(str(getattr(error, "strerror", None) or error).split())
            raise RunError(f"cannot use {self.folder} for a comparison: {cause}") from error

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
        with locked(self.folder / _LOCK, f"another process is comparing in {self.folder}"):
            threads = self.config.execution.threads or 1
            limit_threads(threads)
            plans = [
                Plan(block, config, self.methods, self.seeds, self.evaluations)
                for block, config in self.blocks.items()
            ]
            for plan in plans:
                plan.check_settings()
            planned = []
            for plan in plans:
                tasks, facts, runs = plan.runs(self.folder / "runs" / plan.block, listener)
                self._check_tasks(plan.block, tasks)
                self._facts[plan.block] = facts
                planned += runs
            check_distinct(planned)
            self._describe()
            pool = WorkerPool(self.workers, threads, self.config.execution.timeout)
            shared = SharedEvaluations(pool, self.folder / "evaluations.jsonl")
            counter = Counter(planned, listener)
            try:
                for group in by_domain(planned):
                    self._execute_group(group, shared, counter, listener)
            finally:
                shared.close()
            return planned

    def _describe(self) -> None:
        path = self.folder / _DESCRIPTION
        if path.is_file():
            return
        try:
            write_whole(path, yaml.safe_dump(self._description(), sort_keys=False))
        except OSError as error:
            raise RunError(f"cannot write {self.folder}: {error}") from error

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
        counter: Counter,
        listener: Listener,
    ) -> None:
        """Runs that share a backend and a space."""
        open_runs, finished = [], []
        for run in group:
            folder = RunFolder(run.folder)
            if not folder.results.is_file():
                open_runs.append(run)
                continue
            try:
                _check_same(folder.read_config(), run)
                results = folder.read_results()
                self._check_facts(results, run)
                finished.append((run, results["facts"]))
            except RunError as error:
                self._failed([run], error)
            counter.ended(run)
        if not open_runs:
            return
        config = group[0].config
        with ExitStack() as stack:
            try:
                prepare(config, listener)
                build = BuildBackend(config)
                backend = stack.enter_context(closing(build()))
                facts = domain_facts(backend)
                warm_up(backend, listener)
            except Exception as error:
                self._failed(open_runs, error)
                for run in open_runs:
                    counter.ended(run)
                return
            for run, recorded in finished:  # what only the group's own backend can tell
                try:
                    _refuse_changed(run, recorded, facts)
                except RunError as error:
                    self._failed([run], error)
            executor = shared.executor(domain(config, facts), build)
            self._execute_runs(open_runs, SharedBackend(backend, executor), shared, counter)

    def _check_facts(self, results: Mapping[str, Any], run: PlannedRun) -> None:
        """Refuses results that were made with other models, data or numbers than there are now."""
        base = self.blocks[run.block]
        names: Sequence[str] = DECISIVE
        if run.method.model == "multitask":
            names = ("dtype", "items")  # another model, of the same settings
        elif run.config.backend != base.backend:
            names = ()
        elif run.config.space != base.space:
            names = [name for name in DECISIVE if name != "calibration"]
        _refuse_changed(run, results["facts"], self._facts[run.block], names)

    def _execute_runs(
        self,
        runs: Sequence[PlannedRun],
        shared_backend: SharedBackend,
        shared: SharedEvaluations,
        counter: Counter,
    ) -> None:
        with ThreadPoolExecutor(_RUNS_PER_WORKER * self.workers) as threads:
            waiting: set[Future[None]] = {
                threads.submit(self._execute_run, run, shared_backend, counter) for run in runs
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

    def _execute_run(self, planned: PlannedRun, backend: SharedBackend, counter: Counter) -> None:
        try:
            folder = RunFolder(planned.folder)
            if folder.config.exists():
                run = Run.open(planned.folder)
                _check_same(run.config, planned)
            else:
                run = Run.create(planned.config, planned.folder)
            run.execute(counter.of(planned), backend)
        except Exception as error:
            self._failed([planned], error)
        counter.ended(planned)

    def _failed(self, runs: Sequence[PlannedRun], error: Exception) -> None:
        cause = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, QDMergeError):
            cause = f"{type(error).__name__}: {cause}"
        with self._count:
            self.failures |= {run.label: cause for run in runs}


def _difference(then: Any, now: Mapping[str, Any]) -> str:
    """What differs between two plain comparisons, in words."""
    blocks = then.get("blocks") if isinstance(then, dict) else None
    if not (isinstance(blocks, dict) and all(isinstance(one, dict) for one in blocks.values())):
        return f"its {_DESCRIPTION} is damaged"
    if then.get("evaluations") != now["evaluations"]:
        return f"{then.get('evaluations')} evaluations, not {now['evaluations']}"
    if list(blocks) != list(now["blocks"]):
        return f"test beds {', '.join(map(str, blocks))}, not {', '.join(now['blocks'])}"
    pairs = [(blocks[block], new) for block, new in now["blocks"].items()]
    keys = [key for old, new in pairs for key in {**old, **new} if old.get(key) != new.get(key)]
    return f"other settings of {', '.join(dict.fromkeys(keys))}"


def _refuse_changed(
    run: PlannedRun,
    recorded: Mapping[str, Any],
    now: Mapping[str, Any],
    names: Sequence[str] = DECISIVE,
) -> None:
    if changed := changed_facts(recorded, now, names):
        raise RunError(
            f"{run.folder} was made with others of: {', '.join(changed)}. Restore them, remove the "
            "folder, or choose another --out"
        )


def _check_same(config: RunConfig, planned: PlannedRun) -> None:
    """Refuses a run that was made with another configuration."""
    then, now = config.echo(), planned.config.echo()
    if changed := [key for key in now if then[key] != now[key]]:
        raise RunError(
            f"{planned.folder} holds a run of another configuration: the method, or what all "
            f"methods share, has changed in {', '.join(changed)}. Remove it, or choose another "
            "--out"
        )
