"""How models are trained: the user's settings, and the plan for the models of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from qdmerge_segmentation.data import ImageFolder
from qdmerge_segmentation.metrics import MetricName
from qdmerge_segmentation.models import Prompt
from qdmerge_segmentation.training._record import record_of

UNET = "unet"
"""The start that is a new model."""


class _Settings(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


class StageConfig(_Settings):
    """How one model is trained: AdamW, a linear warm-up, then a linear decay to zero.

    Attributes:
        steps: Optimizer steps.
        rate: Peak learning rate.
        batch_size: Images a step.
        replay: Share of each batch that an expert takes from the other tasks; the base takes from
            all tasks alike.
        warmup: Steps of the warm-up.
        weight_decay: Of AdamW.
        only: Prefixes of the names of the parameters that are trained; () for all.
    """

    steps: PositiveInt = 100
    rate: PositiveFloat = 1e-3
    batch_size: PositiveInt = 16
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    warmup: Annotated[int, Field(ge=0)] = 10
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    only: tuple[str, ...] = ()


class TrainingConfig(_Settings):
    """How `qdmerge experts` trains missing models.

    Attributes:
        start: What a missing base is trained from: "unet", a small new U-Net; or a directory or
            Hub id. An existing base is used as it is.
        base: Training of a missing base, on all tasks.
        experts: Training of each missing expert, from the base, on its task.
        expert_steps: Expert to its number of steps, where it differs from that of ``experts``.
        augment: Mirror and turn training images at random.
        validate_every: Steps between two points of the validation curve.
        seed: Decides initial weights, batches and augmentation.
    """

    start: str = UNET
    base: StageConfig = StageConfig(steps=200, rate=2e-3)
    experts: StageConfig = StageConfig(steps=100, rate=1e-3, replay=0.15)
    expert_steps: dict[str, PositiveInt] = Field(default_factory=dict)
    augment: bool = True
    validate_every: PositiveInt = 25
    seed: Annotated[int, Field(ge=0)] = 0

    def expert(self, name: str) -> StageConfig:
        """Return how an expert is trained."""
        steps = self.expert_steps.get(name, self.experts.steps)
        return self.experts.model_copy(update={"steps": steps})


class TrainingTask(_Settings):
    """What models learn of one task.

    Attributes:
        images: Its images.
        metric: Score of an image: "dice" or "iou".
        labels: Labels of the model that mean foreground; None for models of one or two labels.
    """

    images: ImageFolder
    metric: MetricName
    labels: tuple[int, ...] | None = None


class Model(_Settings):
    """A base or expert at a place on this machine, where it may still be missing.

    Attributes:
        name: "base", or the expert's name.
        target: Where it belongs: a folder, or the safetensors file of a module by factory.
        start: Path of the model it is trained from, "unet", or a source that is yet to be fetched.
        start_name: What its history calls the start.
        stage: How it is trained.
        own: Tasks that it is trained for; all for the base.
        others: Tasks that a share of its training images comes from.
    """

    name: str
    target: Path
    start: str
    start_name: str
    stage: StageConfig
    own: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def is_file(self) -> bool:
        """Whether the target is a file of weights, not a folder."""
        return self.target.suffix == ".safetensors"

    @property
    def is_there(self) -> bool:
        """Whether the target exists; an empty folder does not count."""
        return self.target.is_file() or (self.target.is_dir() and any(self.target.iterdir()))

    @property
    def record(self) -> Path:
        """The file with the history of its training."""
        return record_of(self.target)


class Plan(_Settings):
    """All that decides what the models of a configuration become.

    Attributes:
        models: Models on this machine by name, the base first; others are not trained.
        tasks: Task to what models learn of it, in the order of the score columns.
        training: How models are trained.
        image_size: Side of the square that images are resized to; None for the model's own.
        prompt: How Segment Anything is prompted.
        factory: ``module:callable`` that makes the module; None for models of transformers.
        trust_remote_code: Run model code that lies beside the weights.
        device: "cpu", "cuda", "cuda:N" or "auto".
        batch_size: Images validated together.
    """

    models: dict[str, Model]
    tasks: dict[str, TrainingTask]
    training: TrainingConfig
    image_size: int | None = None
    prompt: Prompt | None = None
    factory: str | None = None
    trust_remote_code: bool = False
    device: str = "auto"
    batch_size: int = 16

    def settings_of(self, model: Model) -> dict[str, Any]:
        """Return all settings that decide how a model is trained, without images and paths."""
        tasks = self.tasks.items()
        return {
            "model": model.name,
            "tasks": list(model.own),
            "start": model.start_name,
            "stage": model.stage.model_dump(mode="json"),
            **self.training.model_dump(include={"augment", "validate_every", "seed"}),
            **self.model_dump(include={"image_size", "prompt", "factory"}),
            "metrics": {name: task.metric for name, task in tasks},
            "labels": {name: task.labels and list(task.labels) for name, task in tasks},
        }
