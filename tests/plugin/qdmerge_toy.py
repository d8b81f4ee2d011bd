"""A third-party backend for tests: bumps in the plane, found by entry point like any other.

Task k's score is high near point k; an expert sits at each point. `faults` makes chosen
evaluations raise, return NaN, kill their process or take long.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from qdmerge.backend import SIDE, SPLITS, BackendConfig, Evaluation, GenomeBackend, Measure, Task
from qdmerge.errors import EvaluationError
from qdmerge.spaces import VectorSpace


class ToySpace(VectorSpace):
    """Points in the plane, which merge like weights do."""

    def merge(self, weights: Sequence[float]) -> np.ndarray:
        return sum(w * self.seeds[name] for w, name in zip(weights, self.experts, strict=True))


class ToyGuide:
    """Squared distance to a task's peak, which each item sees a little aside.

    ``fault`` is the loss that solutions more than 0.5 from the origin have.
    """

    def __init__(self, peaks: np.ndarray, fault: float | None, n_measures: int) -> None:
        self.peaks, self.fault, self.n_measures = peaks, fault, n_measures
        self.aside = np.random.default_rng(5).normal(0, 0.1, (len(peaks), 16, peaks.shape[1]))
        self.sizes = {f"task{k}": 16 for k in range(len(peaks))}

    def key(self) -> str:
        return "toy"

    def prepare(self, progress: object = None) -> None:
        return None

    def gradient(
        self, x: np.ndarray, rows: Mapping[str, np.ndarray], shares: Mapping[str, float]
    ) -> tuple[dict[str, float], np.ndarray]:
        losses, gradient = {}, np.zeros(len(x), np.float32)
        for k, task in enumerate(self.sizes):
            if task in rows:
                apart = x - self.peaks[k] - self.aside[k, rows[task]]
                losses[task] = float((apart**2).sum(axis=1).mean())
                gradient += shares[task] * 2 * apart.mean(axis=0).astype(np.float32)
        if self.fault is not None and np.linalg.norm(x) > 0.5:
            raise EvaluationError(f"the guide's loss is {self.fault}")
        return losses, gradient

    def measure_gradients(self, x: np.ndarray) -> np.ndarray:
        """The measures are the first coordinates."""
        return np.eye(self.n_measures, len(x))


class ToyBackend(GenomeBackend):
    def __init__(self, config: ToyConfig) -> None:
        self.config = config
        angles = 2 * np.pi * np.arange(config.n_tasks) / config.n_tasks
        self.peaks = np.zeros((config.n_tasks, config.dim))
        self.peaks[:, 0], self.peaks[:, 1] = np.cos(angles) + 0.3, np.sin(angles)
        self.tasks = [Task(f"task{k}", metric="bump") for k in range(config.n_tasks)]
        self.measures = [Measure(f"x{m}", (-1.5, 1.5)) for m in range(config.n_measures)]
        if config.has_guide:
            self.guide = ToyGuide(self.peaks, config.guide_fault, config.n_measures)
        self.side_tasks = [Task(name) for name in config.side_tasks]
        names = [task.name for task in self.tasks]
        seeds = {"base": np.zeros(config.dim)} | dict(zip(names, self.peaks, strict=True))
        self.space = ToySpace(
            seeds,
            lower=np.full(config.dim, -2.0),
            upper=np.full(config.dim, 2.0),
            experts=tuple(names),
        )

    def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
        if split == SIDE:
            return self._score_side_tasks(xs)
        number = SPLITS.index(split)
        # The bumps move from split to split, so that a mix-up of splits shows.
        moved = self.peaks + 0.25 * number * np.eye(1, self.config.dim)
        distance = ((xs[:, None] - moved[None]) ** 2).sum(axis=2)
        scores = np.exp(-distance) if not self.config.flat else np.zeros(distance.shape)
        rng = np.random.default_rng(number)
        noise = rng.normal(0, 0.05, size=(len(self.tasks), 20))
        items = [
            {
                task.name: score + noise[k] - noise[k].mean()
                for k, (task, score) in enumerate(zip(self.tasks, row, strict=True))
            }
            for row in scores
        ]
        for row, x in enumerate(xs):
            time.sleep(self.config.delay)
            if self._is_faulty(x):
                self._fail(scores, row)
        measures = xs[:, : len(self.measures)] if self.measures else None
        return Evaluation(scores, measures, items)

    def _score_side_tasks(self, xs: np.ndarray) -> Evaluation:
        """Side tasks: the origin, where the base is, does best; the k-th is 1 / (1 + k d^2)."""
        if any((xs**2).sum(axis=1) > self.config.side_fails_beyond**2):
            raise ValueError("too far out")
        factors = 1 + np.arange(len(self.side_tasks))
        return Evaluation(1 / (1 + factors * (xs**2).sum(axis=1, keepdims=True)))

    def _is_faulty(self, x: np.ndarray) -> bool:
        if any(np.allclose(x, seed) for seed in self.space.seeds.values()):
            return self.config.faulty_seeds
        return hashlib.sha256(x.tobytes()).digest()[0] < 256 * self.config.fault_rate

    def _fail(self, scores: np.ndarray, row: int) -> None:
        if self.config.fault == "raise":
            raise ValueError("the toy\nis broken")
        if self.config.fault == "nan":
            scores[row, 0] = np.nan
        if self.config.fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.fault == "hang":
            time.sleep(60)

    def export(self, x: np.ndarray, path: str | Path) -> Path:
        path = Path(path)
        path.mkdir(parents=True)
        np.save(path / "model.npy", x)
        return path

    def illustrate(self, models: Mapping[str, np.ndarray], folder: Path) -> list[Path]:
        """The plane, with a dot where each model is."""
        plane = np.full((64, 64), 255, np.uint8)
        for x in models.values():
            column, row = np.clip((x[:2] + 2) * 16, 0, 63).astype(int)
            plane[63 - row, column] = 0
        path = folder / "plane.png"
        Image.fromarray(plane).save(path)
        return [path]


class ToyConfig(BackendConfig):
    name: ClassVar[str] = "toy"
    summary: ClassVar[str] = "bumps in the plane, for tests"
    presets: ClassVar[dict[str, str]] = {"toy-three": "qdmerge_toy_presets/toy.yaml"}

    n_tasks: int = 3
    n_measures: int = 0
    dim: int = 4
    delay: float = 0.0
    flat: bool = False
    fault: Literal["raise", "nan", "die", "hang"] = "raise"
    fault_rate: float = 0.0
    faulty_seeds: bool = False
    has_guide: bool = True
    guide_fault: float | None = None
    side_tasks: tuple[str, ...] = ()
    side_fails_beyond: float = np.inf

    def problems(self) -> list[str]:
        return [] if self.dim >= 2 else [f"dim must be at least 2; got {self.dim}"]

    def build(self, space: object) -> ToyBackend:
        return ToyBackend(self)
