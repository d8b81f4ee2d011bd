"""The recipe of the zoo: every number that decides what the models become."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from qdmerge_segmentation.config import (
    SegmentationConfig,
    Split,
    StageConfig,
    TaskConfig,
    TrainingConfig,
)

from ._images import TASKS

VERSION = 1
"""Raised whenever code makes another zoo from the same settings."""


class Recipe(BaseModel):
    """Images, splits and training of the base and the four experts.

    Attributes:
        seed: Decides the images, the initial weights, the batches and how images are turned.
        images: Images a task, over all splits.
        size: Pixels a side.
        fractions: Share of the images in each split, cut with split seed 0. Runs that score the
            models have to split alike, or they test on images that a model was trained on.
        base: Training of the base, on all tasks.
        experts: Training of each expert, from the base.
        validate_every: Steps between two points of the validation curve.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    images: int = 320
    size: int = 128
    fractions: dict[Split, float] = {
        "train": 0.5,
        "validation": 0.125,
        "selection": 0.125,
        "test": 0.25,
    }
    base: StageConfig = StageConfig(steps=180, rate=3e-3)
    experts: StageConfig = StageConfig(steps=160, rate=1.5e-3, replay=0.15)
    validate_every: int = 50

    @classmethod
    def micro(cls, seed: int = 0) -> Recipe:
        """Return a recipe that is built in seconds and teaches nothing; for tests."""
        brief = StageConfig(steps=2, rate=1e-3, batch_size=4, warmup=1)
        replaying = brief.model_copy(update={"replay": 0.25})
        return cls(seed=seed, images=16, size=32, base=brief, experts=replaying, validate_every=2)

    @property
    def key(self) -> str:
        """The name of the recipe's zoo: version and a hash of every setting."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        return f"v{VERSION}-{digest[:12]}"

    def config(self, folder: Path) -> SegmentationConfig:
        """Return the configuration whose missing models, all in ``folder``, are the zoo's."""
        return SegmentationConfig(
            base=str(folder / "base"),
            experts={task: str(folder / task) for task in TASKS},
            tasks={task: TaskConfig(data=str(folder / "data" / task)) for task in TASKS},
            fractions=self.fractions,
            device="cpu",
            training=TrainingConfig(
                base=self.base,
                experts=self.experts,
                validate_every=self.validate_every,
                seed=self.seed,
            ),
        )
