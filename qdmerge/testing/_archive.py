"""The contract of archives."""

from __future__ import annotations

from typing import Any

import numpy as np

from qdmerge.archives import ArchiveSpec
from qdmerge.spaces import VectorSpace
from qdmerge.testing._shared import add, archive_spec, content, scores_of, small_space


class ArchiveContract:
    """Tests that every archive passes, pyribs' own and others."""

    def make_archive(self, spec: ArchiveSpec) -> Any:
        """Return a new archive for a spec, as an ``ArchiveFactory``.

        Override this.
        """
        raise NotImplementedError("override make_archive()")

    def _filled(self, seed: int = 0, n: int = 40) -> tuple[Any, np.ndarray]:
        archive = self.make_archive(archive_spec(small_space(), seed=seed))
        x = np.random.default_rng(3).uniform(-1, 1, (n, 4))
        return archive, x

    def test_it_is_what_the_spec_says(self) -> None:
        """Dimensions, dtype and offset are the spec's, and it is empty."""
        space = VectorSpace({"base": np.zeros(3)})
        space.dtype = np.dtype(np.float32)
        spec = archive_spec(space)
        archive = self.make_archive(spec)
        assert archive.empty
        assert len(archive) == 0
        assert archive.solution_dim == 3
        assert archive.measure_dim == len(spec.axes)
        assert archive.dtypes["solution"] == np.float32
        assert archive.qd_score_offset == spec.qd_score_offset

    def test_adding_reports_what_entered(self) -> None:
        """``add`` returns a status per solution: 0 not added, 1 improved, 2 new."""
        archive, x = self._filled()
        info = add(archive, x)
        assert info["status"].shape == (len(x),)
        assert set(np.asarray(info["status"]).tolist()) <= {0, 1, 2}
        assert (info["status"] > 0).any()
        assert not archive.empty
        assert 0 < len(archive) <= len(x)

    def test_elites_are_solutions_that_were_added(self) -> None:
        """What it holds is what it was given, scores and measures with their own solution."""
        archive, x = self._filled()
        add(archive, x)
        scores = scores_of(x)
        given = {
            row.tobytes(): (float(f), tuple(map(float, m)))
            for row, f, m in zip(x, scores[:, 0], scores[:, 1:], strict=True)
        }
        for solution, objective, measures in content(archive):
            assert solution in given, "an elite that was never added"
            expected = given[solution]
            np.testing.assert_allclose([objective, *measures], [expected[0], *expected[1]], 1e-6)

    def test_the_best_stays(self) -> None:
        """The best solution of all is never lost, in whichever order solutions come."""
        for order in (1, -1):
            archive, x = self._filled()
            x = x[np.argsort(scores_of(x)[:, 0])[::order]]
            for part in np.array_split(x, 8):
                add(archive, part)
            best = float(np.max(archive.data("objective")))
            np.testing.assert_allclose(best, scores_of(x)[:, 0].max(), 1e-6)

    def test_values_beyond_the_axes_are_taken(self) -> None:
        """Measures outside the ranges are no error: children score beyond every expert."""
        archive, x = self._filled(n=2)
        archive.add(x, np.array([0.5, 0.6]), np.array([[-9.0, 9.0], [9.0, -9.0]]))
        assert len(archive) >= 1

    def test_elites_can_be_sampled(self) -> None:
        """``sample_elites`` gives elites, as stock emitters need it."""
        archive, x = self._filled()
        add(archive, x)
        sampled = archive.sample_elites(7)
        assert sampled["solution"].shape == (7, 4)
        elites = {solution for solution, *_ in content(archive)}
        assert {row.tobytes() for row in sampled["solution"]} <= elites

    def test_the_spec_decides_everything(self) -> None:
        """Two archives of one spec that are given the same hold the same, in the same order."""
        samples = []
        for _ in range(2):
            archive, x = self._filled(seed=5)
            for part in np.array_split(x, 4):
                add(archive, part)
            samples.append((archive.data("solution"), archive.sample_elites(9)["solution"]))
        np.testing.assert_array_equal(samples[0][0], samples[1][0])
        np.testing.assert_array_equal(samples[0][1], samples[1][1])
