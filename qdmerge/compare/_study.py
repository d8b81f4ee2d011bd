"""A comparison: all runs, resumable, in one budget."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import yaml

from qdmerge.backend import Task
from qdmerge.compare._methods import Method
from qdmerge.compare._plan import Plan, PlannedRun, by_domain, check_distinct, domain
from qdmerge.compare._shared import SharedEvaluations, SharedExecutor
from qdmerge.errors import ConfigError, Hint, QDMergeError, RunError
from qdmerge.execution import WorkerPool, limit_threads
from qdmerge.runs import BuildBackend, Listener, Run, RunFolder, RunProgress, SharedBackend
from qdmerge.runs._building import DECISIVE, changed_facts, domain_facts
from qdmerge.runs._search import stage_progress
from qdmerge.settings import RunConfig, parse_config
from qdmerge.storage import locked, write_whole


class Counter:
    """The summed progress of all runs, which report from threads of their own."""

    def __init__(self, planned: Sequence[PlannedRun], listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._total = sum(run.config.evaluations for run in planned)
        self._runs = len(planned)
        self._ended: set[str] = set()
        self._done: dict[str, int] = {}

    def of(self, planned: PlannedRun) -> Listener:
        """Return the listener of one run."""

        def count(progress: RunProgress) -> None:
            if progress.stage == "search":
                with self._lock:
                    self._done[planned.label] = progress.done
                    self._report()

        return count

    def ended(self, planned: PlannedRun) -> None:
        """Count a run as ended, well or not."""
        with self._lock:
            self._ended.add(planned.label)
            self._done[planned.label] = planned.config.evaluations
            self._report()

    def _report(self) -> None:
        stage = f"{len(self._ended)} of {self._runs} runs"
        done = min(sum(self._done.values()), self._total)
        self._listener(RunProgress(stage, done, self._total))


_DESCRIPTION, _LOCK = "compare.yaml", ".lock"
_RUNS_DEPEND_ON = ("threads", "order", "retries", "max_failures")
_RUNS_PER_WORKER = 2
"""Runs at once per worker: while one makes a child, another's child is evaluated."""


