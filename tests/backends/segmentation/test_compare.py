"""A comparison with the model fine-tuned on all tasks, on models trained for a moment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest

from qdmerge.compare import PlannedRun, Study, find_methods
from qdmerge.compare._rows import read_rows
from qdmerge.runs import BuildBackend
from qdmerge.settings import load_config
from qdmerge_segmentation.training import _make
from qdmerge_zoo.segmentation import ZooSpec, multitask
from tests.trained import jobs_in_this_process, never

METHODS = ("average", "finetune")
SETTINGS = ("final.leading=1", "final.bootstrap=100")


def study(folder: Path) -> Study:
    return Study(
        {"tiny": load_config("segmentation-tiny", SETTINGS)},
        find_methods(METHODS),
        seeds=1,
        evaluations=1,
        folder=folder,
        workers=1,
    )


@pytest.fixture(scope="module")
def zoo_of_a_moment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache in which the preset's zoo is the micro one, for workers' processes, too."""
    cache = tmp_path_factory.mktemp("cache")
    with jobs_in_this_process(_make):
        multitask(ZooSpec.micro(), cache)
    for made in cache.glob(f"*{ZooSpec.micro().key}*"):
        made.rename(cache / made.name.replace(ZooSpec.micro().key, ZooSpec.of().key))
    multitask(ZooSpec.of(), cache, progress=never)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QDMERGE_CACHE", str(cache))
        yield


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, zoo_of_a_moment: None
) -> tuple[Study, list[PlannedRun]]:
    made = study(tmp_path_factory.mktemp("study") / "out")
    return made, made.execute()


def test_the_rival_is_the_model_of_all_tasks(done: tuple[Study, list[PlannedRun]]) -> None:
    made, planned = done
    assert made.failures == {}
    (rival,) = (row for row in read_rows(planned, {}) if row.method == "finetune")
    alone = BuildBackend(load_config("segmentation-tiny", ["backend.base=tiny://all"]))()
    expected = alone.evaluate(np.zeros((1, alone.space.dim)), "test").scores[0]
    # A pixel at the threshold may fall to the other side; the base is 0.1 away.
    assert list(rival.picks["mean"].test.values()) == pytest.approx(expected, abs=5e-3)
    assert rival.evaluations == 1
    assert rival.training == {"steps": 640, "examples": 10240, "seconds": ANY}


@pytest.mark.parametrize("fact", ["dtype", "items"])
def test_a_finished_rival_of_other_items_or_numbers_is_not_compared(
    done: tuple[Study, list[PlannedRun]], tmp_path: Path, fact: str
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(done[0].folder, folder)
    again = study(folder)
    again.execute()
    assert again.failures == {}
    (path,) = folder.glob("runs/*/finetune/*/results.json")
    results = json.loads(path.read_text())
    results["facts"][fact] = "others"
    path.write_text(json.dumps(results))
    again = study(folder)
    again.execute()
    (cause,) = again.failures.values()
    assert f"was made with others of: {fact}" in cause
