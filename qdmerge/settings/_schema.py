"""The settings of a run as objects, checked all at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from qdmerge.archives import AxisSizing
from qdmerge.backend import BackendConfig
from qdmerge.criteria import CriterionName
from qdmerge.errors import ConfigError
from qdmerge.merges import Axes, grid, grid_size, uniform_rows
from qdmerge.options import explain
from qdmerge.parts import ArchivePart, EmitterPart, Part, SchedulerPart, SpacePart
from qdmerge.settings._discovery import find_backend


class _Settings(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


class ExecutionConfig(_Settings):
    """Where evaluations run.

    Attributes:
        workers: 1 evaluates in the main process, more in that many worker processes.
        threads: CPU threads of each worker; None shares the cores among the workers.
        in_flight: Batches that may be out at once; None for as many as there are workers. Results
            depend on it (a child is made before its elder siblings are scored), but not on timing.
        order: How batches are told: "asked", in the order they were asked for, so that results do
            not depend on timing; or "finished", as they end, so that no worker waits for the
            slowest (needs 2 workers or more). The log keeps the order, and a resume is exact.
        timeout: Seconds that one evaluation in a worker process may take, on its first one
            including the building of its backend; None for no limit. Needs 2 workers or more.
        retries: How often a failing evaluation is tried again.
        max_failures: Failures in a row that stop the run.
    """

    workers: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] | None = None
    in_flight: Annotated[int, Field(ge=1)] | None = None
    order: Literal["asked", "finished"] = "asked"
    timeout: Annotated[float, Field(gt=0)] | None = None
    retries: Annotated[int, Field(ge=0)] = 1
    max_failures: Annotated[int, Field(ge=1)] = 5

    @model_validator(mode="after")
    def _has_workers(self) -> ExecutionConfig:
        if self.order == "finished" and self.workers == 1:
            raise ValueError("'order: finished' needs 'workers' of at least 2")
        if self.timeout is not None and self.workers == 1:
            raise ValueError("'timeout' ends worker processes, so it needs 'workers' of at least 2")
        return self


class StartConfig(_Settings):
    """Merges without search that a search begins with, as children after the seeds.

    Attributes:
        recipe: The recipe; see :func:`qdmerge.merges.grid`.
        scales: Of task arithmetic, the weights that all experts share; of regression means, the
            sum of their weights; None for its own.
        tilts: Of ``tilted``, the weight of one expert and that of all others; None for its own.
        ridges: Of ``regmean``, what is added to the diagonals; None for its own.
    """

    recipe: Literal["average", "task_arithmetic", "tilted", "regmean"]
    scales: Annotated[list[FiniteFloat], Field(min_length=1)] | None = None
    tilts: Annotated[list[tuple[FiniteFloat, FiniteFloat]], Field(min_length=1)] | None = None
    ridges: Annotated[list[Annotated[FiniteFloat, Field(gt=0)]], Field(min_length=1)] | None = None

    @property
    def axes(self) -> Axes:
        """Axes of the recipe's merge grid."""
        return Axes(scales=self.scales, tilts=self.tilts, ridges=self.ridges)

    def size(self, n_experts: int, n_tasks: int, regressing: bool = False) -> int:
        """Return how many models it evaluates."""
        return grid_size(self.recipe, n_experts, self.axes)

    @model_validator(mode="after")
    def _has_axes(self) -> StartConfig:
        try:
            grid(self.recipe, 2, self.axes)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


