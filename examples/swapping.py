"""One run with every archive and emitter, then with every scheduler: same seed, same budget.

Each run is an ordinary run folder, so the script can be stopped and started again::

    python examples/swapping.py segmentation-tiny --evaluations 60 --out runs/swapping-segmentation
    python examples/swapping.py llm-tiny --evaluations 30 --out runs/swapping-llm
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from qdmerge.runs import run_or_resume
from qdmerge.settings import load_config

ARCHIVES = ("grid", "cvt", "dns")
EMITTERS = ("merge", "iso_line", "cma_es", "gaussian")
SCHEDULERS = ("cycle", "bandit", "fixed")


def combinations() -> Iterator[dict[str, str]]:
    """All archives with all emitters, then the other schedulers with the paper's parts."""
    for archive in ARCHIVES:
        for emitter in EMITTERS:
            yield {"archive": archive, "emitters": emitter, "scheduler": SCHEDULERS[0]}
    for scheduler in SCHEDULERS[1:]:
        yield {"archive": ARCHIVES[0], "emitters": EMITTERS[0], "scheduler": scheduler}


def row(results: Mapping[str, Any]) -> list[str]:
    """What came out of a run: the best elite on the selection split, and the archives."""
    rows = results["candidates"]
    # Where one elite is the best of all archives, it goes by the name of their aggregate.
    elites = [one for one in rows if one["kind"] == "elite"] or [
        one for one in rows if one["kind"] == "aggregate"
    ]
    best = max(elites, key=lambda one: np.prod(list(one["selection"].values())))
    archives = results["archives"].values()
    return [
        str(results["evaluations"]),
        f"{np.mean([archive['elites'] for archive in archives]):.1f}",
        f"{np.mean([archive['best'] for archive in archives]):.3f}",
        f"{best['test_mean']:.3f}",
        f"{best['test_min']:.3f}",
        f"{results['seconds']['total']:.0f}",
    ]


def main(
    source: Annotated[str, typer.Argument()] = "segmentation-tiny",
    evaluations: int = 60,
    seed: int = 0,
    out: Path = Path("runs/swapping"),
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
) -> None:
    """Runs all combinations and prints a Markdown table."""
    settings = [*(changes or []), f"evaluations={evaluations}", f"seed={seed}"]
    print(
        "| archive | emitter | scheduler | children | elites per archive | best quality "
        "(validation) | best elite: test mean | minimum | seconds |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for parts in combinations():
        names = list(parts.values())
        config = load_config(source, settings, {**parts, "emitters": [parts["emitters"]]})
        cells = names + row(run_or_resume(config, out / "-".join(names)))
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
