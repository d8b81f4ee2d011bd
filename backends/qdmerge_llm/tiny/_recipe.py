"""The recipe of the zoo: every number that decides what the models become."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

VERSION = 1
"""Raised whenever code makes another zoo from the same settings."""


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
    """Sizes, data and training of the base and the three experts.

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

    @classmethod
    def micro(cls, seed: int = 0) -> Recipe:
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
        )

    def dump(self) -> str:
        """Return the recipe as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

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
