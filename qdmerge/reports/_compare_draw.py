"""Draws all figures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from qdmerge.reports._compare import comparison_chart
from qdmerge.reports._compare_curves import comparison_curves
from qdmerge.reports._compare_fronts import comparison_fronts
from qdmerge.reports._style import save_figure


def draw_comparison(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws what a comparison tells: ``methods-<criterion>.png``, ``curves.png``, ``fronts.png``.

    With several test beds, curves and fronts have one file each, numbered in the order of
    ``compare.json``. What there is no data for is left out.

    Args:
        summary: ``compare.json``.
        folder: Where the figures go; it is created.

    Returns:
        Paths of the figures.

    Raises:
        RunError: A figure cannot be written.
    """
    measure = summary["choose_by"]
    if measure not in summary["measures"]:
        measure = summary["measures"][0]
    figures: dict[str, Figure] = {}
    for criterion in summary["criteria"]:
        picks = [method["picks"].get(criterion, {}) for method in summary["methods"].values()]
        if any(one for pick in picks for one in pick.values()):
            figures[f"methods-{criterion.replace('_', '-')}"] = comparison_chart(summary, criterion)
    blocks = list(dict.fromkeys(one["block"] for one in summary["curves"]))
    for number, block in enumerate(blocks, start=1):
        end = f"-{number}" if len(blocks) > 1 else ""
        curves = [
            one["held_out"]["evaluations"]
            for one in summary["curves"]
            if (one["block"], one["measure"]) == (block, measure)
        ]
        if any(curves):
            figures[f"curves{end}"] = comparison_curves(summary, block, measure)
        if any(one["block"] == block and one["methods"] for one in summary["fronts"]):
            figures[f"fronts{end}"] = comparison_fronts(summary, block)
    return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]