class GuidedStart(_Settings):
    """Climbs that a search begins with: from the best uniform merge, along the guide's gradients.

    Uniform merges are scored first. From the best of them by geometric mean (by mean, where scores
    can be negative), one climb with all tasks alike is scored on its way; then, from its best
    point, one climb towards each task; then the means between its end and theirs. See
    :class:`qdmerge.guide.Climb`.

    Attributes:
        recipe: "guided".
        scales: Weights that all experts share in the uniform merges tried; in space ``regmean``,
            the sum of their weights.
        steps: Steps of the climb with all tasks alike.
        every: Steps after which it is scored.
        rate: Adam's first rate, in units of the space.
        batch: Items of a step, over all tasks.
        branch_steps: Steps of each climb towards one task; 0 for none.
        branch_rate: Their first rate.
        focus: Share of that task in their loss.
        objective: What climbs lower: "agreement", how far the model is from what the experts say;
            "entropy", how uncertain its own predictions are (AdaMerging, arXiv 2310.02575).
    """

    recipe: Literal["guided"]
    scales: Annotated[list[FiniteFloat], Field(min_length=1)] | None = None
    steps: Annotated[int, Field(ge=1)] = 600
    every: Annotated[int, Field(ge=1)] = 200
    rate: Annotated[float, Field(gt=0)] = 0.1
    batch: Annotated[int, Field(ge=1)] = 24
    branch_steps: Annotated[int, Field(ge=0)] = 60
    branch_rate: Annotated[float, Field(gt=0)] = 0.05
    focus: Annotated[float, Field(ge=0, le=1)] = 0.8
    objective: Literal["agreement", "entropy"] = "agreement"

    def size(self, n_experts: int, n_tasks: int, regressing: bool = False) -> int:
        """Return how many models it evaluates if none fails.

        Args:
            n_experts: Number of experts.
            n_tasks: Number of tasks.
            regressing: Whether its space is ``regmean``.

        Raises:
            ConfigError: There are no experts.
        """
        merges = len(uniform_rows(n_experts, self.scales, regressing))
        return merges + -(-self.steps // self.every) + (2 * n_tasks if self.branch_steps else 0)


class PlaneStart(_Settings):
    """A plane that a search begins with: one climb learns a model for any task weights.

    Uniform merges are scored first. From the best of them, as for ``guided``, the plane is learned;
    see :class:`qdmerge.guide.PlaneClimb`. Its samples are scored: the middle, points near the
    corners, and random ones. ``qdmerge export --weights`` writes its model for any task weights.

    Attributes:
        recipe: "plane".
        scales: Weights that all experts share in the uniform merges tried; in space ``regmean``,
            the sum of their weights.
        steps: Steps of the climb.
        rate: Adam's first rate, in units of the space.
        batch: Items of a step, over all tasks.
        concentration: Of the symmetric Dirichlet distribution that a step's task weights are drawn
            from.
        samples: Points of the plane that are scored.
    """

    recipe: Literal["plane"]
    scales: Annotated[list[FiniteFloat], Field(min_length=1)] | None = None
    steps: Annotated[int, Field(ge=1)] = 480
    rate: Annotated[float, Field(gt=0)] = 0.1
    batch: Annotated[int, Field(ge=1)] = 24
    concentration: Annotated[float, Field(gt=0)] = 0.7
    samples: Annotated[int, Field(ge=1)] = 10

    def size(self, n_experts: int, n_tasks: int, regressing: bool = False) -> int:
        """Return how many models it evaluates; see :meth:`GuidedStart.size`."""
        return len(uniform_rows(n_experts, self.scales, regressing)) + self.samples


_Start = StartConfig | GuidedStart | PlaneStart


def _start_of(value: Any) -> Any:
    return {"recipe": value} if isinstance(value, str) else value


class FinalConfig(_Settings):
    """The end of a run: which models become candidates, and how one is chosen.

    Attributes:
        choose_by: What is maximized on the selection split: the geometric mean over tasks, the
            mean, the minimum, or a mean with the user's weights. The picks of the other criteria
            are reported as well.
        weights: Task name to weight, for the mean with weights.
        leading: How many elites become candidates by each criterion on validation: mean, geometric
            mean, minimum and, if there are weights, the mean with these.
        table: What is scored on the test split: "full" is every candidate, base, experts and
            recipes; "picks" is only what each criterion picks.
        candidates: What the choice is made among: "all" is elites and the archives' aggregates;
            "elites" excludes the aggregates; "children" also excludes experts.
        aggregate_scales: Scales tried on validation for the scaled aggregate.
        task_arithmetic_scales: Scales tried on validation for task arithmetic.
        bootstrap: Resamples of the test items behind the 95 % intervals.
    """

    choose_by: CriterionName = "geometric_mean"
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    leading: Annotated[int, Field(ge=1)] = 5
    table: Literal["full", "picks"] = "full"
    candidates: Literal["all", "elites", "children"] = "all"
    aggregate_scales: Annotated[list[FiniteFloat], Field(min_length=1)] = [1.0, 1.25, 1.5, 1.75]
    task_arithmetic_scales: Annotated[list[FiniteFloat], Field(min_length=1)] = [
        tenths / 10 for tenths in range(2, 11)
    ]
    bootstrap: Annotated[int, Field(ge=100)] = 2000

    @model_validator(mode="after")
    def _choice_has_weights(self) -> FinalConfig:
        if self.choose_by == "weights" and not self.weights:
            raise ValueError("'choose_by: weights' needs 'weights'")
        return self


def backend_from(data: Any) -> BackendConfig:
    """Read the settings of a backend, with the settings class of its name."""
    if isinstance(data, BackendConfig):
        return data
    settings = dict(data) if isinstance(data, Mapping) else {"name": data}
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise ValueError("backend needs a name")
    try:
        backend = find_backend(name)
        return backend.model_validate(settings)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, backend, f"backend '{name}'"))) from error
    except ConfigError as error:
        raise ValueError(str(error)) from error


