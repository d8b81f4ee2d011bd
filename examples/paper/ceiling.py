"""How good can a model of a space be at all? Its ceiling, found with gradients.

A search sees scores of whole models only; this looks where it may not: it climbs from the best
uniform merge (in the space ``regmean``, from the best of RegMean's grid) by gradients of the
training loss of all tasks with respect to ``x``. What it finds bounds from below what the
space holds. Steps are chosen on validation; test is not touched. Prints mean (minimum)
validation scores over the tasks as a Markdown table, a row as soon as it is known::

    python examples/paper/ceiling.py segmentation-conflict
    python examples/paper/ceiling.py llm-conflict --steps 400 --spaces layer,spectral
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
import torch
import typer
from _objectives import objective_of

from qdmerge.errors import nearest
from qdmerge.merges import grid, recipe_solutions
from qdmerge.parts import SPACES
from qdmerge.settings import load_config
from qdmerge.spaces import ExpertSpace, RegMeanSpace

SCALES = (0.2, 0.3, 0.4, 0.5, 0.6)
KNOWN = ("expert", "layer", "spectral", "core", "regmean")


def scores(backend: Any, x: np.ndarray) -> np.ndarray:
    """The validation score of each task."""
    return backend.evaluate(x[None], "validation").scores[0]


def row(name: str, dim: str, found: np.ndarray, note: str = "") -> None:
    """Prints a row: mean, minimum, and each task's score."""
    each = ", ".join(f"{score:.3f}" for score in found)
    told = f"{found.mean():.3f} ({found.min():.3f})"
    print(f"| {name} | {dim} | {told} | {each} | {note} |", flush=True)


def climb(
    config: Any, backend: Any, start: np.ndarray, steps: int, batch: int, rate: float, seed: int
) -> tuple[np.ndarray, str]:
    """The best scores on the way up from ``start`` by Adam, and at which step."""
    began = time.perf_counter()
    space, (module, objective) = backend.space, objective_of(config, backend, batch, seed)
    units = torch.from_numpy(space.units)
    moved = torch.zeros(space.dim)
    adam = torch.optim.Adam([moved], lr=rate)
    fall = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, steps)
    best, when, losses = scores(backend, start), 0, []
    for step in range(steps):
        space.express(x := start + (units * moved).numpy(), module)
        with space.pullback(x, module) as gradient:
            loss = objective(step)
            loss.backward()
        moved.grad = units * gradient
        adam.step()
        fall.step()
        losses.append(loss.item())
        if (step + 1) % max(1, steps // 10) == 0:
            found = scores(backend, start + (units * moved).numpy())
            if found.mean() > best.mean():
                best, when = found, step + 1
    few = max(1, steps // 10)
    went = f"loss {np.mean(losses[:few]):.3f} to {np.mean(losses[-few:]):.3f}"
    return best, f"step {when} of {steps}, {went}, {time.perf_counter() - began:.0f} s"


def main(
    source: Annotated[str, typer.Argument(help="Preset or file.")] = "segmentation-conflict",
    spaces: str = ",".join(KNOWN),
    change: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE.")] = None,
    steps: int = 300,
    batch: int = 16,
    rate: Annotated[float, typer.Option(help="Adam's; per step and multiplier.")] = 0.03,
    seed: int = 0,
) -> None:
    """Prints the table."""
    for name in spaces.split(","):
        if name not in KNOWN:
            raise typer.BadParameter(f"unknown space '{name}'{nearest(name, KNOWN)}")
    torch.set_num_threads(1)
    run = load_config(source, [*(change or []), "backend.device=cpu"])
    config, rank = run.backend, run.space.options.get("rank", 16)
    config.prepare(lambda stage, done, total: None)
    print("| model | dimension | mean (minimum) | each task | |\n|---|---:|---:|---|---|")
    backend = config.build(ExpertSpace)
    count = len(backend.space.experts)
    row("base", "", scores(backend, np.zeros(count)))
    row("experts, each on its own task", "", own(backend))
    merges = [backend.space.merge(np.full(count, s)) for s in (1 / count, *SCALES)]
    found = [scores(backend, x) for x in merges]
    best = int(np.argmax([one.mean() for one in found]))
    row("plain average", "", found[0])
    row("best uniform merge: the start", "", found[best], f"scale {merges[best][0]:.2f}")
    rival = config.multitask()
    if rival is not None:
        rival.prepare(lambda stage, done, total: None)
        row("fine-tuned on all data", "", scores(rival.build(ExpertSpace), np.ones(1)))
    for name in spaces.split(","):
        settings = {"rank": rank} if name in ("spectral", "core", "regmean") else {}
        backend = config.build(
            lambda vectors, n=name, s=settings: SPACES.build(n, s, {"vectors": vectors})
        )
        space = backend.space
        if isinstance(space, RegMeanSpace):
            tried = recipe_solutions("regmean", space, grid("regmean", count))
            found = [scores(backend, x) for x in tried]
            top = int(np.argmax([one.mean() for one in found]))
            start = tried[top]
            row("the best of RegMean's grid: the start", "", found[top])
        else:
            start = space.merge(np.full(count, merges[best][0]))
        highest, note = climb(config, backend, start, steps, batch, rate, seed)
        row(f"ceiling of {name}", f"{space.dim}", highest, note)


def own(backend: Any) -> np.ndarray:
    """The score of each task's own expert."""
    named = [task.expert or task.name for task in backend.tasks]
    return np.array([scores(backend, backend.space.seeds[k])[i] for i, k in enumerate(named)])


if __name__ == "__main__":
    typer.run(main)
