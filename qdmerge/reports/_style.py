"""The look that all figures share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from matplotlib import style
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import Stroke

from qdmerge.backend import Measure, Task
from qdmerge.errors import RunError
from qdmerge.storage import write_whole

Canvas = Figure | SubFigure

WIDTH = 9.0
"""Inches; with 9 pt as the smallest font, figures can be read at 900 pixels."""

DPI = 200

# Okabe and Ito's palette, safe for color-blind readers; its orange is kept for the chosen model.
TASK_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#B8A800")
CHOSEN_COLOR = "#E69F00"
FOUND_COLOR = "#A9CFE8"
REFERENCE_COLOR = "#CFCFCF"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
EMPTY_COLOR = "#EFEFEF"
MUTED = "#555555"
COLORMAP = "viridis"

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.edgecolor": "#777777",
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "xtick.color": "#777777",
    "ytick.color": "#777777",
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "grid.color": EMPTY_COLOR,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100.0,
    "text.usetex": False,
    "text.parse_math": False,
}

_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a function to draw in the style of the reports, whatever the user's settings."""

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with style.context(["default", _STYLE]):
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float, foot: float = 0.0) -> Figure:
    """Return an empty figure that arranges its content.

    Args:
        width: Inches.
        height: Inches.
        foot: Inches that stay free at the lower end.
    """
    free = (0.0, foot / height, 1.0, 1 - foot / height)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, rect=free)
    return Figure(figsize=(width, height), layout=layout)


def shorten(text: str, length: int) -> str:
    """Return the text, with its middle left out if it is longer than ``length`` characters."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def axis_label(part: Task | Measure, length: int) -> str:
    """Return name and metric of a task, or name of a measure, in at most ``length`` characters."""
    if isinstance(part, Measure):
        return shorten(part.name, length)
    unit = " score" if part.metric == "score" else f" ({part.metric})"
    if len(part.name) + len(unit) > length and len(unit) > length // 2:
        unit = ""
    return shorten(part.name, length - len(unit)) + unit


def halo(width: float) -> list[Stroke]:
    """Return path effects that set a line off any background."""
    return [Stroke(linewidth=width, foreground="white"), Stroke()]


def legend_shape(labels: Sequence[str], width: float) -> tuple[int, int]:
    """Return rows and columns of a legend that fits into ``width`` inches."""
    for columns in range(len(labels), 1, -1):
        rows = -(-len(labels) // columns)
        longest = [max(map(len, labels[at : at + rows])) for at in range(0, len(labels), rows)]
        if sum(longest) + 8 * columns <= width / 0.08:
            return rows, columns
    return len(labels), 1


@styled
def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, and make its folder.

    Returns:
        The path.

    Raises:
        RunError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda part: figure.savefig(part, dpi=DPI, format="png"))
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return path
