"""Trainings without processes of their own, and what two that should be one have in common."""

from __future__ import annotations

import io
import json
import runpy
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from qdmerge.execution import Job, Report


@contextmanager
def jobs_in_this_process(caller: ModuleType) -> Iterator[None]:
    """Let the jobs of a module that calls ``run_jobs`` run here, one after the other.

    A process takes seconds to begin, longer than these trainings. Each backend keeps a test of the
    processes: tests/zoo/test_llm.py of language models, test_make.py of segmentation.
    """

    def run(jobs: Sequence[Job], processes: int, report: Report) -> None:
        for job in jobs:
            told = io.StringIO()
            with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
                patch.setattr(sys, "argv", [job.module, *job.arguments])
                warnings.simplefilter("ignore", RuntimeWarning)  # that the module is known already
                with redirect_stdout(told):
                    runpy.run_module(job.module, run_name="__main__")
            for line in told.getvalue().splitlines():
                if line.startswith("{"):
                    report(json.loads(line))

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(caller, "run_jobs", run)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)


def same(one: Path, other: Path, tolerance: float = 1e-3) -> bool:
    """Whether the weights in two safetensors files are one vector up to a share of its norm.

    Where tensors lie in memory decides the kernels, whose rounding Adam magnifies: without bound
    for weights that have no gradient, such as biases of attention keys, so a tensor for itself
    tells nothing.
    """
    a, b = load_file(one), load_file(other)
    kinds = [{name: (t.dtype, t.shape) for name, t in tensors.items()} for tensors in (a, b)]
    if kinds[0] != kinds[1]:
        return False
    apart, whole = (
        torch.stack([torch.linalg.norm(tensor.double()) for tensor in tensors]).norm()
        for tensors in ([a[name] - b[name] for name in a], a.values())
    )
    return bool(apart <= tolerance * whole)


def never(stage: str, done: int, total: int) -> None:
    """Progress of models that are there already."""
    raise AssertionError(f"{stage} was made again")


def segmentation_zoo() -> Path:
    """The micro zoo of segmentation models, made by the first test that needs it."""
    from qdmerge_segmentation.training import _make
    from qdmerge_zoo.segmentation import ZooSpec, zoo

    with jobs_in_this_process(_make):
        return zoo(ZooSpec.micro())
