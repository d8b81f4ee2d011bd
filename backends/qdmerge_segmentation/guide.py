"""What experts segment on unlabeled images, as a loss whose gradient a search can follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers.modeling_layers import GradientCheckpointingLayer

from qdmerge.checkpoints import Progress, silent
from qdmerge.errors import ConfigError, EvaluationError, UnsupportedError
from qdmerge.spaces import ExpertSpace, ModuleGuide, Objective, WeightSpace, computed_again
from qdmerge.storage import built_once, cache_dir, content_digest
from qdmerge_segmentation.calibration import inputs_digest
from qdmerge_segmentation.data import ImageSet
from qdmerge_segmentation.models import Segmenter

VERSION = 1
"""Part of the cache key: raise it whenever the meaning of what is recorded changes."""

_BATCH = 16
"""Images at once while experts are recorded."""

_FILE = "masks.safetensors"
_LARGEST = 6e4
"""Log-odds are kept as float16."""

_SMOOTHING = 1.0
"""Pixels added to the denominator of the Dice term: no expert finds something on every image."""


class SegmentationGuide(ModuleGuide):
    """Experts' soft masks on unlabeled images of their own tasks; the live model should agree.

    Images are seen in the model's size. The masks are recorded once for experts and images, in the
    cache; nothing is read or computed before the first use. For models with BatchNorm, statistics
    are those that the model of ``x`` is scored with, measured anew at each step; the gradient takes
    them for constants. Statistics of a step's few images lead a climb astray.

    Args:
        segmenter: The live model.
        space: The space.
        express: Makes the segmenter the model of a solution, statistics included.
        experts: Task to its expert.
        labels: Task to the labels that mean foreground; see
            :func:`qdmerge_segmentation.models.foreground`.
        images: Task to a function that returns at most so many images; their masks are used for
            prompts alone.
        held_out: Task and split to the images that must not be among them.
        examples: Most images of each task.
        checkpointing: Compute layers again in the backward pass instead of keeping what they
            computed: less memory, a third more time.
        cache: Folder of the cache; None for :func:`qdmerge.storage.cache_dir`.

    Raises:
        UnsupportedError: ``checkpointing`` of a model that cannot compute layers again.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        space: WeightSpace,
        express: Callable[[np.ndarray], None],
        experts: Mapping[str, str],
        labels: Mapping[str, Sequence[int] | None],
        images: Mapping[str, Callable[[int], ImageSet]],
        held_out: Mapping[tuple[str, str], ImageSet],
        examples: int = 256,
        checkpointing: bool = False,
        cache: Path | None = None,
    ) -> None:
        super().__init__(space, segmenter.module, self._disagreement, {}, entropy=self._entropy)
        self._segmenter = segmenter
        self._express = express
        self._experts = experts
        self._labels = labels
        self._images = images
        self._held_out = held_out
        self._examples = examples
        self._cache = cache
        self._masks: dict[str, torch.Tensor] = {}  # (n, h, w) float16 log-odds
        self._again = _layers(segmenter.module) if checkpointing else []

    @property
    def sizes(self) -> Mapping[str, int]:
        """See :class:`qdmerge.spaces.Guide`."""
        return {task: len(inputs["pixel_values"]) for task, inputs in self._inputs.items()}

    def key(self) -> str:
        """Return a hash of models, images in the model's size, prompts and number type."""
        return self._content

    def prepare(self, progress: Progress = silent) -> None:
        """Record the experts' masks, unless they are known.

        Raises:
            ConfigError: An image is also in a selection or test split.
            EvaluationError: An expert cannot be run, or finds nothing on any image.
        """
        if not self._masks:
            entry = built_once(
                (self._cache or cache_dir()) / "guide" / self.key(),
                lambda folder: self._record(folder, progress),
                "Masks of experts",
            )
            self._masks.update(load_file(entry / _FILE))

    def express(self, x: np.ndarray) -> None:
        """Make the segmenter the model of ``x``, statistics included."""
        self._express(x)

    def gradient(
        self,
        x: np.ndarray,
        rows: Mapping[str, np.ndarray],
        shares: Mapping[str, float],
        objective: Objective = "agreement",
    ) -> tuple[dict[str, float], np.ndarray]:
        """See :class:`qdmerge.spaces.Guide`."""
        self.prepare()
        with computed_again(self._again):
            return super().gradient(x, rows, shares, objective)

    @cached_property
    def _inputs(self) -> dict[str, dict[str, torch.Tensor]]:
        found = {}
        for task in self._experts:
            images = self._images[task](self._examples)
            _refuse_held_out(task, images, self._held_out)
            found[task] = self._segmenter.inputs(images.images, images.masks)
        return found

    @cached_property
    def _content(self) -> str:
        vectors = self.space.vectors
        parts = (
            (f"{task} {self._experts[task]} {self._labels[task]}", inputs)
            for task, inputs in self._inputs.items()
        )
        seen = inputs_digest(self._segmenter, parts)
        return content_digest([vectors.fingerprint, vectors.companions, seen, VERSION])[:32]

    def _record(self, folder: Path, progress: Progress) -> None:
        experts, stage = ExpertSpace(self.space.vectors), "recording experts' masks"
        found = {}
        for number, (task, expert) in enumerate(self._experts.items()):
            progress(stage, number, len(self._experts))
            experts.express(experts.seeds[expert], self.module)
            masks = self._segmented(task, expert)
            if not masks.isfinite().all():
                raise EvaluationError(
                    f"expert '{expert}': what it says on images of task '{task}' is not finite, so "
                    "it can guide nothing; try 'dtype: float32'"
                )
            if not (masks > 0).any():
                raise EvaluationError(
                    f"expert '{expert}': its masks of all {len(masks)} unlabeled images of task "
                    f"'{task}' are empty, so it can guide nothing. Check the expert, the task's "
                    "labels, and the images that 'guide' names"
                )
            found[task] = masks.clamp(-_LARGEST, _LARGEST).half()
        progress(stage, len(self._experts), len(self._experts))
        try:
            save_file(found, folder / _FILE)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    @torch.no_grad()
    def _segmented(self, task: str, expert: str) -> torch.Tensor:
        try:
            return torch.cat(
                [
                    self._segmenter.logits(batch, self._labels[task]).float().cpu()
                    for batch in self._segmenter.batches(self._inputs[task], _BATCH)
                ]
            )
        except RuntimeError as error:
            cause = str(error).split("\n")[0] or type(error).__name__
            raise EvaluationError(f"expert '{expert}' could not be run: {cause}") from error

    def _disagreement(self, task: str, rows: np.ndarray) -> torch.Tensor:
        """Return the mean loss of the live model on images of a task."""
        logits = self._logits(task, rows)
        expert = self._masks[task][torch.from_numpy(rows)].to(logits.device).float()
        return disagreement(logits, expert).mean()

    def _entropy(self, task: str, rows: np.ndarray) -> torch.Tensor:
        """Return the mean entropy of the live model's pixels on images of a task, in nats."""
        logits = self._logits(task, rows)
        return (functional.softplus(logits) - logits * logits.sigmoid()).mean()

    def _logits(self, task: str, rows: np.ndarray) -> torch.Tensor:
        """Return the live model's log-odds on images of a task: ``(n, h, w)`` float32."""
        device = next(self._segmenter.module.parameters()).device
        chosen = torch.from_numpy(rows)
        batch = {name: value[chosen].to(device) for name, value in self._inputs[task].items()}
        return self._segmenter.logits(batch, self._labels[task]).float()


