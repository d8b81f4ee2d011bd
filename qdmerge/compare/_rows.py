"""The runs of a comparison as rows, read from their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from qdmerge.backend import SPLITS
from qdmerge.compare._plan import PlannedRun
from qdmerge.errors import RunError
from qdmerge.runs import History, RunFolder, read_history
from qdmerge.storage import content_digest


@dataclass(frozen=True, eq=False)
class Pick:
    """The model that a criterion chose among what a run found, with its scores by task."""

    name: str
    solution: str
    validation: Mapping[str, float]
    selection: Mapping[str, float]
    test: Mapping[str, float]
    items: Mapping[str, np.ndarray | None] = field(default_factory=dict)  # test scores, float64


@dataclass(frozen=True, eq=False)
class RunRow:
    """One run of one method; runs of the same test bed and seed are compared in pairs."""

    method: str
    seed: int | None  # None for a method without randomness
    test_bed: str
    status: Literal["ok", "failed"] = "ok"
    cause: str = ""
    evaluations: int = 0  # on validation, tuning included
    seconds: float = 0.0  # summed over workers and splits, shared evaluations included
    passes: int = 0  # of a guide, forward and backward over a batch; steps of a training
    evaluating: float = 0.0  # seconds of the evaluations that are counted
    guiding: float = 0.0  # seconds of a guide, or of a training
    preparing: float = 0.0  # seconds of what all models share, wherever that was done
    data: str = ""  # fingerprint of the test items
    training: Mapping[str, float] | None = None  # cost by name
    picks: Mapping[str, Pick] = field(default_factory=dict)  # by criterion
    dropped: Mapping[str, str] = field(default_factory=dict)  # candidate to why it has no scores
    points: np.ndarray | None = None  # (n, K) selection scores of the candidates
    evaluated: Sequence[np.ndarray | None] = ()  # (K,) validation scores of children; None: failed
    seeds: np.ndarray | None = None  # (s, K) validation scores of base and experts
    incumbents: Sequence[tuple[int, np.ndarray]] = ()  # evaluations so far, (K,) selection scores


def methods_of(rows: Sequence[RunRow]) -> dict[str, list[RunRow]]:
    """Return method to its finished runs, in the order of first appearance."""
    found: dict[str, list[RunRow]] = {row.method: [] for row in rows}
    for row in rows:
        if row.status == "ok":
            found[row.method].append(row)
    return found


def list_test_beds(rows: Sequence[RunRow]) -> list[str]:
    """Return the names of the test beds, in the order of first appearance."""
    return list(dict.fromkeys(row.test_bed for row in rows))


_VALIDATION, _TEST = SPLITS[0], SPLITS[-1]


def read_rows(planned: Sequence[PlannedRun], failures: Mapping[str, str]) -> list[RunRow]:
    """Read one row per run, in order; missing or damaged results make a failed run."""
    rows = []
    for run in planned:
        try:
            rows.append(_row(run, failures.get(run.label)))
        except RunError as error:  # one damaged folder does not cost the whole page
            rows.append(_failed(run, str(error)))
    return rows


def _failed(planned: PlannedRun, cause: str) -> RunRow:
    """Return a failed run, with what it spent if its log can be read."""
    spent: dict[str, Any] = {}
    with suppress(RunError, KeyError):
        history = read_history(RunFolder(planned.folder).read_events())
        spent = _costs(planned, history)
    return RunRow(
        planned.name, planned.seed, planned.test_bed, status="failed", cause=cause, **spent
    )


def _row(planned: PlannedRun, failure: str | None) -> RunRow:
    folder = RunFolder(planned.folder)
    if failure is not None or not folder.results.is_file():
        return _failed(planned, failure or "it is not finished")
    results = folder.read_results()
    history = read_history(folder.read_events())
    tasks = results["tasks"]
    tested = {row["name"]: row for row in results["candidates"]}
    items = {
        event["solution"]: event["items"] for event in history.final if event["split"] == "test"
    }
    return RunRow(
        planned.name,
        planned.seed,
        planned.test_bed,
        **_costs(planned, history),
        data=_digest(results["facts"].get("items")),
        picks={
            by: _pick(tested[name], items.get(tested[name]["solution"]))
            for by, name in results["picks"].items()
        },
        dropped=results["dropped"],
        points=np.array([_values(one["selection"], tasks) for one in results["held_out"]]),
        evaluated=[model.scores for model in history.evaluated if model.batch >= 0],
        seeds=np.array(
            [m.scores for m in history.evaluated if m.batch < 0 and m.scores is not None]
        ),
        incumbents=[
            (one["evaluations"], np.array(_values(one["selection"], tasks)))
            for one in results.get("incumbents", ())
        ],
    )


def _costs(planned: PlannedRun, history: History) -> dict[str, Any]:
    """Return what a run cost: the search, tuning after it, and the training of its model."""
    # A full table also scores references, which are not the method's cost.
    full = planned.config.final.table == "full"
    tuning = [] if full else [one for one in history.final if one["split"] == _VALIDATION]
    trained = planned.method.model == "multitask"
    training = planned.config.backend.training_cost() if trained else None
    known = training or {}
    children = (model for model in history.evaluated if model.batch >= 0)
    return {
        "evaluations": history.n_children + len(tuning),
        "seconds": history.evaluating_seconds,
        "passes": history.gradient_passes + int(known.get("steps", 0)),
        "evaluating": sum(model.seconds for model in children)
        + sum(float(event["seconds"]) for event in tuning),
        "guiding": history.guiding_seconds + known.get("seconds", 0.0),
        "preparing": history.preparing_seconds,
        "training": training,
    }


def _pick(row: Mapping[str, Any], items: Mapping[str, Sequence[float]] | None) -> Pick:
    known = {task: np.array(scores, float) for task, scores in (items or {}).items()}
    return Pick(**{key: row[key] for key in ("name", "solution", *SPLITS)}, items=known)


def _digest(items: Any) -> str:
    """Return a fingerprint of the test items of all tasks; "" where there are none."""
    if items is None:
        return ""
    if isinstance(items, dict):
        splits = [one for one in items.values() if isinstance(one, dict)]
        items = [one.get(_TEST, one) for one in splits] or items
    return content_digest(items)


def _values(scores: Mapping[str, float], tasks: Sequence[str]) -> list[float]:
    return [scores[task] for task in tasks]
