"""Which models a configuration lacks, and what each of them is trained from and on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qdmerge.checkpoints import is_hub_id, is_local
from qdmerge.errors import ConfigError
from qdmerge_segmentation.models import model_problems
from qdmerge_segmentation.training._record import record_of

if TYPE_CHECKING:
    from qdmerge_segmentation.config import SegmentationConfig, StageConfig

UNET = "unet"
"""The start that is a new model."""


@dataclass(frozen=True)
class Model:
    """A base or expert of a configuration that lies, or is to lie, on this machine.

    Attributes:
        name: "base", or the expert's name.
        target: Where it belongs: a folder, or the safetensors file of a module by factory.
        start: Source of what it is trained from, or "unet".
        stage: How it is trained.
        own: Tasks that it is trained for; all for the base.
        others: Tasks that a share of its training images comes from.
    """

    name: str
    target: Path
    start: str
    stage: StageConfig
    own: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def is_file(self) -> bool:
        """Whether the target is a file of weights, not a folder."""
        return self.target.suffix == ".safetensors"

    @property
    def is_there(self) -> bool:
        """Whether there is something at the target; an empty folder is nothing."""
        return self.target.is_file() or (self.target.is_dir() and any(self.target.iterdir()))

    @property
    def state(self) -> Path:
        """The folder that holds the state of an unfinished training."""
        return self.target.with_name(f"{self.target.name}.training")

    @property
    def record(self) -> Path:
        """The file that tells how the model was trained."""
        return record_of(self.target)


def local_models(config: SegmentationConfig) -> dict[str, Model]:
    """All models of a configuration that belong on this machine, by name."""
    models, every = {}, tuple(config.tasks)
    for name, source in config.model_sources().items():
        if not is_local(source):
            continue
        base = name == "base"
        own = every if base else tuple(task for task in every if config.expert_of(task) == name)
        models[name] = Model(
            name=name,
            target=Path(source).expanduser(),
            start=config.training.start if base else config.base,
            stage=config.training.base if base else config.training.expert(name),
            own=own,
            others=tuple(task for task in every if task not in own),
        )
    return models


def missing_models(config: SegmentationConfig) -> dict[str, Model]:
    """The models that are to be made, by name, the base first.

    Raises:
        ConfigError: A model that is there cannot be used, an expert is no task's own, or a missing
            base has nothing to start from; all such mistakes, one a line.
    """
    models = local_models(config)
    missing = {name: model for name, model in models.items() if not model.is_there}
    found = []
    for name, model in models.items():
        if name not in missing:
            wrong = model_problems(model.target, config.factory, config.prompt)
            found += [f"{name}: {line}; remove it to make it anew" for line in wrong]
        elif model.is_file and config.factory is None:
            found.append(f"{name}: '{model.target}' names a file; that takes a factory")
        elif not model.own:
            found.append(
                f"expert '{name}' cannot be trained: no task has its name, or names it as its "
                f"expert. Tasks: {', '.join(config.tasks)}."
            )
    if "base" in missing:
        found += _start_problems(config)
    if not models and any(map(is_hub_id, config.model_sources().values())):
        source = next(filter(is_hub_id, config.model_sources().values()))
        found.append(
            f"all models are taken from the Hub. To train one into a new directory '{source}', "
            f"write './{source}'"
        )
    if found:
        raise ConfigError("\n".join(found))
    return missing


def _start_problems(config: SegmentationConfig) -> list[str]:
    start = config.training.start
    if start == UNET:
        if config.factory is None:
            return []
        return [
            "training.start 'unet' is a model of transformers, but factory is set; name a "
            "safetensors file with the weights that a missing base starts from"
        ]
    problem = config.source_problem(start, "base")
    if problem is not None:
        return [f"training.start: {problem}"]
    if not is_local(start):
        return []
    wrong = model_problems(config.resolve(start), config.factory, config.prompt)
    return [f"training.start: {line}" for line in wrong]
