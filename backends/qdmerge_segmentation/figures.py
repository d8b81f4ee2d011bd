"""Figures of held-out images with the masks that models predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from qdmerge.reports import new_figure, save_figure, shorten, styled

if TYPE_CHECKING:
    from qdmerge_segmentation.backend import SegmentationBackend

SPLIT = "test"
# Safe for color-blind readers (Okabe and Ito).
_COLORS = {"found": "#009E73", "missed": "#0072B2", "wrong": "#D55E00"}
_ROWS = ("best", "median", "worst")
_OPACITY = 0.65


def draw_predictions(
    backend: SegmentationBackend, models: Mapping[str, np.ndarray], folder: Path
) -> list[Path]:
    """Draws a figure per task: test images, and what models make of them, side by side.

    The rows are the image that the last model segments best, the median one and the worst one. The
    columns are image, truth, base, the task's own expert, the best other expert on these images,
    and the models after the experts.

    Args:
        backend: Segments.
        models: Name to solution ``(dim,)``, in the order base, experts (``expert:NAME``), others.
        folder: Where ``predictions-TASK.png`` is written.

    Returns:
        Paths of the figures.
    """
    masks = {
        name: {task.name: backend.predictions(x, task.name, SPLIT) for task in backend.tasks}
        for name, x in models.items()
    }
    return [
        save_figure(
            _task_figure(backend, task.name, masks), folder / f"predictions-{task.name}.png"
        )
        for task in backend.tasks
    ]


def _task_figure(
    backend: SegmentationBackend, name: str, masks: Mapping[str, Mapping[str, list[np.ndarray]]]
) -> Figure:
    task = backend.segmentation_task(name)
    images = task.images[SPLIT]
    scores = {
        model: np.array([task.score(*pair) for pair in zip(found[name], images.masks, strict=True)])
        for model, found in masks.items()
    }
    order = np.argsort(-scores[list(scores)[-1]], kind="stable")
    rows = [order[0], order[(len(order) - 1) // 2], order[-1]]
    shown = _columns(scores, task.task.expert or name, rows)
    return predictions_figure(
        [images.images[row] for row in rows],
        [images.masks[row] for row in rows],
        {title: [masks[model][name][row] for row in rows] for title, model in shown.items()},
        {title: [float(scores[model][row]) for row in rows] for title, model in shown.items()},
        [
            f"{which}\n{shorten(images.names[row], 14)}"
            for which, row in zip(_ROWS, rows, strict=True)
        ],
        f"{name}: {task.task.metric.removeprefix('mean ')} of {len(images)} {SPLIT} images, "
        + ", ".join(f"{shorten(title, 24)} {scores[m].mean():.3f}" for title, m in shown.items()),
    )


def _columns(scores: Mapping[str, np.ndarray], expert: str, rows: Sequence[int]) -> dict[str, str]:
    """Title of each column to the model that it shows."""
    experts = [model for model in scores if model.startswith("expert:")]
    own = f"expert:{expert}"
    foreign = [model for model in experts if model != own]
    shown = {"base": "base"} if "base" in scores else {}
    if own in scores:
        shown["own expert"] = own
    if foreign:
        best = max(foreign, key=lambda model: scores[model][list(rows)].mean())
        shown[f"{best.removeprefix('expert:')} expert"] = best
    return shown | {model: model for model in scores if model != "base" and model not in experts}


@styled
def predictions_figure(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    predictions: Mapping[str, Sequence[np.ndarray]],
    scores: Mapping[str, Sequence[float]],
    rows: Sequence[str],
    title: str,
) -> Figure:
    """Images in rows; image, truth and the predictions of models in columns.

    Args:
        images: ``(h, w, 3)`` uint8 each.
        truths: True masks, ``(h, w)`` bool each.
        predictions: Title of a model to its masks, ``(h, w)`` bool for each image.
        scores: Title of a model to its score on each image.
        rows: What is said of each image.
        title: What is said of all.
    """
    columns = ["image", "truth", *predictions]
    side = 9.6 / len(columns)
    figure = new_figure(9.9, (side + 0.2) * len(images) + 0.8)
    panels = figure.subplots(len(images), len(columns), squeeze=False)
    for row, (image, truth) in enumerate(zip(images, truths, strict=True)):
        _show(panels[row, 0], image)
        _show(panels[row, 1], _painted(image, {"found": truth}))
        panels[row, 0].set_ylabel(rows[row])
        for column, name in enumerate(predictions, start=2):
            found = predictions[name][row]
            parts = {"found": found & truth, "missed": truth & ~found, "wrong": found & ~truth}
            _show(panels[row, column], _painted(image, parts))
            panels[row, column].set_xlabel(f"{scores[name][row]:.3f}", labelpad=2)
    for panel, heading in zip(panels[0], columns, strict=True):
        panel.set_title(shorten(heading, 16), loc="center", fontsize=8.5)
    figure.suptitle(title, fontsize=9.5, wrap=True)
    figure.legend(
        handles=[Patch(color=color, label=name) for name, color in _COLORS.items()],
        loc="outside lower center",
        ncols=len(_COLORS),
    )
    return figure


def _painted(image: np.ndarray, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """The image in grey, ``(h, w, 3)`` float in [0, 1], with colored regions."""
    grey = image.mean(axis=2, keepdims=True) / 255
    painted = np.repeat(0.25 + 0.6 * grey, 3, axis=2)
    for name, region in parts.items():
        color = np.array(to_rgb(_COLORS[name]))
        painted[region] = (1 - _OPACITY) * painted[region] + _OPACITY * color
    return painted


def _show(panel: Axes, image: np.ndarray) -> None:
    panel.imshow(image, interpolation="nearest")
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(False)
