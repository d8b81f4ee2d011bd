"""A forecast as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qdmerge.criteria import CRITERIA
from qdmerge.reports._tables import _terminal_table, number

if TYPE_CHECKING:
    from rich.table import Table

_MODELS = {"base": "base", "own": "own expert", "average": "average"}


def forecast_tables(found: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a forecast: models by task, and pairs of experts.

    Args:
        found: What :func:`qdmerge.runs.forecast` returns.
    """
    models = {**_MODELS, "uniform": f"uniform \u00d7{found['scale']:.2g}"}
    if found["steps"]:
        models["guided"] = f"{found['steps']} guided"
    kept = [name for name in ("uniform", "guided") if name in models]
    scores = _terminal_table(
        f"Scores on validation (space {found['space']})",
        ["headroom: own expert minus uniform. kept: what the merge has of own expert minus base."],
    )
    for column in ("task", *models.values(), "headroom", *(f"kept: {name}" for name in kept)):
        scores.add_column(column, justify="left" if column == "task" else "right")
    for task, headroom in found["headroom"].items():
        cells = [number(found["scores"][name][task]) for name in models]
        shares = [_percent(found["kept"][name][task]) for name in kept]
        scores.add_row(task, *cells, number(headroom), *shares)
    together = found["together"]
    scores.add_section()
    scores.add_row(
        CRITERIA[found["criterion"]],
        *(number(together[name]) for name in models),
        number(together["own"] - together["uniform"]),
    )

    guided = any(value is not None for one in found["pairs"] for value in one["disagreement"])
    notes = ["score: each one's on the other's task."]
    if guided:
        notes.append("disagreement: with what the other one says on its items; the base's is 1.")
    notes.append("s: cosine of the task vectors' singular values. cosine: of the task vectors.")
    pairs = _terminal_table("Experts, two at a time", notes)
    columns = ["score", *(["disagreement"] if guided else []), "s", "cosine"]
    for column in ("experts", *columns):
        pairs.add_column(column, justify="left" if column == "experts" else "right")
    for one in found["pairs"]:
        both = ["scores", *(["disagreement"] if guided else [])]
        cells = [" / ".join(_short(value) for value in one[name]) for name in both]
        pairs.add_row(
            ", ".join(one["experts"]), *cells, _short(one["similarity"]), _short(one["cosine"])
        )
    return [scores, pairs]


def _percent(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.0%}"


def _short(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.2f}"
