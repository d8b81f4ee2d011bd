"""The runs of a comparison, and its test beds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from qdmerge.backend import GenomeBackend, Task
from qdmerge.compare._methods import DomainFacts, Method, configure, incompatibilities
from qdmerge.errors import ConfigError, QDMergeError
from qdmerge.runs import BuildBackend, Listener, build_search
from qdmerge.runs._building import DECISIVE, domain_facts, final_criteria
from qdmerge.runs._search import stage_progress
from qdmerge.settings import RunConfig
from qdmerge.spaces import WeightSpace
from qdmerge.storage import content_digest


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes:
        test_bed: Name of the test bed.
        name: Name of the method.
        method: The method.
        seed: Seed of the run; None where the method does not depend on it.
        config: The run's configuration.
        folder: Its folder.
    """

    test_bed: str
    name: str
    method: Method
    seed: int | None
    config: RunConfig
    folder: Path

    @property
    def label(self) -> str:
        """What messages call it."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.name}{seed} on {self.test_bed}"


@dataclass(frozen=True)
class Plan:
    """The methods to compare on one test bed.

    Attributes:
        test_bed: Name of the test bed.
        config: Its configuration.
        methods: Name to method.
        seeds: Seeds of the methods that depend on one.
        evaluations: Models that each search may evaluate on validation.
        seconds: Seconds of evaluating and guiding after which a method ends, or None.
    """

    test_bed: str
    config: RunConfig
    methods: Mapping[str, Method]
    seeds: Sequence[int]
    evaluations: int
    seconds: float | None = None

    def check_settings(self) -> None:
        """Check, before models are made, what the settings alone show.

        Raises:
            ConfigError: Methods that do not fit.
        """
        known = DomainFacts.from_settings(self.config)
        self._refuse_incompatible(known)
        if None not in (known.tasks, known.experts):
            for name in self.methods:
                self._run(name, None, known, Path())

    def runs(
        self, folder: Path, listener: Listener
    ) -> tuple[Sequence[Task], Mapping[str, Any], list[PlannedRun]]:
        """Plan all runs, checked against the test bed's own backend.

        Args:
            folder: Parent of their folders.
            listener: Called with the progress while the backend makes models.

        Returns:
            The tasks, the facts of the domain, and the runs.

        Raises:
            ConfigError: Methods that do not fit, or a choice that does not fit the tasks.
            QDMergeError: The backend cannot be built.
        """
        base = self.config
        base.backend.prepare(stage_progress(listener))
        backend = BuildBackend(base)()
        try:
            known = _facts_of(backend)
            self._refuse_incompatible(known)
            final_criteria(base.final, backend.tasks)
            planned = [
                self._run(name, seed, known, folder)
                for name, method in self.methods.items()
                for seed in (self.seeds if method.seeded else [None])
            ]
            own = (base.backend, base.space)
            for run in {run.name: run for run in planned}.values():
                if (run.config.backend, run.config.space) == own:
                    _check_parts(run, backend)
            return backend.tasks, domain_facts(backend), planned
        finally:
            backend.close()

    def _refuse_incompatible(self, known: DomainFacts) -> None:
        if problem := incompatibilities(self.methods, self.config, known):
            raise ConfigError(problem)

    def _run(self, name: str, seed: int | None, known: DomainFacts, folder: Path) -> PlannedRun:
        method = self.methods[name]
        try:
            config = configure(
                method,
                self.config,
                seed=seed or 0,
                evaluations=self.evaluations,
                facts=known,
                seconds=self.seconds,
            )
        except ConfigError as error:
            lines = str(error).splitlines()
            raise ConfigError("\n".join(f"method '{name}': {line}" for line in lines)) from error
        end = "run" if seed is None else f"seed-{seed}"
        return PlannedRun(self.test_bed, name, method, seed, config, folder / name / end)


def check_distinct(planned: Sequence[PlannedRun]) -> None:
    """Refuse test beds on which a run is the same and would count twice."""
    found: dict[str, PlannedRun] = {}
    for run in planned:
        settings = run.config.echo()
        for key in ("leading", "bootstrap"):  # these change no model
            del settings["final"][key]
        echo = json.dumps([run.name, run.seed, settings], sort_keys=True)
        other = found.setdefault(echo, run)
        if other is not run:
            raise ConfigError(
                f"test beds '{other.test_bed}' and '{run.test_bed}' are the same for method "
                f"'{run.name}', whose runs would count twice; vary what all methods depend on, "
                "such as the backend's settings (more seeds: --seeds)"
            )


def by_domain(planned: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
    """Group runs that share backend and space: a worker keeps one backend at a time."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in planned:
        groups.setdefault(domain(run.config, {}), []).append(run)
    return list(groups.values())


def _facts_of(backend: GenomeBackend) -> DomainFacts:
    """Return what methods need to know of a backend."""
    space = backend.space
    weights = isinstance(space, WeightSpace)
    calibration = space.calibration if isinstance(space, WeightSpace) else None
    calibrated = calibration is not None and set(space.experts) <= set(calibration.experts)
    guide = getattr(backend, "guide", None)
    losses = () if guide is None else getattr(guide, "objectives", ("agreement",))
    return DomainFacts(len(backend.tasks), len(space.experts), weights, calibrated, losses)


def domain(config: RunConfig, facts: Mapping[str, Any]) -> str:
    """Return a fingerprint of everything that decides the scores of a solution."""
    echo = config.echo()
    what = [echo["backend"], echo["space"], *map(facts.get, DECISIVE)]
    what += [facts["guide"]] if "guide" in facts else []
    return content_digest(what, sort_keys=True)[:16]


def _check_parts(run: PlannedRun, backend: GenomeBackend) -> None:
    try:
        build_search(run.config, backend)
    except QDMergeError as error:
        raise ConfigError(f"method '{run.name}': {error}") from error


def make_test_beds(
    load: Callable[[Sequence[str]], RunConfig], name: str, variations: Sequence[str]
) -> dict[str, RunConfig]:
    """Load one configuration for every combination of the varied settings.

    Args:
        load: Loads the configuration with ``"dotted.key=value"`` settings.
        name: Name of the only test bed if nothing varies.
        variations: Each ``"dotted.key=value,value,..."``.

    Returns:
        Name of a test bed (``"seed=1"``) to its configuration.

    Raises:
        ConfigError: A variation of another form, or a configuration with mistakes.
    """
    settings = []
    for variation in variations:
        key, separator, values = variation.partition("=")
        found = [value.strip() for value in values.split(",") if value.strip()]
        if not (separator and key and found):
            raise ConfigError(
                f"'{variation}' is not of the form key=value,value (backend.sources.tiny.seed=0,1)"
            )
        if len(set(found)) < len(found):
            raise ConfigError(f"'{variation}' names a value twice")
        settings.append([(key, value) for value in found])
    if not settings:
        return {name: load([])}
    return {
        " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in chosen): load(
            [f"{key}={value}" for key, value in chosen]
        )
        for chosen in product(*settings)
    }
