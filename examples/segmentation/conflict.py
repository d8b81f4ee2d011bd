"""What each level of conflict of the tiny zoos means, in numbers.

Builds the zoos that are not in the cache, and prints as a Markdown table: cosines of the experts'
task vectors, and mean Dice on validation images of base, experts (each on its own task), plain
average, and task arithmetic of the best uniform scale::

    python examples/segmentation/conflict.py --tasks 4 --levels 0,1,2,3
    python examples/segmentation/conflict.py --tasks 6 --levels 2 --multitask
"""

from __future__ import annotations

from itertools import combinations
from typing import Annotated

import numpy as np
import typer

from qdmerge.settings import load_config
from qdmerge.spaces import ExpertSpace, task_vector_cosine
from qdmerge_segmentation.config import SegmentationConfig

SCALES = (0.15, 0.2, 0.3, 0.4, 0.5, 0.6)
PRESETS = {4: "segmentation-conflict", 6: "segmentation-conflict-6"}


def cell(scores: np.ndarray) -> str:
    """Mean and minimum over the tasks."""
    return f"{scores.mean():.3f} ({scores.min():.3f})"


def row(config: SegmentationConfig, rival: bool) -> list[str]:
    """The cells of one zoo: cosines, base, own experts, average, task arithmetic, perhaps rival."""
    backend = config.build(ExpertSpace)
    names = list(config.experts)
    count = len(names)
    cosines = [task_vector_cosine(backend.space.vectors, *pair) for pair in combinations(names, 2)]
    scales = np.outer((0, 1 / count, *SCALES), np.ones(count))
    models = np.concatenate([np.eye(count), scales])
    scores = backend.evaluate(models, "validation").scores
    own, (base, average, *scaled) = np.diag(scores[:count]), scores[count:]
    best = int(np.argmax([one.mean() for one in scaled]))
    cells = [
        f"{np.mean(cosines):+.2f} ({min(cosines):+.2f} to {max(cosines):+.2f})",
        cell(base),
        f"{cell(own)}: {', '.join(f'{score:.2f}' for score in own)}",
        cell(average),
        f"{np.mean(average / own):.2f} ({np.min(average / own):.2f})",
        f"{cell(scaled[best])} x{SCALES[best]:g}",
    ]
    if rival:
        settings = config.multitask()
        settings.prepare(lambda stage, done, total: None)
        found = settings.build(ExpertSpace).evaluate(np.ones((1, 1)), "validation").scores[0]
        cost = settings.training_cost()
        cells.append(f"{cell(found)}, {cost['steps']} steps, {cost['seconds']:.0f} s")
    return cells


def main(
    tasks: int = 4,
    levels: str = "0,1,2,3",
    seed: int = 0,
    multitask: Annotated[bool, typer.Option("--multitask")] = False,
) -> None:
    """Builds what is missing and prints a Markdown table."""
    titles = ["K", "level", "cosine (range)", "base", "experts, each on its own task", "average"]
    titles += ["average keeps", "task arithmetic", *(["all tasks' data"] if multitask else [])]
    print("|", " | ".join(titles), "|")
    print("|", " | ".join(["---"] * len(titles)), "|")
    for level in map(int, levels.split(",")):
        changes = [f"backend.sources.tiny={{conflict: {level}, seed: {seed}, tasks: {tasks}}}"]
        config = load_config(PRESETS[tasks], changes).backend
        config.prepare(lambda stage, done, total: None)
        print(f"| {tasks} | {level} |", " | ".join(row(config, multitask)), "|", flush=True)


if __name__ == "__main__":
    typer.run(main)
