"""What measuring BatchNorm's statistics anew changes, on the tiny images.

Trains a base and experts like the tiny preset's, once with BatchNorm and once with GroupNorm, and
prints validation Dice of the plain average, as a share of the own experts'::

    python examples/segmentation/batch_norm.py --out runs/batch-norm
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from qdmerge.merges import plain_average
from qdmerge.runs import BuildBackend
from qdmerge.settings import load_config
from qdmerge_segmentation.models import UNetConfig, UNetForSemanticSegmentation
from qdmerge_zoo.segmentation import ZooSpec


def settings(norm: str, seed: int, out: Path) -> list[str]:
    """Changes of the tiny preset: models of their own, trained by its recipe."""
    models = (out / f"{norm}-{seed}").resolve()
    start = models / "start"
    if not start.exists():
        torch.manual_seed(seed)
        UNetForSemanticSegmentation(UNetConfig(norm=norm)).save_pretrained(start)
    recipe = ZooSpec()
    tasks = load_config("segmentation-tiny", models=False).backend.names()
    stages = {name: getattr(recipe, name).model_dump(mode="json") for name in ("base", "experts")}
    return [
        f"backend.base={models / 'base'}",
        *(f"backend.experts.{task}={models / task}" for task in tasks),
        f"backend.training={dict(stages, start=str(start), seed=seed)}",
    ]


def kept(changes: list[str]) -> list[float]:
    """The average's Dice relative to the own expert's: mean and minimum over the tasks."""
    backend = BuildBackend(load_config("segmentation-tiny", changes))()
    models = [plain_average(backend.space), *(backend.space.seeds[t.name] for t in backend.tasks)]
    scores = backend.evaluate(np.stack(models), "validation").scores
    relative = scores[0] / np.diag(scores[1:])
    return [relative.mean(), relative.min()]


def main(seeds: int = 1, out: Annotated[Path, typer.Option()] = Path("runs/batch-norm")) -> None:
    """Trains what is missing and prints a Markdown table."""
    print("| norm | statistics | seed | average keeps, mean over tasks | minimum |")
    print("|---|---|---:|---:|---:|")
    for seed in range(seeds):
        for norm, ways in (("batch", (False, True)), ("group", (True,))):
            changes = settings(norm, seed, out)
            config = load_config("segmentation-tiny", changes, models=False)
            config.backend.make_experts(lambda stage, done, total: None)
            for anew in ways:
                way = ("measured anew" if anew else "merged") if norm == "batch" else "none"
                row = kept([*changes, f"backend.reestimate_batch_norm={anew}".lower()])
                print(f"| {norm} | {way} | {seed} | {row[0]:.3f} | {row[1]:.3f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
