"""The specification of a zoo of segmentation models."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from qdmerge_segmentation.config import SegmentationConfig, Split, TaskConfig
from qdmerge_segmentation.training import StageConfig, TrainingConfig
from qdmerge_zoo import _zoos
from qdmerge_zoo.segmentation._images import ALL_TASKS

_EQUAL = (1.0,) * len(ALL_TASKS)
_UNEQUAL = (1.0, 0.5, 1.5, 1.0, 0.5, 1.5)
_CONFLICT = (
    (180, 0.15, _EQUAL),
    (180, 0.07, _EQUAL),
    (100, 0.05, _UNEQUAL),
    (60, 0.03, _UNEQUAL),
)
"""For each level of conflict: the base's steps, the experts' replay, and each expert's steps
relative to the default's. The less the base can, the more experts move away from it, each to a
place of its own. Without any replay nothing uniform is better than the base."""


class ZooSpec(_zoos.ZooSpec):
    """Images, splits and training of the base and the experts.

    Attributes:
        images: Images a task, over all splits.
        size: Pixels a side.
        fractions: Share of the images in each split, cut with split seed 0. Runs that score the
            models have to split alike, or they test on images that a model was trained on.
        base: Training of the base, on all tasks.
        experts: Training of each expert, from the base.
        validate_every: Steps between two points of the validation curve.
        tasks: How many tasks there are, 4 or 6.
        expert_steps: Task to the steps of its expert, where they are not those of ``experts``.
    """

    later: ClassVar[tuple[str, ...]] = ("tasks", "expert_steps")

    images: int = 320
    size: int = 128
    fractions: dict[Split, float] = Field(
        default={"train": 0.5, "validation": 0.125, "selection": 0.125, "test": 0.25}
    )
    base: StageConfig = StageConfig(steps=180, rate=3e-3)
    experts: StageConfig = StageConfig(steps=160, rate=1.5e-3, replay=0.15)
    validate_every: int = 50
    tasks: Literal[4, 6] = 4
    expert_steps: dict[str, int] = Field(default_factory=dict)

    @classmethod
    def of(cls, seed: int = 0, conflict: int = 0, tasks: Literal[4, 6] = 4) -> ZooSpec:
        """Return the specification of a zoo whose experts contradict each other so much, 0 to 3."""
        easy = cls(seed=seed, tasks=tasks)
        steps, replay, factors = _CONFLICT[conflict]
        return easy.model_copy(
            update={
                "base": easy.base.model_copy(update={"steps": steps}),
                "experts": easy.experts.model_copy(update={"replay": replay}),
                "expert_steps": {
                    task: round(easy.experts.steps * factor)
                    for task, factor in zip(easy.names, factors, strict=False)
                    if factor != 1
                },
            }
        )

    @classmethod
    def micro(cls, seed: int = 0) -> ZooSpec:
        """Return a specification that is built in seconds and teaches nothing; for tests."""
        brief = StageConfig(steps=2, rate=1e-3, batch_size=4, warmup=1)
        replaying = brief.model_copy(update={"replay": 0.25})
        return cls(seed=seed, images=16, size=32, base=brief, experts=replaying, validate_every=2)

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks."""
        return ALL_TASKS[: self.tasks]

    @property
    def multitask(self) -> StageConfig:
        """Training of the base on all tasks' images: as many steps as all experts together."""
        steps = sum(self.expert_steps.get(task, self.experts.steps) for task in self.names)
        return self.experts.model_copy(update={"steps": steps, "replay": 0.0})

    def dump(self) -> str:
        """Return the settings as JSON."""
        return self.model_dump_json(exclude=self.unset)

    def config(self, folder: Path) -> SegmentationConfig:
        """Return the configuration whose missing models, all in ``folder``, are the zoo's."""
        return SegmentationConfig(
            base=str(folder / "base"),
            experts={task: str(folder / task) for task in self.names},
            tasks={task: TaskConfig(data=str(folder / "data" / task)) for task in self.names},
            fractions=self.fractions,
            device="cpu",
            training=TrainingConfig(
                base=self.base,
                experts=self.experts,
                expert_steps=self.expert_steps,
                validate_every=self.validate_every,
                seed=self.seed,
            ),
        )

    def multitask_config(self, zoo: Path, folder: Path) -> SegmentationConfig:
        """Return the configuration whose missing model, ``all``, learns all tasks of a zoo.

        Args:
            zoo: Folder of the zoo.
            folder: Is to hold the model.
        """
        config = self.config(zoo)
        training = config.training.model_copy(
            update={"experts": self.multitask, "expert_steps": {}}
        )
        return config.model_copy(
            update={
                "experts": {"all": str(folder / "all")},
                "tasks": {
                    name: task.model_copy(update={"expert": "all"})
                    for name, task in config.tasks.items()
                },
                "training": training,
            }
        )
