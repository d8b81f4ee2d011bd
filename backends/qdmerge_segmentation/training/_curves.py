"""The validation curves of the models of a configuration, in one figure."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qdmerge.reports import new_figure, save_figure, shorten, styled
from qdmerge_segmentation.training._plan import local_models
from qdmerge_segmentation.training._record import read_record

if TYPE_CHECKING:
    from qdmerge_segmentation.config import SegmentationConfig

FIGURE = "training.png"
_COLUMNS = 3
# Safe for color-blind readers (Okabe and Ito).
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#B8A800")
_LINES = ("-", "--", ":", "-.")
_METRICS = {"dice": "mean Dice", "iou": "mean IoU"}


def draw_curves(config: SegmentationConfig, made: Collection[str]) -> Path:
    """Draws the curves of all models of a configuration whose history is there.

    Args:
        config: The configuration.
        made: Names of the models that were just made. Others may lie where nothing is to be
            written, such as a checked cache.

    Returns:
        The figure in the folder that holds the models made (the first one's, if they are apart).
    """
    models = local_models(config)
    found = {name: read_record(model.record) for name, model in models.items()}
    records = {name: record for name, record in found.items() if record is not None}
    folders = [models[name].target.absolute().parent for name in made]
    common = Path(os.path.commonpath(folders))
    return save_figure(
        curves_figure(records), (common if common in folders else folders[0]) / FIGURE
    )


@styled
def curves_figure(records: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Mean validation score over steps: a panel per model, a line per task, its own tasks bold.

    Args:
        records: Model to the history of its training.
    """
    tasks = list(dict.fromkeys(t for record in records.values() for t in record["metrics"]))
    metrics = {metric for record in records.values() for metric in record["metrics"].values()}
    label = _METRICS[metrics.pop()] if len(metrics) == 1 else "validation score"
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
    return {"color": _COLORS[number % len(_COLORS)], "linestyle": _LINES[number % len(_LINES)]}