class RunConfig(_Settings):
    """Everything that decides a run.

    Attributes:
        backend: The domain: a name of ``qdmerge list backends`` and its settings.
        seed: The one seed of the search.
        evaluations: Children to evaluate on validation; the last batch is never cut.
        seconds: Seconds of evaluating and guiding children, summed over workers, after which the
            search asks for no more of them; failed evaluations count nothing. None for no limit.
        space: The space of merged models; None for the backend's own choice.
        archive: One archive per task is made from this.
        axes: Ranges of the archives' axes.
        start: Merging recipes whose models are the first children; "guided" climbs,
            "plane" learns one.
        emitters: Each is made for every task's archive. [] ends the search after its ``start``.
        scheduler: Which task is active when.
        reevaluate: Where scores are noisy, how many leading elites of an archive are evaluated
            again in turn; see :class:`qdmerge.search.CycleQD`.
        execution: Where evaluations run.
        final: How the result is chosen.
    """

    backend: Annotated[SerializeAsAny[BackendConfig], BeforeValidator(backend_from)]
    seed: Annotated[int, Field(ge=0)] = 0
    evaluations: Annotated[int, Field(ge=1)] = 150
    seconds: Annotated[FiniteFloat, Field(gt=0)] | None = None
    space: SpacePart | None = None
    archive: ArchivePart = Part(name="grid")
    axes: AxisSizing = AxisSizing()
    start: list[
        Annotated[
            StartConfig | GuidedStart | PlaneStart,
            Field(discriminator="recipe"),
            BeforeValidator(_start_of),
        ]
    ] = []
    emitters: list[EmitterPart] = [Part(name="merge")]
    scheduler: SchedulerPart = Part(name="cycle")
    reevaluate: Annotated[int, Field(ge=0)] = 3
    execution: ExecutionConfig = ExecutionConfig()
    final: FinalConfig = FinalConfig()

    @model_validator(mode="after")
    def _starts_in_its_space(self) -> RunConfig:
        if not (self.emitters or self.start):
            raise ValueError("'emitters' is empty, and so is 'start': nothing would be evaluated")
        regressing = self.space is not None and self.space.name == "regmean"
        for part in self.start:
            if isinstance(part, GuidedStart | PlaneStart):
                continue
            if part.recipe == "regmean" and not regressing:
                raise ValueError("'start': recipe 'regmean' needs 'space: regmean'")
            if part.recipe != "regmean" and regressing:
                raise ValueError(
                    f"'start': recipe '{part.recipe}' is a linear merge, which the space 'regmean' "
                    "cannot express; use 'regmean'"
                )
        return self

    def echo(self) -> dict[str, Any]:
        """Return this configuration as plain data: every setting, and parts as they were given."""
        data = self.model_dump(mode="json")
        return {**data, "backend": {"name": self.backend.name, **data["backend"]}}
