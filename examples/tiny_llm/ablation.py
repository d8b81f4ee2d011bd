"""The paper's ablation (its table 2) on the tiny language models.

Same budget for every variant, several seeds; each run is an ordinary run folder, so the script can
be stopped and started again::

    python examples/tiny_llm/ablation.py --seeds 3 --evaluations 80 --set final.leading=1
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from qdmerge.config import load_config
from qdmerge.runs import obtain_results

FIXED = {"name": "fixed"}
CYCLE = {"name": "cycle"}
GAUSSIAN = {"name": "gaussian", "sigma": 0.05}
SVD = {"name": "svd", "scale": 0.1}

VARIANTS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "fixed quality axis": (FIXED, "uniform", "none"),
    "cycling": (CYCLE, "uniform", "none"),
    "cycling + Gaussian mutation": (CYCLE, "uniform", GAUSSIAN),
    "cycling + SVD mutation": (CYCLE, "uniform", SVD),
    "cycling + SVD mutation + elite sampling": (CYCLE, "elite", SVD),
}


def settings(scheduler: dict[str, Any], selection: str, mutation: Any) -> list[str]:
    """The settings of a variant, as ``--set`` takes them."""
    emitter = {"name": "merge", "selection": selection, "mutation": mutation}
    return [f"scheduler={scheduler}", f"emitters=[{emitter}]"]


def best_elite(found: dict[str, Any]) -> dict[str, Any]:
    """The elite that is best on the selection split, whatever was chosen."""
    # Where all archives agree on the elite of best mean, it goes by the name of their aggregate.
    elites = [
        row
        for row in found["candidates"]
        if row["kind"] == "elite" or row["name"] == "aggregate_mean"
    ]
    return max(elites, key=lambda row: np.prod(list(row["selection"].values())))


def numbers(found: dict[str, Any]) -> list[float]:
    """The row of one run."""
    rows = {row["name"]: row for row in found["candidates"]}
    elite = best_elite(found)
    return [
        rows[found["chosen"]]["test_mean"],
        elite["test_mean"],
        elite["test_gmean"],
        elite["test_min"],
        sum(archive["qd_score"] for archive in found["archives"].values()),
    ]


def main(
    preset: Annotated[str, typer.Argument()] = "llm-tiny",
    seeds: int = 3,
    evaluations: int = 150,
    out: Path = Path("runs/ablation"),
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
) -> None:
    """Runs all variants and prints a Markdown table: mean and standard deviation over seeds."""
    print(
        "| variant | chosen: test mean | best elite: test mean | geo. mean | minimum | QD score |"
    )
    print("|---|---|---|---|---|---|")
    for name, variant in VARIANTS.items():
        rows = []
        for seed in range(seeds):
            overrides = [f"seed={seed}", f"evaluations={evaluations}", *settings(*variant)]
            config = load_config(preset, overrides + (changes or []))
            rows.append(numbers(obtain_results(config, out / f"{name.replace(' ', '-')}-{seed}")))
        means, spreads = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)
        cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(means, spreads, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
