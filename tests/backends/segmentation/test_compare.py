"""A comparison with the model fine-tuned on all tasks, on models trained for a moment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qdmerge.compare import PlannedRun, Study, find_methods
from qdmerge.compare._rows import read_rows
from qdmerge.config import load_config
from qdmerge.runs import BuildBackend
from qdmerge_segmentation.tiny import Recipe, multitask

METHODS = ("average", "finetune")
SETTINGS = ("final.leading=1", "final.bootstrap=100")


def study(folder: Path, methods: tuple[str, ...] = METHODS) -> Study:
    return Study(
        {"tiny": load_config("segmentation-tiny", SETTINGS)},
        find_methods(methods),
        seeds=2,
        evaluations=8,
        folder=folder,
        workers=1,
    )


@pytest.fixture(scope="module")
def zoo_of_a_moment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache in which the preset's zoo is the micro one, for workers' processes, too."""
    cache = tmp_path_factory.mktemp("cache")
    multitask(Recipe.micro(), cache=cache)
    for end in ("", "-all"):
        made = cache / f"segmentation-tiny-{Recipe.micro().key}{end}"
        shutil.move(made, cache / f"segmentation-tiny-{Recipe.of().key}{end}")
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
    assert list(rival.picks["mean"].test.values()) == pytest.approx(expected, abs=1e-4)
    assert rival.evaluations == 1
    steps = Recipe.of().multitask.steps
    assert rival.training is not None
    assert {**rival.training, "seconds": None} == {
        "steps": steps,
        "examples": steps * Recipe.of().multitask.batch_size,
        "seconds": None,
    }
    assert rival.training["seconds"] > 0


@pytest.mark.parametrize(
    ("fact", "refused"), [("dtype", True), ("items", True), ("weights", False)]
)
def test_a_finished_rival_of_other_items_or_numbers_is_not_compared(
    done: tuple[Study, list[PlannedRun]], tmp_path: Path, fact: str, refused: bool
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(done[0].folder, folder)
    (path,) = folder.glob("runs/*/finetune/*/results.json")
    results = json.loads(path.read_text())
    results["facts"][fact] = "others"
    path.write_text(json.dumps(results))
    made = study(folder)
    made.execute()
    causes = [cause for cause in made.failures.values() if f"with others of: {fact}" in cause]
    assert bool(causes) is refused
