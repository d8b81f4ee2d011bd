"""Settings of the segmentation backend; importing them loads neither torch nor transformers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

from qdmerge.backend import BackendConfig, Progress, Task
from qdmerge.checkpoints import (
    SourceKind,
    checkpoint_problems,
    fetch,
    is_hub_id,
    is_local,
    loading_problems,
    missing,
    scheme_name,
)
from qdmerge.errors import ConfigError, nearest
from qdmerge.storage import read_json_or_empty
from qdmerge_segmentation.data import ImageFolder, ImageSet
from qdmerge_segmentation.guide_config import GuideConfig
from qdmerge_segmentation.metrics import MEANS, METRICS, MetricName
from qdmerge_segmentation.models import Prompt, model_problems
from qdmerge_segmentation.training import (
    UNET,
    Model,
    Plan,
    TrainingConfig,
    TrainingTask,
)

if TYPE_CHECKING:
    from qdmerge.backend import SpaceFactory
    from qdmerge_segmentation.backend import SegmentationBackend

Split = Literal["train", "validation", "selection", "test"]
Fraction = Annotated[float, Field(gt=0, lt=1)]

_FRACTIONS: dict[Split, float] = {"train": 0.5, "validation": 0.15, "selection": 0.1, "test": 0.25}


class TaskConfig(BaseModel):
    """One task: where its images are, what is foreground, and what is measured.

    Attributes:
        data: Folder with ``images/``, ``masks/`` and perhaps ``index.csv``; or a scheme's source.
        classes: Values of an index mask that are foreground; None for binary masks.
        other_classes: Further values that an index mask may hold besides 0, or "any".
        labels: Labels of the model that mean foreground; None for models of one or two labels.
        metric: The score of an image: "dice" or "iou".
        expert: Expert of this task; None means the one of the same name, if there is one.
    """

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    data: str
    classes: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    other_classes: tuple[int, ...] | Literal["any"] = ()
    labels: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    metric: MetricName = "dice"
    expert: str | None = None


class SegmentationConfig(BackendConfig):
    """Segmentation models that are merged, and the images they are scored on.

    Attributes:
        base: Directory, Hub id, or source of a scheme; with `factory`, also a safetensors file.
        experts: Expert name to its source; fine-tuned from ``base``.
        tasks: Task name to its settings; the order is that of the score columns.
        factory: ``module:callable`` that makes the torch module; None for models of transformers.
        trust_remote_code: Run model code that lies beside the weights (transformers).
        prompt: What Segment Anything gets with each image, the same for all models: a box around
            the true region, a point deep inside it, or none.
        image_size: Side, in pixels, of the square that images are resized to for the model; None
            for the model's own. Scores are of masks in their own size.
        fractions: Share of the images in each split; the default where a split is not named.
        split_seed: Decides which group falls into which split.
        max_images: Split to the most images of a task to use; all if a split is not named.
        reestimate_batch_norm: Re-estimate the running statistics of BatchNorm layers on training
            images after each expression, instead of merging them; no effect on other models.
        reestimate_images: Training images of each task used for that.
        batch_size: Images evaluated together.
        dtype: Number type that models run in; "auto" is bfloat16 where the processor or GPU
            computes in it, else float32.
        device: "cpu", "cuda", "cuda:N", or "auto" (a GPU if there is one).
        guide: Unlabeled images on which the experts' masks guide a search.
        config_differences: Entries of ``config.json`` that experts may have otherwise than the
            base, although the forward pass uses them.
        training: How `qdmerge experts` trains missing models.
    """

    name: ClassVar[str] = "segmentation"
    summary: ClassVar[str] = "segmentation models; Dice and IoU on folders of images and masks"
    presets: ClassVar[Mapping[str, str]] = {
        "segmentation-folders": "qdmerge_segmentation/presets/folders.yaml",
    }
    guided: ClassVar[bool] = True

    base: str
    experts: dict[str, str] = Field(min_length=1)
    tasks: dict[str, TaskConfig] = Field(min_length=1)
    factory: str | None = None
    trust_remote_code: bool = False
    prompt: Prompt | None = None
    image_size: PositiveInt | None = None
    fractions: dict[Split, Fraction] = Field(default_factory=lambda: dict(_FRACTIONS))
    split_seed: Annotated[int, Field(ge=0)] = 0
    max_images: dict[Split, PositiveInt] = Field(default_factory=dict)
    reestimate_batch_norm: bool = True
    reestimate_images: PositiveInt = 32
    batch_size: PositiveInt = 16
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    guide: GuideConfig = GuideConfig()
    config_differences: tuple[str, ...] = ()
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
        """Return all mistakes that can be found without loading, building or downloading."""
        guide = self.guide.problems(self.tasks, self.prompt)
        return self._model_problems() + self.data_problems() + guide

    def names(self) -> list[str]:
        """Return the names of the tasks."""
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

    def _source_problem(self, source: str, what: SourceKind) -> str | None:
        """Return what is wrong with the source of a model or of images, or None; fetch nothing."""
        try:
            if scheme := self.scheme(source):
                return scheme.problem(source, what)
        except ConfigError as error:
            return str(error)
        path = Path(source).expanduser()
        if os.path.exists(path) or (what != "data" and is_hub_id(source)):
            return None
        return missing("directory", source)

    def _problems_of(self, source: str, what: SourceKind) -> list[str]:
        """Return what is wrong with the source of a model, as far as its files show."""
        problem = self._source_problem(source, what)
        if problem is not None or not is_local(source):
            return [problem] if problem is not None else []
        return model_problems(self.resolve(source), self.factory, self.prompt)

    def _model_problems(self) -> list[str]:
        found = self.name_problems()
        here = {}
        for name, source in self.model_sources().items():
            who = "base" if name == "base" else f"expert '{name}'"
            wrong = self._problems_of(source, "base" if name == "base" else "expert")
            if is_local(source) and os.path.exists(Path(source).expanduser()):
                here[name] = self.resolve(source)
            elif is_local(source):
                wrong = [f"{line}; `qdmerge experts` makes it" for line in wrong]
            found += [f"{who}: {line}" for line in wrong]
        place = here.pop("base", None)
        if place and here:
            problems = checkpoint_problems(place, here, self.config_differences)
            own_code = self.factory or "auto_map" in read_json_or_empty(place / "config.json")
            if not problems and not own_code:
                problems = [f"base: {line}" for line in loading_problems(place)]
            found += problems
        return found

    def name_problems(self) -> list[str]:
        """Return what is wrong with the names of experts."""
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
        """Read all images of the tasks, and return what is wrong with them."""
        found = []
        for name, task in self.tasks.items():
            problem = self._source_problem(task.data, "data")
            if problem is None and scheme_name(task.data) is None:
                try:
                    for split in self.fractions:
                        self.images(name, split)
                except ConfigError as error:
                    problem = str(error)
            if problem:
                found += [f"task '{name}': {line}" for line in problem.split("\n")]
        return found

    def image_folder(self, task: str) -> ImageFolder:
        """Return the folder of a task's images, made or downloaded when needed, and its splits."""
        settings, known = self.tasks[task], None
        if settings.classes is not None and settings.other_classes != "any":
            known = (*settings.classes, *settings.other_classes)
        return ImageFolder(
            path=self.resolve(settings.data),
            classes=settings.classes,
            known=known,
            fractions={str(split): fraction for split, fraction in self.fractions.items()},
            seed=self.split_seed,
            limits={str(split): limit for split, limit in self.max_images.items()},
        )

    def images(self, task: str, split: Split, limit: int | None = None) -> ImageSet:
        """Read the images and masks of a task's split.

        Args:
            task: Name of the task.
            split: Name of the split.
            limit: Most images to read; None for all.

        Raises:
            ConfigError: The folder is wrong, the split would be empty, or an image or mask cannot
                be used.
        """
        return self.image_folder(task).read(split, limit)

    def expert_of(self, task: str) -> str | None:
        """Return the expert of a task, if there is one."""
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
        """Train base and experts whose directories are missing; see :class:`TrainingConfig`.

        Raises:
            ConfigError: The data or names are wrong.
            RunError: The training of a model failed.
        """
        from qdmerge_segmentation.training import make_models

        problems = self.name_problems() + self.data_problems()
        if problems:
            raise ConfigError("\n".join(problems))
        self.prepare(progress)
        plan = self.training_plan()
        absent = self.missing_models(plan)
        for name in self.model_sources():
            if name not in absent:
                progress(f"{name} is there", 1, 1)
        return make_models(plan, absent, progress, fetch=self.resolve)

    def training_plan(self) -> Plan:
        """Return how all models on this machine are trained, existing or not."""
        models = {}
        for name, source in self.model_sources().items():
            if not is_local(source):
                continue
            base = name == "base"
            start = self.training.start if base else self.base
            own = [task for task in self.tasks if base or self.expert_of(task) == name]
            models[name] = Model(
                name=name,
                target=Path(source).expanduser(),
                start=str(Path(start).expanduser()) if is_local(start) else start,
                start_name=Path(start).name if base else "base",
                stage=self.training.base if base else self.training.expert(name),
                own=tuple(own),
                others=tuple(task for task in self.tasks if task not in own),
            )
        tasks = {
            name: TrainingTask(
                images=self.image_folder(name), metric=task.metric, labels=task.labels
            )
            for name, task in self.tasks.items()
        }
        same = ("image_size", "prompt", "factory", "trust_remote_code", "device", "batch_size")
        options = {name: getattr(self, name) for name in same}
        return Plan(models=models, tasks=tasks, training=self.training, **options)

    def missing_models(self, plan: Plan) -> dict[str, Model]:
        """Return the models of a plan that are missing, the base first.

        Raises:
            ConfigError: They cannot be trained; all mistakes, one a line.
        """
        from qdmerge_segmentation.training import missing_models

        remote = next(filter(is_hub_id, self.model_sources().values()), None)
        if not plan.models and remote:
            raise ConfigError(
                f"all models are taken from the Hub. To train one into a new directory '{remote}', "
                f"write './{remote}'"
            )
        return missing_models(plan, self._start_problems())

    def _start_problems(self) -> list[str]:
        """Return what is wrong with the model that a missing base starts from."""
        start = self.training.start
        if start != UNET:
            return [f"training.start: {line}" for line in self._problems_of(start, "base")]
        if self.factory is None:
            return []
        return [
            "training.start 'unet' is a model of transformers, but factory is set; name a "
            "safetensors file with the weights that a missing base starts from"
        ]

    def build(self, space: SpaceFactory | None = None) -> SegmentationBackend:
        """Load the base model and the images; make or download them when needed.

        Args:
            space: Makes the space from the task vectors; None for the spectral space.
        """
        from qdmerge_segmentation.backend import SegmentationBackend, SegmentationTask

        tasks = [
            SegmentationTask(
                Task(name, MEANS[task.metric], (0.0, 1.0), task.expert),
                METRICS[task.metric],
                {split: self.images(name, split) for split in self.evaluated},
                task.labels,
            )
            for name, task in self.tasks.items()
        ]
        return SegmentationBackend.load(
            {name: self.resolve(source) for name, source in self.model_sources().items()},
            tasks,
            {name: partial(self.images, name, "train") for name in self.tasks},
            space,
            image_size=self.image_size,
            prompt=self.prompt,
            factory=self.factory,
            trust_remote_code=self.trust_remote_code,
            dtype=self.dtype,
            device=self.device,
            batch_size=self.batch_size,
            reestimate_images=self.reestimate_images if self.reestimate_batch_norm else None,
            config_differences=self.config_differences,
            guide=self.guide,
        )