def disagreement(logits: torch.Tensor, expert: torch.Tensor) -> torch.Tensor:
    """Return how far a model's soft masks are from an expert's; 0 where they are the same.

    The pixels' mean Kullback-Leibler divergence of ``q = sigmoid(logits)`` from
    ``p = sigmoid(expert)``, plus ``sum (p - q)^2 / sum (p^2 + q^2)``: the soft Dice loss with
    squares (Milletari et al. 2016, arXiv 1606.04797), which is least at ``q = p``, where the one
    without squares is not: where experts are undecided, that one leads away from them.

    Args:
        logits: ``(n, h, w)`` log-odds.
        expert: ``(n, h, w)`` log-odds.

    Returns:
        ``(n,)``, one loss per image.
    """
    p, q = expert.sigmoid(), logits.sigmoid()
    loss = functional.binary_cross_entropy_with_logits
    divergence = loss(logits, p, reduction="none") - loss(expert, p, reduction="none")
    apart, total = (p - q).square().sum((1, 2)), (p.square() + q.square()).sum((1, 2))
    return divergence.mean((1, 2)) + apart / (total + _SMOOTHING)


def _refuse_held_out(
    task: str, images: ImageSet, held_out: Mapping[tuple[str, str], ImageSet]
) -> None:
    for (other, split), others in held_out.items():
        shared = len(set(images.hashes) & set(others.hashes))
        if shared:
            raise ConfigError(
                f"task '{task}': {shared} of the {len(images)} images that guide a search are also "
                f"in the {split} split of task '{other}', so its scores would be too good. Name "
                "other images in guide.data, or take these out"
            )


def _layers(module: torch.nn.Module) -> list[GradientCheckpointingLayer]:
    layers = [layer for layer in module.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise UnsupportedError(
            f"guide.checkpointing: {type(module).__name__} has no layers that transformers can "
            "compute again; leave it out, or set a smaller 'batch' where the guide is used"
        )
    return layers
