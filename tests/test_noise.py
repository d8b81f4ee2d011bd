"""Noisy scores: leading elites are evaluated again, and archives keep the means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import qdmerge as qm
from qdmerge.errors import UnsupportedError
from qdmerge.search import CycleQD

Toy = Callable[..., Any]


class Noisy:
    """A toy whose scores have noise; ``given`` are the scores of each model, in order."""

    def __init__(self, backend: Any, seed: int = 0) -> None:
        self.backend, self.rng = backend, np.random.default_rng(seed)
        self.given: dict[bytes, list[np.ndarray]] = defaultdict(list)
        self.scored = backend.evaluate
        backend.evaluate, backend.noisy = self.evaluate, True

    def evaluate(self, xs: np.ndarray, split: str) -> qm.Evaluation:
        found = self.scored(xs, split)
        scores = found.scores + self.rng.normal(0, 0.1, found.scores.shape)
        for x, row in zip(xs, scores, strict=True):
            self.given[x.tobytes()].append(row)
        return qm.Evaluation(scores, found.measures)


ARCHIVES = ["grid", {"name": "cvt", "centroids": 20, "samples": 60}, "dns", "proximity"]


@pytest.mark.filterwarnings("ignore::qdmerge.errors.Hint")
@pytest.mark.parametrize("archive", ARCHIVES, ids=str)
@pytest.mark.parametrize("emitters", ["merge", "cma_es"])
def test_archives_hold_the_means_of_all_evaluations(archive: Any, emitters: str, toy: Toy) -> None:
    noisy = Noisy(toy(n_measures=1))
    search = CycleQD(noisy.backend, archive=archive, emitters=emitters, reevaluate=2, seed=3)
    search.run(60)
    again = 0
    for task in search.tasks:
        for elite in search.elites(task):
            given = noisy.given[elite.x.tobytes()]
            again += len(given) > 1
            np.testing.assert_allclose(list(elite.scores.values()), np.mean(given, axis=0))
        leader = noisy.given[search.best(task).x.tobytes()]
        assert len(leader) > 1, "the leading elite was evaluated once"
    assert again >= 3
    assert max(map(len, noisy.given.values())) > (2 if emitters == "merge" else 1)


def test_without_noise_nothing_is_evaluated_twice(toy: Toy) -> None:
    calm, none = toy(), Noisy(toy())
    for backend, options in ((calm, {}), (none.backend, {"reevaluate": 0})):
        search = CycleQD(backend, **options)
        for _ in range(8):
            batch = search.ask()
            assert batch.task is None or batch.parents[0] is not None
            search.tell(batch, search.evaluate(batch))


def test_a_failed_reevaluation_changes_nothing(toy: Toy) -> None:
    search = CycleQD(Noisy(toy()).backend)
    for _ in range(2):  # the seeds, and the first children
        batch = search.ask()
        search.tell(batch, search.evaluate(batch))
    before = {task: archive.data() for task, archive in search.archives.items()}
    again = search.ask()
    assert again.parents == (None,)
    assert not search.tell(again, qm.Evaluation(np.full((1, 3), np.nan)))["task0"].any()
    for task, archive in search.archives.items():
        for name, array in archive.data().items():
            np.testing.assert_array_equal(array, before[task][name])


@pytest.mark.parametrize("archive", ["sliding", {"name": "grid", "learning_rate": 0.5}])
def test_archives_that_remember_single_scores_are_refused(archive: Any, toy: Toy) -> None:
    with pytest.raises(UnsupportedError, match="scores are noisy, and .*Archive remembers"):
        CycleQD(Noisy(toy()).backend, archive=archive)
    assert CycleQD(Noisy(toy()).backend, archive=archive, reevaluate=0)
