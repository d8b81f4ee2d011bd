"""Making the missing models of a configuration: the base, then the experts side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from qdmerge.backend import Progress
from qdmerge.checkpoints import fetch
from qdmerge.errors import ConfigError
from qdmerge.execution import Job, run_jobs
from qdmerge_segmentation.models import model_problems
from qdmerge_segmentation.training._plan import UNET, Model, Plan
from qdmerge_segmentation.training._record import read_record

FIGURE = "training.png"
"""The validation curves of all models, beside the models made."""


def make_models(
    plan: Plan,
    missing: Mapping[str, Model],
    progress: Progress,
    processes: int = 2,
    fetch: Callable[[str], Path] = fetch,
) -> dict[str, Path]:
    """Train missing models, the base first.

    Each is trained in a process of one thread and appears at its place when it is complete, with
    ``training.yaml``, the history of its training. Until then its state lies in ``NAME.training``:
    an interrupted training resumes from there and, on one CPU type, ends in the same bits. State of
    other settings or images is discarded. Finally the validation curves are drawn into
    ``training.png`` beside the models made.

    Args:
        plan: All models, and what they are trained on.
        missing: Those to train; see :func:`missing_models`.
        progress: Called with a model's name, the steps done, and the steps in all.
        processes: Experts that are trained at a time.
        fetch: Returns the local path of a source to start from.

    Returns:
        Name to place of the models made.

    Raises:
        ConfigError: The images or the model to start from cannot be used.
        CheckpointError: The model to start from cannot be loaded.
        RunError: A training failed; one line with the cause.
    """
    if not missing:
        return {}
    first, *_ = missing.values()
    if first.start != UNET:  # fetched once, not in each process
        path = str(fetch(first.start))
        models = {
            name: model.model_copy(update={"start": path}) if model.start == first.start else model
            for name, model in plan.models.items()
        }
        plan = plan.model_copy(update={"models": models})

    def report(facts: dict[str, Any]) -> None:
        progress(facts["name"], facts["done"], missing[facts["name"]].stage.steps)

    experts = [name for name in missing if name != "base"]
    for shares in (
        [["base"]] if "base" in missing else [],
        # A process takes seconds to start, so it trains several models.
        [experts[first::processes] for first in range(min(processes, len(experts)))],
    ):
        for name, *_ in shares:
            progress(name, 0, missing[name].stage.steps)
        jobs = [
            Job(
                f"Training {', '.join(names)}",
                "qdmerge_segmentation.training._train",
                (plan.model_dump_json(), *names),
            )
            for names in shares
        ]
        run_jobs(jobs, processes, report)
    draw_curves(plan, missing)
    return {name: model.target for name, model in missing.items()}


def missing_models(plan: Plan, start_problems: Iterable[str] = ()) -> dict[str, Model]:
    """Return the models that are to be trained, by name, the base first.

    Args:
        plan: All models.
        start_problems: What is wrong with the model that a missing base starts from.

    Raises:
        ConfigError: An existing model cannot be used, an expert has no task, or a missing base has
            nothing to start from; all such mistakes, one a line.
    """
    missing = {name: model for name, model in plan.models.items() if not model.is_there}
    found = []
    for name, model in plan.models.items():
        if name not in missing:
            wrong = model_problems(model.target, plan.factory, plan.prompt)
            found += [f"{name}: {line}; remove it to train it again" for line in wrong]
        elif model.is_file and plan.factory is None:
            found.append(f"{name}: '{model.target}' names a file, which needs a factory")
        elif not model.own:
            found.append(
                f"expert '{name}' cannot be trained: no task has its name, or names it as its "
                f"expert. Tasks: {', '.join(plan.tasks)}."
            )
    if "base" in missing:
        found += start_problems
    if found:
        raise ConfigError("\n".join(found))
    return missing


def draw_curves(plan: Plan, made: Iterable[str]) -> Path:
    """Draw the validation curves of all models with a history. The figure lies with the (first)
    model made: other folders, such as a checked cache, may be read-only.
    """
    from qdmerge.reports import save_figure
    from qdmerge_segmentation.figures import curves_figure

    found = {name: read_record(model.record) for name, model in plan.models.items()}
    folders = [plan.models[name].target.absolute().parent for name in made]
    common = Path(os.path.commonpath(folders))
    figure = curves_figure({name: record for name, record in found.items() if record is not None})
    return save_figure(figure, (common if common in folders else folders[0]) / FIGURE)
