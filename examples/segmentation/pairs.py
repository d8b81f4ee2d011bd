"""The paper's table 4 in small: experts merged two at a time, and all at once.

On the generated images, then on folders of images and masks::

    python examples/segmentation/pairs.py segmentation-tiny --out runs/pairs-tiny
    python examples/segmentation/pairs.py segmentation-conflict-6 --seeds 2 --out runs/pairs-6
    python examples/segmentation/pairs.py examples/segmentation/folders.yaml --data FOLDER

Every seed trains experts of its own (and splits the images anew), then searches. All runs are
ordinary run folders, so the script can be stopped and started again. It prints Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from _forecasts import forecasts, rank_correlation, smallest_p

from qdmerge.runs import run_or_resume
from qdmerge.settings import RunConfig, load_config, parse_config

KEEPS = 0.9
"""Share of its own expert's score that a merged model must keep on every task (paper, table 4)."""
METHODS = ("base", "best expert", "average", "task_arithmetic", "aggregate", "best elite", "chosen")

Relative = dict[str, np.ndarray]
"""Method to its test scores, each relative to the task's own expert."""


def seeded(source: str, seed: int, data: Path | None, out: Path, changes: Sequence[str]) -> Any:
    """The configuration of a seed as plain data, its models trained if they are missing."""
    overrides = [f"seed={seed}", f"backend.sources.tiny.seed={seed}"]
    if data is not None:
        config = load_config(source, changes, models=False)
        models = (out / f"models-{seed}").resolve()
        overrides += [f"backend.split_seed={seed}", f"backend.training.seed={seed}"]
        overrides += [f"backend.base={models / 'base'}"]
        overrides += [f"backend.experts.{name}={models / name}" for name in config.backend.experts]
        overrides += [
            f"backend.tasks.{name}.data={(data / name).resolve()}" for name in config.backend.tasks
        ]
    config = load_config(source, [*changes, *overrides], models=False)
    config.backend.make_experts(lambda stage, done, total: None)
    return load_config(source, [*changes, *overrides]).echo()


