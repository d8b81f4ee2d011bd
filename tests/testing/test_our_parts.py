"""The parts that qdmerge ships keep the contracts that it ships."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
from qdmerge_toy import ToyConfig
from safetensors.torch import save_file

from qdmerge.archives import ArchiveSpec
from qdmerge.checkpoints import TaskVectors
from qdmerge.emitters import EmitterSpec, paper_emitter
from qdmerge.execution import ProcessExecutor, SerialExecutor
from qdmerge.parts import ARCHIVES, EMITTERS, SPACES
from qdmerge.schedulers import BanditScheduler, CycleScheduler, FixedScheduler
from qdmerge.spaces import RegMeanSpace, Space, VectorSpace
from qdmerge.testing import (
    ArchiveContract,
    BackendContract,
    EmitterContract,
    ExecutorContract,
    SchedulerContract,
    SpaceContract,
)
from tests.spaces.networks import AtWork, net

SHAPES: dict[str, tuple[int, ...]] = {
    "embed.weight": (12, 8),
    "layers.0.attn.weight": (8, 8),
    "layers.0.norm.weight": (8,),
    "layers.1.conv.weight": (4, 3, 2, 2),
    "scale": (),
    "head.weight": (6, 8),
}
EXPERTS = ("coding", "db", "os")


@cache
def vectors() -> TaskVectors:
    """Base and experts of random weights."""
    folder = Path(mkdtemp())
    generator = torch.Generator().manual_seed(0)
    for name in ("base", *EXPERTS):
        tensors = {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}
        save_file(tensors | {"steps": torch.tensor([7, 8])}, folder / f"{name}.safetensors")
    experts = {name: folder / f"{name}.safetensors" for name in EXPERTS}
    return TaskVectors(folder / "base.safetensors", experts)


class TestVectorSpace(SpaceContract):
    def make_space(self) -> Space:
        seeds = {"base": np.zeros(2), "a": [1.0, 0.0]}
        return VectorSpace(seeds, lower=-1, upper=[1.0, np.inf], experts=("a",))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("expert", {}),
        ("layer", {}),
        ("spectral", {"rank": 2}),
        ("spectral", {"rank": 64}),
        ("core", {"rank": 2}),
        ("dense", {}),
        ("ties", {}),
        ("dare", {}),
        ("dare_ties", {}),
        ("slerp", {}),
    ],
)
class TestWeightSpaces(SpaceContract):
    @pytest.fixture(autouse=True)
    def _chosen(self, kind: str, options: dict[str, Any]) -> None:
        self.kind, self.options = kind, options

    def make_space(self) -> Space:
        return SPACES.build(self.kind, self.options, {"vectors": vectors()})


@cache
def networks() -> TaskVectors:
    """Base and experts of a network that runs."""
    folder = Path(mkdtemp())
    paths = {name: folder / f"{name}.safetensors" for name in ("base", *AtWork().experts)}
    for seed, path in enumerate(paths.values()):
        save_file(net(seed).state_dict(), path)
    return TaskVectors(paths.pop("base"), paths)


class TestRegMeanSpace(SpaceContract):
    def make_space(self) -> Space:
        space = RegMeanSpace(networks(), rank=2)
        space.calibrate(AtWork())
        return space


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("grid", {}),
        ("grid", {"bins": [3, 4]}),
        ("cvt", {"centroids": 20, "samples": 200}),
        ("dns", {"capacity": 15}),
        ("sliding", {"bins": 4}),
        ("proximity", {"novelty_threshold": 0.01}),
        ("grid", {"learning_rate": 0.1}),
    ],
)
class TestArchives(ArchiveContract):
    @pytest.fixture(autouse=True)
    def _chosen(self, name: str, options: dict[str, Any]) -> None:
        self.name, self.options = name, options

    def make_archive(self, spec: ArchiveSpec) -> Any:
        return ARCHIVES.build(self.name, self.options, spec.context)


EMITTER_OPTIONS: dict[str, dict[str, Any]] = {
    "ribs.emitters:GaussianEmitter": {"sigma": 0.2, "batch_size": 2},
    "ribs.emitters:EvolutionStrategyEmitter": {"sigma0": 0.2, "ranker": "2obj"},
    "merge": {"mutation": "gaussian", "batch_size": 2},
    "gaussian": {"batch_size": 2},
    "iso_line": {},
    "cma_es": {"batch_size": 5},
    "sep_cma_es": {"batch_size": 5},
    "gradient_arborescence": {},
    "gradient_operator": {"batch_size": 2, "sigma": 0.05},
}


@pytest.mark.parametrize("name", EMITTER_OPTIONS)
class TestEmitters(EmitterContract):
    @pytest.fixture(autouse=True)
    def _chosen(self, name: str) -> None:
        self.name = name

    def make_emitter(self, archive: Any, spec: EmitterSpec) -> Any:
        options = EMITTER_OPTIONS[self.name]
        return EMITTERS.build(self.name, options, {"archive": archive, **spec.context})


class TestPaperEmitterOnWeights(EmitterContract):
    def make_space(self) -> Space:
        return SPACES.build("spectral", {"rank": 2}, {"vectors": vectors()})

    def make_emitter(self, archive: Any, spec: EmitterSpec) -> Any:
        return paper_emitter(archive, spec)


class TestCycleScheduler(SchedulerContract):
    make_scheduler = CycleScheduler


class TestBanditScheduler(SchedulerContract):
    make_scheduler = BanditScheduler


class TestFixedScheduler(SchedulerContract):
    make_scheduler = FixedScheduler


class TestSerialExecutor(ExecutorContract):
    processes = False

    def make_executor(self, build: Callable[[], Any]) -> SerialExecutor:
        return SerialExecutor(build())


class TestProcessExecutor(ExecutorContract):
    time_limit = 5.0

    def make_executor(self, build: Callable[[], Any]) -> ProcessExecutor:
        return ProcessExecutor(build, workers=2, threads=1, timeout=self.time_limit)


class TestToyBackend(BackendContract):
    def make_config(self) -> ToyConfig:
        return ToyConfig(n_measures=1, side_tasks=("far",))


class TestToyBackendWithMeasuresAlone(BackendContract):
    def make_config(self) -> ToyConfig:
        return ToyConfig(n_tasks=1, n_measures=2)


class TestDigitsPlugin(BackendContract):
    @pytest.fixture(autouse=True)
    def _on_the_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plugin = Path(__file__).parents[2] / "examples" / "digits_plugin"
        monkeypatch.setattr(sys, "path", [*sys.path, str(plugin)])

    def make_config(self) -> Any:
        from qdmerge_digits.config import DigitsConfig

        return DigitsConfig(width=8, steps=5, train=60, validation=30, selection=30, test=30)
