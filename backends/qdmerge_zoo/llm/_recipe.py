"""The recipe of the zoo: every number that decides what the models become."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Literal

from qdmerge_zoo.llm._items import TASKS

VERSION = 1
"""Raised whenever code makes another zoo from the same settings."""
ALL = "all"
"""The model that is fine-tuned on all tasks."""
CONFLICTS: Mapping[int, tuple[float, float]] = MappingProxyType(
    {0: (0.12, 1.0), 1: (0.06, 1.25), 2: (0.03, 1.5), 3: (0.0, 2.0)}
)
"""Level of conflict to the experts' replay and the spread of their steps."""
_LATER = ("tasks", "spread")


@dataclass(frozen=True)
class Stage:
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

    optimizer: Literal["muon", "adamw"]
    steps: int
    rate: float
    side_rate: float
    warmup: int = 20
    floor: float = 0.0
    replay: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Sizes, data and training of the base and its experts, one for each task.

    Attributes:
        seed: Decides the items, the initial weights and the order of the batches.
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

    seed: int = 0
    items: int = 8_000
    vocabulary: int = 768
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    feedforward: int = 352
    batch: int = 32
    base: Stage = Stage("muon", steps=140, rate=1e-2, side_rate=5e-3)
    expert: Stage = Stage("adamw", steps=180, rate=1.5e-3, side_rate=8e-4, replay=0.12)
    tasks: int = 3
    spread: float = 1.0

    @classmethod
    def of(cls, seed: int = 0, conflict: int = 0, tasks: int = 3) -> Recipe:
        """Return the recipe whose experts get in each other's way so much.

        Beyond three tasks the base is trained longer, in proportion, and every expert by 30 steps
        for each further task: the later ones are harder.

        Args:
            seed: Seed of the recipe.
            conflict: A key of :data:`CONFLICTS`; 0 is the recipe of the easy zoo.
            tasks: How many tasks the zoo has, three or more.
        """
        replay, spread = CONFLICTS[conflict]
        plain = cls(seed=seed, tasks=tasks)
        base = replace(plain.base, steps=round(plain.base.steps * tasks / 3))
        steps = plain.expert.steps + 30 * (tasks - 3)
        expert = replace(plain.expert, steps=steps, replay=replay)
        return replace(plain, base=base, expert=expert, spread=spread)

    @classmethod
    def micro(cls, seed: int = 0, tasks: int = 3) -> Recipe:
        """Return a recipe that is built in seconds and teaches nothing; for tests."""
        brief = Stage("adamw", steps=2, rate=1e-3, side_rate=1e-3, warmup=1, replay=0.15)
        return cls(
            seed=seed,
            items=120,
            vocabulary=320,
            hidden=32,
            layers=2,
            heads=2,
            feedforward=64,
            batch=4,
            base=replace(brief, optimizer="muon", replay=0.0),
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
            return replace(self.expert, steps=steps, replay=0.0)
        place = 1 - 2 * self.names.index(name) / max(1, self.tasks - 1)
        return replace(self.expert, steps=round(self.expert.steps * self.spread**place))

    def dump(self) -> str:
        """Return the recipe as one line of JSON."""
        settings = asdict(self)
        for field in fields(self):
            # So that a zoo keeps its key when recipes learn to say more.
            if field.name in _LATER and settings[field.name] == field.default:
                del settings[field.name]
        return json.dumps(settings, sort_keys=True)

    @classmethod
    def load(cls, text: str) -> Recipe:
        """Read what :meth:`dump` wrote."""
        settings = json.loads(text)
        base, expert = (Stage(**settings.pop(name)) for name in ("base", "expert"))
        return cls(**settings, base=base, expert=expert)

    @property
    def key(self) -> str:
        """The name of the recipe's zoo: version and a hash of every setting."""
        digest = hashlib.sha256(self.dump().encode()).hexdigest()
        return f"v{VERSION}-{digest[:12]}"