def groups(tasks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All pairs of tasks, then all tasks."""
    yield from combinations(tasks, 2)
    if len(tasks) > 2:
        yield tuple(tasks)


def restricted(config: Mapping[str, Any], tasks: Sequence[str]) -> RunConfig:
    """The configuration with some of the tasks, and their experts, only."""
    backend = dict(config["backend"])
    for part in ("tasks", "experts"):
        backend[part] = {name: backend[part][name] for name in tasks}
    return parse_config({**config, "backend": backend})


def relative_scores(results: Mapping[str, Any]) -> Relative:
    """Test scores of every method, relative to the own experts."""
    tasks = results["tasks"]
    rows = {row["name"]: row for row in results["candidates"]}
    own = np.array([rows[f"expert:{task}"]["test"][task] for task in tasks])

    def scores(row: Mapping[str, Any]) -> np.ndarray:
        return np.array([row["test"][task] for task in tasks]) / own

    def leader(kind: str) -> Mapping[str, Any]:
        """The best of a kind on the selection split."""
        found = [row for row in rows.values() if row["kind"] == kind]
        # Where one elite is the best of all archives, it goes by the name of their aggregate.
        found = found or [rows["aggregate"]]
        return max(found, key=lambda row: np.prod(list(row["selection"].values())))

    return {
        "base": scores(rows["base"]),
        "best expert": scores(leader("expert")),
        "average": scores(rows["average"]),
        "task_arithmetic": scores(rows["task_arithmetic"]),
        "aggregate": scores(rows["aggregate"]),
        "best elite": scores(leader("elite")),
        "chosen": scores(rows[results["chosen"]]),
    }


def print_scores(found: Mapping[tuple[str, ...], Sequence[Relative]], similar: Any) -> None:
    """A row per group of tasks: mean over tasks (least over tasks), averaged over the seeds."""
    print(f"\n| tasks | {' | '.join(METHODS)} | s |")
    print("|---|" + "---:|" * (len(METHODS) + 1))
    for group, seeds in found.items():
        cells = [
            f"{np.mean([one[method].mean() for one in seeds]):.3f} "
            f"({np.mean([one[method].min() for one in seeds]):.2f})"
            for method in METHODS
        ]
        s = f"{np.mean(similar[group]):.3f}" if group in similar else ""
        print(f"| {' + '.join(group)} | {' | '.join(cells)} | {s} |")


def print_kept(found: Mapping[tuple[str, ...], Sequence[Relative]], seeds: int) -> None:
    """A row per method: in how many pairs it keeps enough of both experts, for every seed."""
    pairs = [group for group in found if len(group) == 2]
    print(f"\n| method | pairs of {len(pairs)} that keep {KEEPS:.0%} of both experts, by seed |")
    print("|---|---|")
    for method in METHODS:
        counts = [
            sum(found[pair][seed][method].min() >= KEEPS for pair in pairs) for seed in range(seeds)
        ]
        print(f"| {method} | {', '.join(map(str, counts))} |")


def print_forecasts(
    found: Mapping[tuple[str, ...], Sequence[Relative]],
    told: Mapping[tuple[str, ...], Sequence[Mapping[str, float]]],
    seeds: int,
) -> None:
    """Correlations, over the pairs of a seed, of forecasts with what merging gave on test."""
    methods = ("average", "aggregate", "chosen")
    print(f"\n| Pearson correlation with the lower relative score of | {' | '.join(methods)} |")
    print("|---|" + "---|" * len(methods))
    for name in next(iter(told.values()))[0]:
        cells = []
        for method in methods:
            values = [
                np.corrcoef(
                    [told[pair][seed][name] for pair in told],
                    [found[pair][seed][method].min() for pair in told],
                )[0, 1]
                for seed in range(seeds)
            ]
            each = ", ".join(f"{value:+.2f}" for value in values)
            cells.append(f"{np.mean(values):+.2f} ({each})")
        print(f"| {name} | {' | '.join(cells)} |")


def print_ranks(
    found: Mapping[tuple[str, ...], Sequence[Relative]],
    told: Mapping[tuple[str, ...], Sequence[Mapping[str, float]]],
    seeds: int,
) -> None:
    """Rank correlations of forecasts with what merging gave on test, over all zoos at once."""
    methods = ("average", "task_arithmetic", "aggregate", "best elite", "chosen")
    experts = len({task for pair in told for task in pair})
    names = list(next(iter(told.values()))[0])
    print(
        f"\n| Spearman correlation (p) with the lower relative score of | {' | '.join(methods)} |"
    )
    print("|---|" + "---|" * len(methods))
    for name in names:
        cells = []
        for method in methods:
            forecast = [[one[seed][name] for one in told.values()] for seed in range(seeds)]
            outcome = [[found[pair][seed][method].min() for pair in told] for seed in range(seeds)]
            cells.append("{:+.2f} ({:.2g})".format(*rank_correlation(forecast, outcome, experts)))
        print(f"| {name} | {' | '.join(cells)} |")
    print(
        f"\nn: {len(told)} pairs of {experts} experts, times {seeds} seeds; means over the seeds. "
        "p is two-sided, by relabeling the experts of each seed, and never below "
        f"{smallest_p(experts, seeds):.2g}; it is not corrected for the {len(names)} forecasts "
        f"and {len(methods)} methods."
    )


def main(
    source: Annotated[str, typer.Argument()] = "segmentation-tiny",
    data: Annotated[Path | None, typer.Option(help="Folder with a folder per task.")] = None,
    seeds: int = 3,
    first: Annotated[int, typer.Option(help="The first seed.")] = 0,
    evaluations: int = 100,
    out: Path = Path("runs/pairs"),
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
) -> None:
    """Makes experts, merges all pairs and all at once, and prints tables."""
    settings = ["execution.workers=1", *(changes or []), f"evaluations={evaluations}"]
    found: dict[tuple[str, ...], list[Relative]] = {}
    told: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for seed in range(first, first + seeds):
        config = seeded(source, seed, data, out, settings)
        for group in groups(list(config["backend"]["tasks"])):
            part = restricted(config, group)
            results = run_or_resume(part, out / f"{'+'.join(group)}-{seed}")
            found.setdefault(group, []).append(relative_scores(results))
            if len(group) == 2:
                told.setdefault(group, []).append(forecasts(part, group))
            kept = found[group][-1]["chosen"]
            print(f"seed {seed}, {' + '.join(group)}: chosen keeps {kept.round(3)}", flush=True)
    print_scores(found, {p: [one["similarity s"] for one in told[p]] for p in told})
    print_kept(found, seeds)
    print_forecasts(found, told, seeds)
    print_ranks(found, told, seeds)


if __name__ == "__main__":
    typer.run(main)
