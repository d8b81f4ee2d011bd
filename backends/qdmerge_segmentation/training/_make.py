"""Making the missing models of a configuration: the base, then the experts side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdmerge.backend import Progress
from qdmerge.execution import Job, run_jobs
from qdmerge_segmentation.training._plan import UNET, missing_models

if TYPE_CHECKING:
    from qdmerge_segmentation.config import SegmentationConfig


def make_models(
    config: SegmentationConfig, progress: Progress, processes: int = 2
) -> dict[str, Path]:
    """Trains the base and the experts of a configuration that are not there yet.

    Each is trained by a process of one thread and appears at its place when it is complete, with
    ``training.yaml``, the history of its training. Until then its state lies beside, in
    ``NAME.training``: a training that was ended goes on from there, and on one CPU type ends in the
    same bits. A state of other settings or other images is discarded. At last, the validation
    curves are drawn into ``training.png`` beside the models made. Models that are there are left
    as they are.

    Args:
        config: The configuration; see :class:`qdmerge_segmentation.config.TrainingConfig`.
        progress: Is told a model's name, the steps done, and all steps.
        processes: Experts that are trained at a time.

    Returns:
        Name to place of the models made.

    Raises:
        ConfigError: The configuration, the images, or a model that is there cannot be used.
        CheckpointError: The model to start from cannot be loaded.
        RunError: A training failed; one line with the cause.
    """
    missing = missing_models(config)
    for name in config.model_sources():
        if name not in missing:
            progress(f"{name} is there", 1, 1)
    if not missing:
        return {}
    start = next(iter(missing.values())).start
    if start != UNET:
        config.resolve(start)  # downloads once, not in each process

    def note(report: dict[str, Any]) -> None:
        progress(report["name"], report["done"], missing[report["name"]].stage.steps)

    settings = config.model_dump_json()
    experts = [name for name in missing if name != "base"]
    for shares in (
        [["base"]] if "base" in missing else [],
        # A process for several models: it takes seconds to begin.
        [experts[first::processes] for first in range(min(processes, len(experts)))],
    ):
        for first, *_ in shares:
            progress(first, 0, missing[first].stage.steps)
        jobs = [
            Job(
                f"Training {', '.join(names)}",
                "qdmerge_segmentation.training._train",
                (settings, *names),
            )
            for names in shares
        ]
        run_jobs(jobs, processes, note)

    from qdmerge_segmentation.training._curves import draw_curves

    draw_curves(config, missing)
    return {name: model.target for name, model in missing.items()}