class Study:
    """A comparison: runs of several methods and seeds, which share evaluations.

    Each run has a folder of its own.

    Args:
        test_beds: Name of a test bed to its configuration; their tasks have the same names.
        methods: Name to method.
        seeds: Number of seeds; the first is the configuration's.
        evaluations: Models that each search may evaluate on validation.
        seconds: Seconds of evaluating and guiding after which a method ends; None for no limit.
        folder: Folder of the comparison. An existing one is resumed; methods and seeds may be
            added.
        workers: Worker processes; None for the configured number.

    Attributes:
        config: Configuration of the first test bed.
        tasks: The tasks; known after :meth:`execute`.
        failures: Label to cause of the runs that failed in this session.

    Raises:
        ConfigError: No seeds, evaluations or workers.
        RunError: The folder holds a comparison of another configuration, or something else.
    """

    def __init__(
        self,
        test_beds: Mapping[str, RunConfig],
        methods: Mapping[str, Method],
        *,
        seeds: int,
        evaluations: int,
        folder: Path,
        workers: int | None = None,
        seconds: float | None = None,
    ) -> None:
        numbers = {"seeds": seeds, "evaluations": evaluations, "workers": workers}
        problems = [
            f"{name} must be at least 1; got {number}"
            for name, number in numbers.items()
            if number is not None and number < 1
        ]
        if seconds is not None and not 0 < seconds < math.inf:
            problems.append(f"seconds must be a number above 0; got {seconds}")
        if problems:
            raise ConfigError("\n".join(problems))
        self.test_beds = dict(test_beds)
        self.config = config = next(iter(test_beds.values()))
        self.methods = dict(methods)
        self.seeds = range(config.seed, config.seed + seeds)
        self.evaluations = evaluations
        self.seconds = seconds
        self.folder = folder
        self.workers = workers or config.execution.workers
        self.tasks: tuple[Task, ...] = ()
        self.failures: dict[str, str] = {}
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._count = threading.Lock()
        self._check_folder()

    def _description(self) -> dict[str, Any]:
        """Return what may not change between two sessions of a comparison."""
        settings = {name: _shared_settings(config) for name, config in self.test_beds.items()}
        limit = {} if self.seconds is None else {"seconds": self.seconds}
        return {"evaluations": self.evaluations, **limit, "blocks": settings}

    def _check_folder(self) -> None:
        path = self.folder / _DESCRIPTION
        try:
            if path.is_file():
                then = _read_description(path)
                if changed := changed_keys(then, self._description()):
                    raise RunError(
                        f"{self.folder} holds a comparison of another configuration: "
                        f"{', '.join(filter(None, changed)) or path.name} changed. Choose another "
                        "--out"
                    )
                return
            # A comparison that was refused before it began leaves these.
            harmless = {_LOCK, f"{path.name}.part"}
            if self.folder.is_dir() and {file.name for file in self.folder.iterdir()} - harmless:
                raise RunError(f"{self.folder} is not empty; choose another --out")
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError, yaml.YAMLError) as error:
            cause = " ".join(str(getattr(error, "strerror", None) or error).split())
            raise RunError(f"cannot use {self.folder} for a comparison: {cause}") from error

    def execute(self, listener: Listener = lambda progress: None) -> list[PlannedRun]:
        """Execute the runs that have no results yet; failed ones are listed in :attr:`failures`.

        Args:
            listener: Called with the progress over all runs.

        Returns:
            All runs, finished, or failed.

        Raises:
            ConfigError: Methods that do not fit the configuration; nothing was started.
            QDMergeError: The backend cannot be built.
            KeyboardInterrupt: Passed on; finished evaluations are kept.
        """
        with locked(self.folder / _LOCK, f"another process is comparing in {self.folder}"):
            threads = self.config.execution.threads or 1
            limit_threads(threads)
            plans = [
                Plan(test_bed, config, self.methods, self.seeds, self.evaluations, self.seconds)
                for test_bed, config in self.test_beds.items()
            ]
            for plan in plans:
                plan.check_settings()
            planned = []
            for plan in plans:
                tasks, facts, runs = plan.runs(self.folder / "runs" / plan.test_bed, listener)
                self._check_tasks(plan.test_bed, tasks)
                self._facts[plan.test_bed] = facts
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

    def _check_tasks(self, test_bed: str, tasks: Sequence[Task]) -> None:
        names = [task.name for task in tasks]
        if self.tasks and names != [task.name for task in self.tasks]:
            raise ConfigError(
                f"test bed '{test_bed}' has other tasks ({', '.join(names)}) than the first one; "
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
        """Execute runs that share a backend and a space."""
        open_runs, finished = [], []
        for run in group:
            folder = RunFolder(run.folder)
            if not folder.results.is_file():
                open_runs.append(run)
                continue
            try:
                _refuse_other_settings(folder.read_config(), run)
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
                config.backend.prepare(stage_progress(listener))
                build = BuildBackend(config)
                backend = stack.enter_context(closing(build()))
                guided = getattr(backend, "guide", None) is not None
                guided = guided and getattr(backend.space, "differentiable", True)
                facts = domain_facts(backend, guided)
                executor = SharedExecutor(shared, domain(config, facts), build)
                shared_backend = SharedBackend(backend, executor)
                shared_backend.prepare(listener)
            except Exception as error:
                self._failed(open_runs, error)
                for run in open_runs:
                    counter.ended(run)
                return
            for run, recorded in finished:  # facts that only the group's own backend has
                try:
                    _refuse_changed(run, recorded, facts)
                except RunError as error:
                    self._failed([run], error)
            self._execute_runs(open_runs, shared_backend, shared, counter)

    def _check_facts(self, results: Mapping[str, Any], run: PlannedRun) -> None:
        """Refuse results of other models, data or number types than the present ones."""
        base = self.test_beds[run.test_bed]
        names: Sequence[str] = DECISIVE
        if run.method.model == "multitask":
            names = ("dtype", "items")  # another model, of the same settings
        elif run.config.backend != base.backend:
            names = ()
        elif run.config.space != base.space:
            names = [name for name in DECISIVE if name != "calibration"]
        _refuse_changed(run, results["facts"], self._facts[run.test_bed], names)

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
                    # Without a timeout, Ctrl-C is ignored on some platforms.
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
                _refuse_other_settings(run.config, planned)
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


def _shared_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings of a test bed that all runs share and depend on."""
    echo = config.echo()
    # More seeds and other workers change no run; the budget is each method's.
    kept = {key: echo[key] for key in echo if key not in ("seed", "evaluations", "seconds")}
    execution = kept["execution"]
    return {**kept, "execution": {key: execution[key] for key in _RUNS_DEPEND_ON}}


def _read_description(path: Path) -> Any:
    """Read a description; settings of an earlier version are read as they are called now."""
    then = yaml.safe_load(path.read_text(encoding="utf-8"))
    test_beds = then.get("blocks") if isinstance(then, dict) else None
    if not isinstance(test_beds, dict):
        return then
    for name, settings in test_beds.items():
        # What cannot be read counts as changed; the user need not rename anything here.
        with suppress(ConfigError, TypeError, ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore", Hint)
            test_beds[name] = _shared_settings(parse_config(settings))
    return then


def changed_keys(then: Any, now: Any) -> list[str]:
    """List the dotted keys in which two plain settings differ; nothing where they are equal."""
    if not (isinstance(then, Mapping) and isinstance(now, Mapping)):
        return [] if then == now else [""]
    keys = dict.fromkeys([*now, *then])
    missing = object()
    return [
        f"{key}.{below}".rstrip(".")
        for key in keys
        for below in changed_keys(then.get(key, missing), now.get(key, missing))
    ]


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


def _refuse_other_settings(config: RunConfig, planned: PlannedRun) -> None:
    if changed := changed_keys(config.echo(), planned.config.echo()):
        raise RunError(
            f"{planned.folder} holds a run of another configuration: the method, or what all "
            f"methods share, has changed in {', '.join(changed)}. Remove it, or choose another "
            "--out"
        )
