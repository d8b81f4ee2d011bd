"""Segmentation models as a genome backend: express a solution, segment, compare with the truth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from qdmerge.backend import Evaluation, GenomeBackend, Task
from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import ConfigError
from qdmerge.execution import device_facts, pick_device, pick_dtype
from qdmerge.spaces import SpectralSpace
from qdmerge_segmentation.calibration import ExpertCalibration
from qdmerge_segmentation.data import ImageSet
from qdmerge_segmentation.guide import SegmentationGuide
from qdmerge_segmentation.guide_config import GuideConfig
from qdmerge_segmentation.metrics import Metric
from qdmerge_segmentation.models import (
    Segmenter,
    has_batch_norm,
    load_segmenter,
    predict,
    reestimate_batch_norm,
)
from qdmerge_segmentation.training import trained_images

if TYPE_CHECKING:
    from qdmerge.backend import SpaceFactory
    from qdmerge.spaces import WeightSpace


@dataclass(frozen=True)
class SegmentationTask:
    """A task ready to be evaluated.

    Attributes:
        task: Its name, metric, range and expert.
        score: Metric of one image: predicted and true mask, ``(h, w)`` bool each.
        images: Split to its images and masks.
        labels: Labels of the model that mean foreground; None for models of one or two labels.
    """

    task: Task
    score: Metric
    images: Mapping[str, ImageSet]
    labels: Sequence[int] | None = None

    def scores(self, masks: Sequence[np.ndarray], split: str) -> np.ndarray:
        """Return the score of each image of a split, ``(n_images,)``, from predicted masks."""
        pairs = zip(masks, self.images[split].masks, strict=True)
        return np.array([self.score(*pair) for pair in pairs])


class SegmentationBackend(GenomeBackend):
    """Scores merged segmentation models on the images of several tasks.

    One model is held in memory; each solution is expressed into its parameters in place. The score
    of a task is the mean over its images.

    Running statistics of BatchNorm layers describe the activations of one model, so merged ones fit
    none. With ``statistics`` they are re-estimated after each expression (as in REPAIR, Jordan et
    al. 2023, arXiv 2211.08403); base and experts keep their own.

    Args:
        segmenter: The model that solutions are expressed into.
        space: Space over the task vectors of the experts.
        tasks: The K tasks.
        statistics: Images, with their masks, that BatchNorm layers are measured on; None to merge
            their statistics like weights.
        batch_size: Images evaluated together.

    Attributes:
        segmenter: Holds the solution expressed last.
        segmentation_tasks: The tasks with their images and metrics.
        guide: Set by :meth:`load`, where every task has an expert.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        space: WeightSpace,
        tasks: Sequence[SegmentationTask],
        statistics: ImageSet | None = None,
        batch_size: int = 16,
    ) -> None:
        self.segmenter = segmenter
        self.space = space
        self.tasks = [task.task for task in tasks]
        self.measures = ()
        self.segmentation_tasks = list(tasks)
        self._batch_size = batch_size
        self._inputs: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
        self._statistics = None
        self._statistics_facts: dict[str, str] = {}
        if statistics is not None and has_batch_norm(segmenter.module):
            self._statistics = segmenter.inputs(statistics.images, statistics.masks)
            self._statistics_facts = {"statistics": statistics.fingerprint}

    @classmethod
    def load(
        cls,
        models: Mapping[str, Path],
        tasks: Sequence[SegmentationTask],
        training: Mapping[str, Callable[[int], ImageSet]],
        space: SpaceFactory | None = None,
        *,
        dtype: str = "float32",
        device: str = "auto",
        batch_size: int = 16,
        reestimate_images: int | None = 32,
        config_differences: Collection[str] = (),
        guide: GuideConfig | None = None,
        **options: Any,
    ) -> SegmentationBackend:
        """Load base and experts from disk.

        Args:
            models: Where base and experts lie; the base is named "base".
            tasks: The K tasks.
            training: Task to a function that returns at most so many of its training images.
            space: Makes the space from the task vectors; None for the spectral space.
            dtype: Number type that models run in; see :func:`qdmerge.execution.pick_dtype`.
            device: Where they run; see :func:`qdmerge.execution.pick_device`.
            batch_size: Images evaluated together.
            reestimate_images: Training images of each task that BatchNorm layers are measured on;
                None to merge their statistics like weights.
            config_differences: See :class:`TaskVectors`.
            guide: Images on which the experts' masks guide a search; None for training images.
            **options: Of :func:`qdmerge_segmentation.models.load_segmenter`.

        Raises:
            ConfigError: Settings do not fit, or a model was trained on images that it is scored on.
            CheckpointError: A model cannot be loaded.
        """
        _refuse_seen_images(tasks, models)
        place = pick_device(device)
        segmenter = load_segmenter(
            models["base"], dtype=pick_dtype(dtype, place), device=place, **options
        )
        segmenter.module.eval().requires_grad_(False)
        statistics = None
        if reestimate_images is not None and has_batch_norm(segmenter.module):
            statistics = _joined([read(reestimate_images) for read in training.values()])
        experts = {name: path for name, path in models.items() if name != "base"}
        vectors = TaskVectors(models["base"], experts, config_differences=config_differences)
        chosen = space(vectors) if space else SpectralSpace(vectors)
        backend = cls(segmenter, chosen, tasks, statistics, batch_size)
        chosen.calibrate(ExpertCalibration(segmenter, backend.tasks, training))
        backend._guided_by(guide or GuideConfig(), training)
        return backend

    def _guided_by(
        self, settings: GuideConfig, training: Mapping[str, Callable[[int], ImageSet]]
    ) -> None:
        """Set the guide, if every task has an expert that says what its masks should be."""
        experts = {task.name: task.expert or task.name for task in self.tasks}
        if not set(experts.values()) <= set(self.space.experts):
            return
        self.guide = SegmentationGuide(
            self.segmenter,
            self.space,
            self.express,
            experts,
            labels={task.task.name: task.labels for task in self.segmentation_tasks},
            images=settings.images(training),
            held_out={
                (task.task.name, split): task.images[split]
                for task in self.segmentation_tasks
                for split in ("selection", "test")
            },
            examples=settings.examples,
            checkpointing=settings.checkpointing,
        )

    def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
        """Score models on all tasks.

        Args:
            xs: ``(n, dim)`` solutions of :attr:`space`.
            split: "validation", "selection" or "test".

        Returns:
            ``scores`` ``(n, K)``, the mean over each task's images; ``items``, per model and task
            the ``(n_images,)`` scores of its images.
        """
        records = [self._evaluate_one(x, split) for x in np.atleast_2d(xs)]
        scores = [[record[task.name].mean() for task in self.tasks] for record in records]
        return Evaluation(np.array(scores).reshape(len(records), len(self.tasks)), None, records)

    def _evaluate_one(self, x: np.ndarray, split: str) -> dict[str, np.ndarray]:
        self.express(x)
        return {
            task.task.name: task.scores(self._predict(task, split), split)
            for task in self.segmentation_tasks
        }

    def express(self, x: np.ndarray) -> None:
        """Write the model of ``x`` into :attr:`segmenter`, statistics included."""
        self.space.express(x, self.segmenter.module)
        if self._statistics is not None and not self._is_seed(x):
            reestimate_batch_norm(self.segmenter, self._statistics, self._batch_size)

    def _is_seed(self, x: np.ndarray) -> bool:
        return any(np.array_equal(x, seed) for seed in self.space.seeds.values())

    def predictions(self, x: np.ndarray, task: str, split: str) -> list[np.ndarray]:
        """Return the masks that a model predicts, ``(h, w)`` bool for each image of a split.

        Raises:
            KeyError: Unknown task or split.
        """
        self.express(x)
        return self._predict(self.segmentation_task(task), split)

    def segmentation_task(self, name: str) -> SegmentationTask:
        """Return the task of a name.

        Raises:
            KeyError: There is none.
        """
        return {task.task.name: task for task in self.segmentation_tasks}[name]

    def _predict(self, task: SegmentationTask, split: str) -> list[np.ndarray]:
        images, key = task.images[split], (task.task.name, split)
        if key not in self._inputs:
            self._inputs[key] = self.segmenter.inputs(images.images, images.masks)
        sizes = [mask.shape for mask in images.masks]
        return predict(
            self.segmenter, self._inputs[key], sizes, self._batch_size, labels=task.labels
        )

    def export(self, x: np.ndarray, path: str | Path) -> Path:
        """Write the model of ``x``, statistics included, in the format of the base.

        A model of transformers becomes a directory that plain transformers loads.
        """
        statistics: dict[str, torch.Tensor] = {}
        if self._statistics is not None and not self._is_seed(x):
            self.express(x)
            statistics = {
                name: tensor
                for name, tensor in self.segmenter.module.state_dict().items()
                if name.endswith(("running_mean", "running_var"))
            }
        return self.space.export(x, Path(path), replace=statistics)

    def illustrate(self, models: Mapping[str, np.ndarray], folder: Path) -> Sequence[Path]:
        """Draw test images with the masks that models predict, one figure per task.

        Args:
            models: Name to solution ``(dim,)``, in the order base, experts (``expert:NAME``),
                others.
            folder: Where ``predictions-TASK.png`` is written.
        """
        from qdmerge.reports import save_figure
        from qdmerge_segmentation.figures import task_figure

        masks: dict[str, dict[str, list[np.ndarray]]] = {}
        for model, x in models.items():
            self.express(x)
            for task in self.segmentation_tasks:
                masks.setdefault(task.task.name, {})[model] = self._predict(task, "test")
        figures = []
        for task in self.segmentation_tasks:
            name, found = task.task.name, masks[task.task.name]
            scores = {model: task.scores(masks, "test") for model, masks in found.items()}
            figure = task_figure(task.task, task.images["test"], found, scores, "test")
            figures.append(save_figure(figure, folder / f"predictions-{name}.png"))
        return figures

    def facts(self) -> dict[str, Any]:
        """Return device, dtype and versions, hashes of weights and images, and the splits."""
        module = self.segmenter.module
        parameter = next(module.parameters())
        return {
            **device_facts(parameter.device),
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "versions": {"transformers": transformers.__version__},
            "parameters": sum(p.numel() for p in module.parameters()),
            "batch_norm": "measured anew" if self._statistics is not None else "as merged",
            **self._statistics_facts,
            "weights": self.space.vectors.fingerprint,
            "items": {
                task.task.name: {
                    split: {
                        "count": len(images),
                        "sha256": images.fingerprint,
                        "images": list(images.names),
                    }
                    for split, images in task.images.items()
                }
                for task in self.segmentation_tasks
            },
        }


def _refuse_seen_images(tasks: Sequence[SegmentationTask], models: Mapping[str, Path]) -> None:
    """Refuse to score models on images that one of them was trained on."""
    for name, path in models.items():
        seen = trained_images(path)
        for task in tasks:
            for split, images in task.images.items():
                shared = sum(image in seen for image in images.hashes)
                if shared:
                    raise ConfigError(
                        f"task '{task.task.name}': {shared} of {len(images)} images of its {split} "
                        f"split are among those that '{name}' was trained on, so its scores would "
                        "be too good. Set fractions and split_seed as they were in its training, "
                        "or train it again"
                    )


def _joined(parts: Sequence[ImageSet]) -> ImageSet:
    names, images, masks = (
        tuple(one for part in parts for one in getattr(part, field))
        for field in ("names", "images", "masks")
    )
    return ImageSet(names, images, masks)
