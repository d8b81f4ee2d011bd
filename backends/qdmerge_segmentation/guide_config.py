"""Settings of the guide; importing them loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt

from qdmerge.errors import ConfigError, nearest
from qdmerge_segmentation.data import ImageSet, find_images, load_unlabeled
from qdmerge_segmentation.models import Prompt


class GuideConfig(BaseModel):
    """Unlabeled images on which the experts' masks guide a search.

    Attributes:
        examples: Most images of each task.
        data: Task to a folder of images without masks; where a task is not named, its training
            images are used, without their masks.
        checkpointing: Compute layers again in the backward pass instead of keeping what they
            computed: less memory, more time; for models of transformers.
    """

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    examples: PositiveInt = 512
    data: dict[str, str] = {}
    checkpointing: bool = False

    def problems(self, tasks: Collection[str], prompt: Prompt | None) -> list[str]:
        """Return what is wrong with these settings; no image is read."""
        found = []
        for task, folder in self.data.items():
            if task not in tasks:
                found.append(f"guide.data: unknown task '{task}'{nearest(task, tasks)}")
            try:
                find_images(Path(folder).expanduser())
            except ConfigError as error:
                found.append(f"guide.data: {error}")
        if self.data and prompt in ("box", "point"):
            found.append(
                f"guide.data: the prompt '{prompt}' comes from a mask, which these images do not "
                "have; leave guide.data out (training images are used), or set 'prompt: none'"
            )
        return found

    def images(
        self, training: Mapping[str, Callable[[int], ImageSet]]
    ) -> dict[str, Callable[[int], ImageSet]]:
        """Return, by task, a function that returns at most so many images."""
        own = {
            task: partial(load_unlabeled, Path(folder).expanduser())
            for task, folder in self.data.items()
        }
        return {**training, **own}
