"""Figures: test images with predicted masks, and the validation curves of trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from qdmerge.backend import Task
from qdmerge.reports import new_figure, shorten, styled
from qdmerge_segmentation.data import ImageSet
from qdmerge_segmentation.metrics import MEANS

# Colors are safe for color-blind readers (Okabe and Ito).
_REGIONS = {"found": "#009E73", "missed": "#0072B2", "wrong": "#D55E00"}
_OPACITY = 0.65
_LINE_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#B8A800")
_LINE_STYLES = ("-", "--", ":", "-.")
_COLUMNS = 3


def task_figure(
    task: Task,
    images: ImageSet,
    masks: Mapping[str, Sequence[np.ndarray]],
    scores: Mapping[str, np.ndarray],
    split: str,
) -> Figure:
    """Draw images of a task and the predictions of models side by side.

    The rows are the images that the last model segments best, median and worst. The columns are
    image, truth, base, the task's own expert, the best other expert on these images, and the models
    after the experts.

    Args:
        task: The task.
        images: Its images.
        masks: Model to its prediction for each image, ``(h, w)`` bool, in the order base, experts
            (``expert:NAME``), others.
        scores: Model to its scores, ``(n_images,)``.
        split: Name of the images' split.
    """
    order = np.argsort(-scores[list(scores)[-1]], kind="stable")
    rows = {"best": order[0], "median": order[(len(order) - 1) // 2], "worst": order[-1]}
    shown = _columns(scores, task.expert or task.name, list(rows.values()))
    means = ", ".join(f"{shorten(title, 24)} {scores[m].mean():.3f}" for title, m in shown.items())
    metric = task.metric.removeprefix("mean ")
    return predictions_figure(
        [images.images[row] for row in rows.values()],
        [images.masks[row] for row in rows.values()],
        {title: [masks[model][row] for row in rows.values()] for title, model in shown.items()},
        {title: [scores[model][row] for row in rows.values()] for title, model in shown.items()},
        [f"{which}\n{shorten(images.names[row], 14)}" for which, row in rows.items()],
        f"{task.name}: {metric} of {len(images)} {split} images, {means}",
    )


def _columns(scores: Mapping[str, np.ndarray], expert: str, rows: Sequence[int]) -> dict[str, str]:
    """Map the title of each column to its model."""
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
    """Draw images in rows; image, truth and the predictions of models in columns.

    Args:
        images: ``(h, w, 3)`` uint8 each.
        truths: True masks, ``(h, w)`` bool each.
        predictions: Title of a model to its masks, ``(h, w)`` bool for each image.
        scores: Title of a model to its score on each image.
        rows: Label of each row.
        title: Title of the figure.
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
        handles=[Patch(color=color, label=name) for name, color in _REGIONS.items()],
        loc="outside lower center",
        ncols=len(_REGIONS),
    )
    return figure


def _painted(image: np.ndarray, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the image in grey with colored regions, ``(h, w, 3)`` float in [0, 1]."""
    grey = image.mean(axis=2, keepdims=True) / 255
    painted = np.repeat(0.25 + 0.6 * grey, 3, axis=2)
    for name, region in parts.items():
        color = np.array(to_rgb(_REGIONS[name]))
        painted[region] = (1 - _OPACITY) * painted[region] + _OPACITY * color
    return painted


def _show(panel: Axes, image: np.ndarray) -> None:
    panel.imshow(image, interpolation="nearest")
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(False)


@styled
def curves_figure(records: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw mean validation scores over steps: a panel per model, a line per task, its own bold.

    Args:
        records: Model to the history of its training.
    """
    tasks = list(dict.fromkeys(t for record in records.values() for t in record["metrics"]))
    metrics = {metric for record in records.values() for metric in record["metrics"].values()}
    label = MEANS[metrics.pop()] if len(metrics) == 1 else "validation score"
    columns = min(len(records), _COLUMNS)
    rows = -(-len(records) // columns)
    figure = new_figure(9.0, 2.6 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for panel, (name, record) in zip(panels, records.items(), strict=False):
        _draw_model(panel, record, tasks)
        panel.set_title(shorten(name, 28))
    for panel in panels[: len(records) : columns]:
        panel.set_ylabel(label)
    for panel in panels[len(records) :]:
        panel.set_visible(False)
    lines = [panels[0].plot([], [], **_look(number))[0] for number in range(len(tasks))]
    labels = [shorten(task, 24) for task in tasks]
    figure.legend(lines, labels, loc="outside lower center", ncols=min(len(tasks), 4))
    return figure


def _draw_model(panel: Axes, record: Mapping[str, Any], tasks: list[str]) -> None:
    curve = record["curve"]
    steps = [point["step"] for point in curve]
    for number, task in enumerate(tasks):
        if task in record["metrics"]:
            own = task in record["tasks"]
            panel.plot(
                steps,
                [point["validation"][task] for point in curve],
                linewidth=2.6 if own else 1.2,
                alpha=1.0 if own else 0.7,
                zorder=3 if own else 2,
                **_look(number),
            )
    panel.set_xlim(0, steps[-1])
    panel.set_ylim(0, 1)
    panel.set_xlabel("steps")
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.grid(color="#EFEFEF")


def _look(number: int) -> dict[str, Any]:
    return {
        "color": _LINE_COLORS[number % len(_LINE_COLORS)],
        "linestyle": _LINE_STYLES[number % len(_LINE_STYLES)],
    }
