"""Settings of the segmentation backend; importing them loads neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator

from qdmerge.backend import BackendConfig, Progress
from qdmerge.checkpoints import (
    SourceKind,
    checkpoint_problems,
    fetch,
    is_hub_id,
    is_local,
    missing,
    scheme_name,
)
from qdmerge.errors import ConfigError, nearest
from qdmerge_segmentation.data import ImageSet, Sample, find_samples, load_set, split_samples
from qdmerge_segmentation.models import model_problems

if TYPE_CHECKING:
    from qdmerge.backend import SpaceFactory
    from qdmerge_segmentation.backend import SegmentationBackend

Split = Literal["train", "validation", "selection", "test"]
Fraction = Annotated[float, Field(gt=0, lt=1)]

_FRACTIONS: dict[Split, float] = {"train": 0.5, "validation": 0.15, "selection": 0.1, "test": 0.25}


class _Settings(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


class TaskConfig(_Settings):
    """One task: where its images are, what is foreground, and what is measured.

    Attributes:
        data: Folder with ``images/`` and ``masks/`` and perhaps ``index.csv``, or
            part of a scheme (``tiny://data/NAME``).
        classes: Values of an index mask that are foreground; None for binary masks.
        other_classes: Further values that an index mask may hold beside 0, or "any".
        labels: Labels of the model that mean foreground; None for models of one or two labels.
        metric: The score of an image: "dice" or "iou".
        expert: Expert of this task; None means the one of the same name, if there is one.
    """

    data: str
    classes: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    other_classes: tuple[int, ...] | Literal["any"] = ()
    labels: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    metric: Literal["dice", "iou"] = "dice"
    expert: str | None = None


class StageConfig(_Settings):
    """How one model is trained: AdamW, a linear warm-up, then a linear fall to zero.

    Attributes:
        steps: Optimizer steps.
        rate: Peak learning rate.
        batch_size: Images a step.
        replay: Share of each batch that an expert takes from the other tasks; the base takes from
            all tasks alike.
        warmup: Steps of the warm-up.
        weight_decay: Of AdamW.
        only: Beginnings of the names of the parameters that are trained; () for all.
    """

    steps: PositiveInt = 100
    rate: PositiveFloat = 1e-3
    batch_size: PositiveInt = 16
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    warmup: Annotated[int, Field(ge=0)] = 10
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    only: tuple[str, ...] = ()


class TrainingConfig(_Settings):
    """How `qdmerge experts` makes the models that are not there yet.

    Attributes:
        start: What a missing base is trained from: "unet", a small new U-Net; or a directory or
            Hub id. A base that is there is used as it is.
        base: Training of a missing base, on all tasks.
        experts: Training of each missing expert, from the base, on its task.
        expert_steps: Expert to its number of steps, where that is not the one of ``experts``.
        augment: Mirror and turn training images at random.
        validate_every: Steps between two points of the validation curve.
        seed: Decides initial weights, batches and augmentation.
    """

    start: str = "unet"
    base: StageConfig = StageConfig(steps=200, rate=2e-3)
    experts: StageConfig = StageConfig(steps=100, rate=1e-3, replay=0.15)
    expert_steps: dict[str, PositiveInt] = Field(default_factory=dict)
    augment: bool = True
    validate_every: PositiveInt = 25
    seed: Annotated[int, Field(ge=0)] = 0

    def expert(self, name: str) -> StageConfig:
        """How the expert of a name is trained."""
        steps = self.expert_steps.get(name, self.experts.steps)
        return self.experts.model_copy(update={"steps": steps})


class SegmentationConfig(BackendConfig):
    """Segmentation models that are merged, and the images they are scored on.

    Attributes:
        base: Directory, Hub id, or part of a scheme (``tiny://base``); with `factory`, a
            safetensors file, too.
        experts: Expert name to the like; fine-tuned from ``base``.
        tasks: Task name to its settings; the order is that of the score columns.
        factory: ``module:callable`` that makes the torch module; None for models of transformers.
        trust_remote_code: Run model code that lies beside the weights (transformers).
        prompt: What Segment Anything is told about each image, the same for all models: a box
            around the true region, a point deep inside it, or none.
        image_size: Side, in pixels, of the square that images are resized to for the model; None
            for the model's own. Scores are of masks in their own size.
        fractions: Share of the images in each split; the default's where a split is not named.
        split_seed: Decides which group falls into which split.
        max_images: Split to the most images of a task to use; all if a split is not named.
        reestimate_batch_norm: Measure the running statistics of BatchNorm layers anew on training
            images after each expression, instead of merging them. Models without such layers do
            not care.
        reestimate_images: Training images of each task used for that.
        batch_size: Images evaluated together.
        dtype: Number type that models run in; "auto" is bfloat16 where the processor or GPU
            computes in it, else float32.
        device: "cpu", "cuda", "cuda:N", or "auto" (a GPU if there is one).
        training: How missing models are made.
    """

    name: ClassVar[str] = "segmentation"
    summary: ClassVar[str] = "segmentation models; Dice and IoU on folders of images and masks"
    presets: ClassVar[Mapping[str, str]] = {
        "segmentation-folders": "qdmerge_segmentation/presets/folders.yaml",
    }

    base: str
    experts: dict[str, str] = Field(min_length=1)
    tasks: dict[str, TaskConfig] = Field(min_length=1)
    factory: str | None = None
    trust_remote_code: bool = False
    prompt: Literal["box", "point", "none"] | None = None
    image_size: PositiveInt | None = None
    fractions: dict[Split, Fraction] = Field(default_factory=lambda: dict(_FRACTIONS))
    split_seed: Annotated[int, Field(ge=0)] = 0
    max_images: dict[Split, PositiveInt] = Field(default_factory=dict)
    reestimate_batch_norm: bool = True
    reestimate_images: PositiveInt = 32
    batch_size: PositiveInt = 16
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    training: TrainingConfig = TrainingConfig()

    @field_validator("fractions", mode="before")
    @classmethod
    def _with_defaults(cls, fractions: Any) -> Any:
        return {**_FRACTIONS, **fractions} if isinstance(fractions, Mapping) else fractions

    @field_validator("fractions")
    @classmethod
    def _at_most_whole(cls, fractions: dict[str, float]) -> dict[str, float]:
        if sum(fractions.values()) > 1 + 1e-9:
            raise ValueError(f"the fractions sum to {sum(fractions.values()):g}; at most 1")
        return fractions

    def problems(self) -> list[str]:
        """All mistakes that show without loading weights, building or downloading anything."""
        return self._model_problems() + self.data_problems()

    def names(self) -> list[str]:
        """Names of the tasks."""
        return list(self.tasks)

    @property
    def evaluated(self) -> tuple[Split, ...]:
        """The splits that models are scored on."""
        return get_args(Split)[1:]

    def model_sources(self) -> dict[str, str]:
        """Return where base and experts come from, by name, the base first."""
        return {"base": self.base, **self.experts}

    def data_sources(self) -> list[str]:
        """Return the image folders of all tasks."""
        return [task.data for task in self.tasks.values()]

    def resolve(self, source: str) -> Path:
        """Return the local path of a source; make or download it when needed.

        Raises:
            CheckpointError: The Hub does not give the model.
        """
        return fetch(source, self.scheme(source))

    def source_problem(self, source: str, what: SourceKind) -> str | None:
        """Return what is wrong with the source of a model or of images, or None; only look."""
        try:
            if scheme := self.scheme(source):
                return scheme.problem(source, what)
        except ConfigError as error:
            return str(error)
        path = Path(source).expanduser()
        if path.exists() or (what != "data" and is_hub_id(source)):
            return None
        return missing("directory", source)

    def _model_problems(self) -> list[str]:
        found = self.name_problems()
        here = {}
        for name, source in self.model_sources().items():
            base = name == "base"
            who = "base" if base else f"expert '{name}'"
            problem = self.source_problem(source, "base" if base else "expert")
            if problem:
                made = "; `qdmerge experts` makes it" if is_local(source) else ""
                found.append(f"{who}: {problem}{made}")
            elif is_local(source):
                here[name] = self.resolve(source)
                wrong = model_problems(here[name], self.factory, self.prompt)
                found += [f"{who}: {line}" for line in wrong]
        place = here.pop("base", None)
        if place and here:
            found += checkpoint_problems(place, here)
        return found

    def name_problems(self) -> list[str]:
        """What is wrong with the names of experts."""
        found = []
        if "base" in self.experts:
            found.append("an expert cannot be named 'base'; that name is the base model's")
        for name, task in self.tasks.items():
            if task.expert is not None and task.expert not in self.experts:
                hint = nearest(task.expert, self.experts)
                known = ", ".join(self.experts)
                found.append(f"task '{name}': unknown expert '{task.expert}'{hint} Known: {known}.")
        for name in self.training.expert_steps:
            if name not in self.experts:
                hint = nearest(name, self.experts)
                found.append(f"training.expert_steps: unknown expert '{name}'{hint}")
        return found

    def data_problems(self) -> list[str]:
        """What is wrong with the tasks' images; all of them are read."""
        found = []
        for name, task in self.tasks.items():
            problem = self.source_problem(task.data, "data")
            if problem is None and scheme_name(task.data) is None:
                try:
                    for split in self.fractions:
                        self.images(name, split)
                except ConfigError as error:
                    problem = str(error)
            if problem:
                found += [f"task '{name}': {line}" for line in problem.split("\n")]
        return found

    def samples(self, task: str) -> dict[Split, list[Sample]]:
        """The images of a task by split; which they are depends on data and `split_seed` alone.

        Raises:
            ConfigError: The folder is wrong, or a split would be empty.
        """
        folder = self.resolve(self.tasks[task].data)
        fractions = {str(split): fraction for split, fraction in self.fractions.items()}
        parts = split_samples(find_samples(folder), fractions, self.split_seed)
        return {split: parts[split][: self.max_images.get(split)] for split in self.fractions}

    def images(self, task: str, split: Split, limit: int | None = None) -> ImageSet:
        """The images and masks of a task's split, in memory.

        Args:
            task: Name of the task.
            split: Name of the split.
            limit: Most images to read; None for all.

        Raises:
            ConfigError: See :meth:`samples`; or an image or mask cannot be used.
        """
        settings = self.tasks[task]
        known = None
        if settings.classes is not None and settings.other_classes != "any":
            known = {*settings.classes, *settings.other_classes}
        return load_set(self.samples(task)[split][:limit], settings.classes, known)

    def expert_of(self, task: str) -> str | None:
        """The expert of a task, if there is one."""
        return self.tasks[task].expert or (task if task in self.experts else None)

    def multitask(self) -> SegmentationConfig | None:
        """Return these settings with the scheme's model of all tasks in place of the experts.

        Returns:
            The settings; None where base and experts do not all come from a scheme with such a
            model.
        """
        source = self.all_tasks_source(self.model_sources().values())
        if source is None:
            return None
        tasks = {
            name: task.model_copy(update={"expert": "all"}) for name, task in self.tasks.items()
        }
        return self.model_copy(update={"experts": {"all": source}, "tasks": tasks})

    def make_experts(self, progress: Progress) -> dict[str, Path]:
        """Trains base and experts whose directories are missing; see :class:`TrainingConfig`.

        Raises:
            ConfigError: The data or names are wrong.
            RunError: The training of a model failed.
        """
        from qdmerge_segmentation.training import make_models

        problems = self.name_problems() + self.data_problems()
        if problems:
            raise ConfigError("\n".join(problems))
        self.prepare(progress)
        return make_models(self, progress)

    def build(self, space: SpaceFactory | None = None) -> SegmentationBackend:
        """Loads the base model and the images; makes or downloads them when needed.

        Args:
            space: Makes the space from the task vectors; None for the spectral space.
        """
        from qdmerge_segmentation.backend import SegmentationBackend

        return SegmentationBackend.from_config(self, space)
