"""A small network with layers of several kinds, and experts of it at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

EXPERTS = ("a", "b", "c")


class Net(torch.nn.Module):
    """A convolution with stride and padding, a norm, a linear layer, and one of two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.grouped = torch.nn.Conv2d(4, 4, 1, groups=2)
        self.norm = torch.nn.LayerNorm(4)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.grouped(self.conv(images)).relu().flatten(2).transpose(1, 2)
        logits: torch.Tensor = self.head(self.norm(features))
        return logits


class AtWork:
    """Every expert sees images of its own; counts how often they run."""

    def __init__(self, experts: tuple[str, ...] = EXPERTS) -> None:
        self.module = Net().eval()
        self.experts = experts
        self.runs: list[tuple[str, int]] = []

    def images(self, expert: str, examples: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(EXPERTS.index(expert))
        images = torch.randn(40, 2, 7, 6, generator=generator)
        images[:, EXPERTS.index(expert) % 2] *= 0.1  # another direction for each of them
        return images[:examples]

    def key(self, examples: int) -> str:
        return f"images {examples}"

    def passes(self, expert: str, examples: int) -> Iterator[Callable[[], object]]:
        self.runs.append((expert, examples))
        self.module(torch.full((1, 2, 7, 6), 9.0))  # between the calls: not measured
        for batch in self.images(expert, examples).split(16):
            yield partial(self.module, batch)


def net(seed: int) -> Net:
    torch.manual_seed(seed)
    return Net().eval()
