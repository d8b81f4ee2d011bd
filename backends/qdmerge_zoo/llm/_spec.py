"""The specification of a zoo of language models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from qdmerge_zoo import _zoos
from qdmerge_zoo._zoos import ALL
from qdmerge_zoo.llm._items import TASKS

CONFLICTS: Mapping[int, tuple[float, float]] = MappingProxyType(
    {0: (0.12, 1.0), 1: (0.06, 1.25), 2: (0.03, 1.5), 3: (0.0, 2.0)}
)
"""Level of conflict to the experts' replay and the spread of their steps."""


class Stage(BaseModel):
    """How one model is trained.

    Attributes:
        optimizer: What moves the matrices inside the blocks: "muon" or "adamw".
        steps: Optimizer steps.
        rate: Peak learning rate of that optimizer.
        side_rate: Peak learning rate of AdamW, which moves embeddings and norms.
        warmup: Steps of linear warm-up; then the rate falls linearly to ``floor`` of the peak.
        floor: The last rate as a fraction of the peak.
        replay: Share of each batch taken from the other tasks; the base trains on all evenly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimizer: Literal["muon", "adamw"]
    steps: int
    rate: float
    side_rate: float
    warmup: int = 20
    floor: float = 0.0
    replay: float = 0.0


class ZooSpec(_zoos.ZooSpec):
    """Sizes, data and training of the base and its experts, one for each task.

    Attributes:
        items: Exercises a task, over all splits.
        vocabulary: Tokens of the byte-level BPE, special ones included.
        hidden: Width of the model.
        layers: Transformer blocks.
        heads: Attention heads.
        feedforward: Width of the gated feed-forward part.
        batch: Sequences a step.
        base: Training of the base on all tasks.
        expert: Training of each expert from the base.
        tasks: How many tasks the zoo has: the first ones of ``TASKS``.
        spread: How unequally experts are trained. The first one takes ``spread`` times the steps
            of :attr:`expert`, the last one a ``spread``-th of them, those between lie on a
            geometric scale; at 1 all are trained alike.
    """

    later: ClassVar[tuple[str, ...]] = ("tasks", "spread")

    items: int = 8_000
    vocabulary: int = 768
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    feedforward: int = 352
    batch: int = 32
    base: Stage = Stage(optimizer="muon", steps=140, rate=1e-2, side_rate=5e-3)
    expert: Stage = Stage(optimizer="adamw", steps=180, rate=1.5e-3, side_rate=8e-4, replay=0.12)
    tasks: int = 3
    spread: float = 1.0

    @classmethod
    def of(cls, seed: int = 0, conflict: int = 0, tasks: int = 3) -> ZooSpec:
        """Return the specification of a zoo whose experts get in each other's way so much.

        Beyond three tasks the base is trained longer, in proportion, and every expert by 30 steps
        for each further task: the later ones are harder.

        Args:
            seed: Seed of the zoo.
            conflict: A key of :data:`CONFLICTS`; 0 is the easy zoo.
            tasks: How many tasks the zoo has, three or more.
        """
        replay, spread = CONFLICTS[conflict]
        base, expert = cls().base, cls().expert
        longer = {"steps": expert.steps + 30 * (tasks - 3), "replay": replay}
        return cls(
            seed=seed,
            base=base.model_copy(update={"steps": round(base.steps * tasks / 3)}),
            expert=expert.model_copy(update=longer),
            tasks=tasks,
            spread=spread,
        )

    @classmethod
    def micro(cls, seed: int = 0, tasks: int = 3) -> ZooSpec:
        """Return a specification that is built in seconds and teaches nothing; for tests."""
        brief = Stage(optimizer="adamw", steps=2, rate=1e-3, side_rate=1e-3, warmup=1, replay=0.15)
        return cls(
            seed=seed,
            items=120,
            vocabulary=320,
            hidden=32,
            layers=2,
            heads=2,
            feedforward=64,
            batch=4,
            base=brief.model_copy(update={"optimizer": "muon", "replay": 0.0}),
            expert=brief,
            tasks=tasks,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks, which are those of the experts too."""
        return TASKS[: self.tasks]

    def stage(self, name: str) -> Stage:
        """Return the training of a model: ``base``, the expert of a task, or ``all``.

        ``all`` is the base fine-tuned on all tasks evenly, for as many steps as all experts took
        together.
        """
        if name == "base":
            return self.base
        if name == ALL:
            steps = sum(self.stage(task).steps for task in self.names)
            return self.expert.model_copy(update={"steps": steps, "replay": 0.0})
        place = 1 - 2 * self.names.index(name) / max(1, self.tasks - 1)
        steps = round(self.expert.steps * self.spread**place)
        return self.expert.model_copy(update={"steps": steps})

    def dump(self) -> str:
        """Return the settings as one line of JSON."""
        return json.dumps(self.model_dump(exclude=self.unset), sort_keys=True)
