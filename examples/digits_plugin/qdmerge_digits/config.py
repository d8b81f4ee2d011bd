"""Settings of the digits. Importing them is quick: torch waits until something is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import NonNegativeInt, PositiveInt

from qdmerge.backend import SPLITS, BackendConfig, Progress
from qdmerge.storage import built_once, cache_dir

if TYPE_CHECKING:
    from qdmerge.backend import SpaceFactory
    from qdmerge_digits.backend import Digits

DIGITS = 1797
"""Digits in scikit-learn's data set."""

TASKS = ("upright", "rotated", "inverted")


class DigitsConfig(BackendConfig):
    """Networks that name digits, and how many digits each split has.

    Attributes:
        width: Hidden units of the networks.
        steps: Training steps of the base, and of each expert after it.
        train: Digits that base and experts learn from.
        validation: Digits that evolution sees.
        selection: Digits that choose the result.
        test: Digits that are scored once, at the end.
        models_seed: Seed of splits, first weights and batches.
    """

    name: ClassVar[str] = "digits"
    summary: ClassVar[str] = "scikit-learn's digits: upright, rotated and inverted"
    presets: ClassVar[Mapping[str, str]] = {"digits": "qdmerge_digits/presets/digits.yaml"}
    guided: ClassVar[bool] = True

    width: PositiveInt = 256
    steps: PositiveInt = 50
    train: PositiveInt = 600
    validation: PositiveInt = 300
    selection: PositiveInt = 300
    test: PositiveInt = 597
    models_seed: NonNegativeInt = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Number of digits, per split."""
        return {split: getattr(self, split) for split in ("train", *SPLITS)}

    def problems(self) -> list[str]:
        """What is wrong with settings that are fine one by one."""
        wanted = sum(self.sizes.values())
        return [] if wanted <= DIGITS else [f"the splits need {wanted} digits; there are {DIGITS}"]

    def names(self) -> list[str]:
        """Names of the tasks."""
        return list(TASKS)

    def models(self) -> Path:
        """The folder of base and experts, which are trained when they are not in the cache."""
        from qdmerge_digits.backend import make_models

        key = f"digits-{self.width}-{self.steps}-{self.train}-{self.models_seed}"
        return built_once(cache_dir() / key, lambda to: make_models(self, to), "The networks")

    def prepare(self, progress: Progress) -> None:
        """Trains base and experts before workers start."""
        progress("training base and experts", 0, 1)
        self.models()

    def build(self, space: SpaceFactory | None) -> Digits:
        """Loads digits and models."""
        from qdmerge_digits.backend import Digits

        return Digits(self, space)
