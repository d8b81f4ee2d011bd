"""What the levels of conflict mean: how far apart the experts are, and what simple merges keep.

Builds the zoos that are not in the cache yet, and prints a Markdown table::

    python examples/tiny_llm/conflict.py --tasks 4 --levels 0 --levels 2
"""

from __future__ import annotations

from itertools import combinations
from typing import Annotated

import numpy as np
import typer

from qdmerge.settings import load_config
from qdmerge.spaces import ExpertSpace, task_vector_cosine
from qdmerge_llm.config import LLMConfig

LARGEST = "llm-conflict-6"
"""The preset whose first tasks the smaller zoos have."""
SCALES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
HEADER = (
    "| tasks | level | replay | steps of the experts | cosine: mean (range) | experts on their own "
    "tasks | base: mean / min | average: mean / min | best uniform scale: mean / min |"
)


def zoo_config(tasks: int, level: int, seed: int, items: int) -> LLMConfig:
    """The settings of a zoo with all its experts, and validation items alone."""
    config = load_config(LARGEST).backend
    assert isinstance(config, LLMConfig)
    counts = {"validation": items, "selection": 1, "test": 1}
    chosen = {
        name: task.model_copy(update=counts) for name, task in list(config.tasks.items())[:tasks]
    }
    return LLMConfig(
        base="tiny://base",
        experts={name: f"tiny://{name}" for name in chosen},
        tasks=chosen,
        sources={"tiny": {"seed": seed, "tasks": tasks, "conflict": level}},
    )


def row(config: LLMConfig) -> str:
    """The row of a zoo."""
    spec, names = config.sources["tiny"].spec, list(config.experts)
    backend = config.build(ExpertSpace)
    cosines = [task_vector_cosine(backend.space.vectors, *p) for p in combinations(names, 2)]
    count = len(names)
    scales = {1 / count, *SCALES}
    asked = [np.zeros(count), *np.eye(count), *(np.full(count, scale) for scale in sorted(scales))]
    scores = backend.evaluate(np.array(asked), "validation").scores
    own = scores[1 : count + 1].diagonal()
    uniform = dict(zip(sorted(scales), scores[count + 1 :], strict=True))
    best = max(uniform, key=lambda scale: uniform[scale].mean())
    steps = ", ".join(str(spec.stage(name).steps) for name in names)
    cells = [
        str(count),
        str(config.sources["tiny"].conflict),
        f"{spec.expert.replay:.0%}",
        steps,
        f"{np.mean(cosines):.2f} ({min(cosines):.2f} to {max(cosines):.2f})",
        ", ".join(f"{score:.2f}" for score in own),
        spread(scores[0]),
        spread(uniform[1 / count]),
        f"{best:.2g}: {spread(uniform[best])}",
    ]
    return f"| {' | '.join(cells)} |"


def spread(scores: np.ndarray) -> str:
    """Mean and minimum over the tasks."""
    return f"{scores.mean():.3f} / {scores.min():.3f}"


def main(
    tasks: Annotated[list[int] | None, typer.Option(help="3, 4, 6; repeatable.")] = None,
    levels: Annotated[list[int] | None, typer.Option(help="0 to 3; repeatable.")] = None,
    seed: int = 0,
    items: Annotated[int, typer.Option(help="Validation items of a task.")] = 128,
) -> None:
    """Prints the table of zoos."""
    print(HEADER)
    print("|---:|---:|---:|---|---|---|---|---|---|")
    for count in tasks or (3, 4, 6):
        for level in levels or range(4):
            print(row(zoo_config(count, level, seed, items)), flush=True)


if __name__ == "__main__":
    typer.run(main)
