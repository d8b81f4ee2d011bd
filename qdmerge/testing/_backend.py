"""The contract of backends."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from qdmerge.archives import check_axes
from qdmerge.backend import SIDE, SPLITS, BackendConfig, Evaluation, GenomeBackend, side_tasks
from qdmerge.emitters import expert_of

if TYPE_CHECKING:
    from qdmerge.spaces import Guide


class BackendContract:
    """Tests that every domain passes.

    The backend is built once for all tests of a subclass.

    Attributes:
        tolerance: Difference of scores between models evaluated together and alone that counts as
            rounding.
        slope_tolerance: Difference between slopes of the guide's loss and its gradient that counts
            as rounding, relative to the largest slope.
    """

    tolerance: ClassVar[float] = 1e-6
    slope_tolerance: ClassVar[float] = 0.1
    _built: ClassVar[GenomeBackend | None] = None

    def make_backend(self) -> GenomeBackend:
        """Return a new backend. Override this, or :meth:`make_config`."""
        config = self.make_config()
        if config is None:
            raise NotImplementedError("override make_backend() or make_config()")
        return config.build(None)

    def make_config(self) -> BackendConfig | None:
        """Return the settings of the backend; None if it is built without any."""
        return None

    @property
    def backend(self) -> GenomeBackend:
        """The backend that the tests share."""
        kind = type(self)
        if kind.__dict__.get("_built") is None:
            kind._built = self.make_backend()
        assert kind._built is not None
        return kind._built

    def seeds(self, n: int = 3) -> np.ndarray:
        """Return the first ``n`` seeds of the space, ``(n, dim)``."""
        return np.stack(list(self.backend.space.seeds.values())[:n])

    def evaluate(self, xs: np.ndarray, split: str = SPLITS[0]) -> Evaluation:
        """Evaluate, and check shapes as a run does."""
        backend = self.backend
        evaluation = backend.evaluate(xs, split)
        return evaluation.checked(len(xs), len(backend.tasks), len(backend.measures))

    def test_tasks_make_archives(self) -> None:
        """Names differ, every archive has an axis, and named experts exist."""
        backend = self.backend
        check_axes(backend.tasks, backend.measures)
        assert backend.space.seeds
        for task in backend.tasks:
            expert_of(task, backend.space)

    def test_every_split_is_scored(self) -> None:
        """On each split, base and experts have a finite score in the range of every metric."""
        for split in SPLITS:
            evaluation = self.evaluate(self.seeds(), split)
            assert evaluation.valid.all(), split
            for task, scores in zip(self.backend.tasks, evaluation.scores.T, strict=True):
                low, high = task.range
                assert (scores >= low).all(), f"{task.name} on {split}: below its range"
                assert (scores <= high).all(), f"{task.name} on {split}: above its range"

    def test_an_unknown_split_is_refused(self) -> None:
        """A split that does not exist is an error, and never another split."""
        with pytest.raises(Exception):  # noqa: B017, PT011
            self.backend.evaluate(self.seeds(1), "no-such-split")

    def test_evaluations_can_be_repeated(self) -> None:
        """The same model scores the same, each time."""
        xs = self.seeds()
        one, two = self.evaluate(xs), self.evaluate(xs)
        np.testing.assert_array_equal(one.scores, two.scores)
        np.testing.assert_array_equal(one.measures, two.measures)

    def test_rows_belong_to_their_own_solutions(self) -> None:
        """A model scores the same alone, and in another order; one model and none at all work."""
        xs = self.seeds()
        together = self.evaluate(xs)
        for row in reversed(range(len(xs))):
            alone = self.evaluate(xs[row : row + 1])
            np.testing.assert_allclose(
                alone.scores[0], together.scores[row], rtol=0, atol=self.tolerance
            )

    def test_solutions_are_only_read(self) -> None:
        """Evaluating leaves solutions as they were."""
        xs = self.seeds()
        xs.setflags(write=False)
        self.evaluate(xs)
        np.testing.assert_array_equal(xs, self.seeds())

    def test_items_cover_every_task(self) -> None:
        """Scores of items, if there are any, are finite, and there for each task of each model."""
        items = self.evaluate(self.seeds()).items
        if items is None:
            pytest.skip("the backend has no items")
        for scores in items:
            assert scores is not None
            self._assert_items(scores, [task.name for task in self.backend.tasks])

    def test_side_tasks_are_scored_apart(self) -> None:
        """On the split of side tasks, the columns are the side tasks."""
        tasks = side_tasks(self.backend)
        if not tasks:
            pytest.skip("the backend has no side tasks")
        names = [task.name for task in tasks]
        assert len({*names, *(task.name for task in self.backend.tasks)}) == len(names) + len(
            self.backend.tasks
        )
        evaluation = self.backend.evaluate(self.seeds(), SIDE).checked(3, len(tasks), 0)
        assert evaluation.valid.all()
        for scores in evaluation.items or ():
            assert scores is not None
            self._assert_items(scores, names)

    def _assert_items(self, scores: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
        assert set(names) <= set(scores)
        for name in names:
            values = np.asarray(scores[name], dtype=np.float64)
            assert values.ndim == 1, name
            assert values.size > 0, name
            assert np.isfinite(values).all(), name

    @property
    def guide(self) -> Guide:
        """The backend's guide; the test is skipped if it has none."""
        guide = getattr(self.backend, "guide", None)
        if guide is None:
            pytest.skip("the backend has no guide")
        guide.prepare()
        return guide

    def gradient(self, x: np.ndarray, items: int = 4) -> tuple[float, np.ndarray]:
        """Return the guide's loss at ``x`` on a few items, of all tasks alike, and its gradient."""
        rows = {name: np.arange(min(items, size)) for name, size in self.guide.sizes.items()}
        shares = dict.fromkeys(rows, 1 / len(rows))
        losses, gradient = self.guide.gradient(x, rows, shares)
        assert list(losses) == list(rows)
        assert np.isfinite(list(losses.values())).all()
        assert gradient.shape == (self.backend.space.dim,)
        assert np.isfinite(gradient).all()
        return sum(losses.values()) / len(losses), gradient

    def test_a_guide_has_items_of_every_task(self) -> None:
        """Tasks are named in order, each has items, and the key stays the same."""
        guide = self.guide
        assert list(guide.sizes) == [task.name for task in self.backend.tasks]
        assert min(guide.sizes.values()) > 0
        assert guide.key() == guide.key()

    def test_the_gradient_of_a_guide_is_the_slope_of_its_loss(self) -> None:
        """Between the seeds, towards each of them and along the gradient, by finite differences."""
        space = self.backend.space
        seeds = np.stack(list(space.seeds.values()))
        x = np.average(seeds, axis=0, weights=1 + np.arange(len(seeds))).astype(space.dtype)
        _, gradient = self.gradient(x)
        along = space.units**2 * gradient / (np.linalg.norm(space.units * gradient) or 1)
        directions = [*(seeds - x), along]
        told, found = [], []
        for direction in directions:
            step = 0.01 * direction
            before, after = (self.gradient((x + way * step).astype(x.dtype))[0] for way in (-1, 1))
            told.append(float(gradient @ direction))
            found.append((after - before) / 0.02)
        allowed = self.slope_tolerance * np.abs(found).max()
        np.testing.assert_allclose(told, found, rtol=0, atol=allowed + 1e-6)

    def test_a_guide_can_be_asked_again(self) -> None:
        """The same solution and items give the same, whatever was asked in between."""
        one, two = self.seeds(2)
        loss, gradient = self.gradient(one)
        self.gradient(two)
        again, same = self.gradient(one)
        assert again == loss
        np.testing.assert_array_equal(same, gradient)
        np.testing.assert_array_equal([one, two], self.seeds(2))

    def test_scores_do_not_depend_on_the_guide(self) -> None:
        """A model scores the same before and after the guide was asked about another."""
        xs = self.seeds()
        before = self.evaluate(xs).scores
        self.gradient(xs[-1])
        np.testing.assert_array_equal(self.evaluate(xs).scores, before)

    def test_an_export_is_the_model(self) -> None:
        """``export`` writes a new checkpoint; of a space of weights, with exactly its weights."""
        from qdmerge.checkpoints._checkpoint import Checkpoint
        from qdmerge.checkpoints._layout import as_loaded
        from qdmerge.spaces import WeightSpace

        backend = self.backend
        if type(backend).export is GenomeBackend.export:
            pytest.skip("the backend exports nothing")
        space = backend.space
        x = np.clip(space.x0, space.lower_bounds, space.upper_bounds)
        with tempfile.TemporaryDirectory() as folder:
            path = backend.export(x, Path(folder) / "model")
            assert path.exists(), "export returns the path that it wrote"
            assert path.is_file() or any(path.iterdir())
            if isinstance(space, WeightSpace):
                written = as_loaded(Checkpoint.open(path))
                for name, weights in space.tensors(x):
                    assert name in written.tensors, name
                    assert written.read(name).equal(weights), name

    def test_settings_travel_to_workers(self) -> None:
        """Settings are frozen, can be pickled, name their backend, and build it again."""
        config = self.make_config()
        if config is None:
            pytest.skip("make_config() is not overridden")
        assert config.name
        assert config.problems() == []
        again = pickle.loads(pickle.dumps(config))
        assert again == config
        echo = json.loads(json.dumps(config.model_dump(mode="json")))  # as a run folder keeps it
        assert type(config).model_validate(echo) == config
        assert config.model_config.get("frozen")
        assert config.model_config.get("extra") == "forbid"
        backend = again.build(None)
        try:
            assert list(backend.tasks) == list(self.backend.tasks)
            np.testing.assert_array_equal(
                backend.evaluate(self.seeds(1), SPLITS[0]).scores,
                self.backend.evaluate(self.seeds(1), SPLITS[0]).scores,
            )
            names = [task.name for task in backend.tasks] + [one.name for one in backend.measures]
            assert config.names() in (None, names)
        finally:
            backend.close()

    def test_facts_are_plain(self) -> None:
        """``facts`` can be logged as JSON, and are the same each time."""
        facts = self.backend.facts()
        assert json.loads(json.dumps(facts)) == json.loads(json.dumps(self.backend.facts()))

    def test_close_can_be_repeated(self) -> None:
        """A backend can be closed, and closed again."""
        backend = self.make_backend()
        backend.close()
        backend.close()
