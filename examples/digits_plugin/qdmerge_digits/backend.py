"""Base and experts on digits, and how a merged network is scored."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import nn

from qdmerge.backend import Evaluation, GenomeBackend, Task
from qdmerge.checkpoints import TaskVectors
from qdmerge.spaces import ModuleGuide, SpectralSpace
from qdmerge_digits.config import TASKS, DigitsConfig

if TYPE_CHECKING:
    from qdmerge.backend import SpaceFactory

Split = tuple[torch.Tensor, torch.Tensor]


def load_splits(config: DigitsConfig) -> dict[str, Split]:
    """Views (3, n, 64) and labels (n,) of the digits of every split; no two share a digit."""
    digits = load_digits()
    images, labels = torch.tensor(digits.images / 16 - 0.5).float(), torch.tensor(digits.target)
    views = torch.stack([images, images.rot90(1, (1, 2)), -images]).flatten(2)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(config.models_seed))
    sizes = config.sizes
    parts = order[: sum(sizes.values())].split(list(sizes.values()))
    return {name: (views[:, part], labels[part]) for name, part in zip(sizes, parts, strict=True)}


def network(width: int) -> nn.Sequential:
    """A small network from pixels (..., 64) to the logits (..., 10) of a digit."""
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> nn.Module:
    """Trains the network in place."""
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = torch.randint(len(labels), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
        optimizer.step()
    return net


def make_models(config: DigitsConfig, folder: Path) -> None:
    """Writes the base, which looked at every view, and an expert on each."""
    views, labels = load_splits(config)["train"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.models_seed)
        base = train(network(config.width), views.flatten(0, 1), labels.repeat(3), config.steps)
        save_file(base.state_dict(), folder / "base.safetensors")
        for name, view in zip(TASKS, views, strict=True):
            expert = train(copy.deepcopy(base), view, labels, config.steps)
            save_file(expert.state_dict(), folder / f"{name}.safetensors")


class Digits(GenomeBackend):
    """Scores merged networks by their accuracy on each view of held-out digits."""

    def __init__(self, config: DigitsConfig, space: SpaceFactory | None) -> None:
        folder = config.models()
        experts = {name: folder / f"{name}.safetensors" for name in TASKS}
        vectors = TaskVectors(folder / "base.safetensors", experts)
        self.space = space(vectors) if space else SpectralSpace(vectors)
        self.tasks = [Task(name, metric="accuracy") for name in TASKS]
        self.net = network(config.width)
        self.splits = load_splits(config)
        sizes, key = dict.fromkeys(TASKS, config.train), f"{vectors.fingerprint} {config.train}"
        self.guide = ModuleGuide(self.space, self.net, self.disagreement, sizes, key)
        self.module, self.experts, self.config = self.net, TASKS, config
        self.space.calibrate(self)

    def key(self, examples: int) -> str:
        """What decides which digits :meth:`passes` shows."""
        return f"{self.config.models_seed} {self.config.train} {examples}"

    def passes(self, expert: str, examples: int) -> Iterable[Callable[[], object]]:
        """Shows training digits, as their expert sees them, to whatever network there is now."""
        views, _ = self.splits["train"]
        return [lambda: self.net(views[TASKS.index(expert), :examples])]

    def disagreement(self, task: str, rows: np.ndarray) -> torch.Tensor:
        """How far the live network is from what a task's expert says of some training digits."""
        k = TASKS.index(task)
        answers = self.net(self.splits["train"][0][k, rows]).log_softmax(dim=1)
        return nn.functional.kl_div(answers, self.answers[k, rows], reduction="batchmean")

    @cached_property
    def answers(self) -> torch.Tensor:
        """What every expert says of the training digits, (3, n, 10) probabilities."""
        net, views = network(self.config.width), self.splits["train"][0]
        said = []
        for name, view in zip(TASKS, views, strict=True):
            net.load_state_dict(load_file(self.config.models() / f"{name}.safetensors"))
            said.append(net(view).softmax(dim=1).detach())
        return torch.stack(said)

    @torch.no_grad()
    def evaluate(self, xs: Iterable[np.ndarray], split: str) -> Evaluation:
        """Accuracies (n, 3) of n models; which digits each names rightly, for the intervals."""
        views, labels = self.splits[split]
        items = []
        for x in xs:
            self.space.express(x, self.net)
            right = self.net(views).argmax(dim=2) == labels
            items.append(dict(zip(TASKS, right.double().numpy(), strict=True)))
        scores = [[item[name].mean() for name in TASKS] for item in items]
        return Evaluation(np.array(scores), items=items)

    def export(self, x: np.ndarray, path: str | Path) -> Path:
        """Writes ``model.safetensors``, a state dict of :func:`network`, into a new folder."""
        return self.space.export(x, Path(path))

    def facts(self) -> dict[str, Any]:
        """The content hash of base and experts: a run is not resumed with others."""
        return {"weights": self.space.vectors.fingerprint}
