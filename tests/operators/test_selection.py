"""Parent selection, against equations computed element by element."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qdmerge.errors import ConfigError
from qdmerge.operators import EliteSelection, RankSelection, UniformSelection

SCORES = np.array([[0.1, 0.9], [0.5, 0.4], [0.9, 0.2], [0.3, 0.6]])

score_tables = st.tuples(st.integers(1, 8), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-4, 4).map(lambda v: v / 4))
)
alphas = st.tuples(st.floats(0.01, 1), st.floats(0, 2)).map(lambda a: (a[0], a[0] + a[1]))


def expected_chances(scores: np.ndarray, low: float, high: float) -> list[float]:
    """The paper's equation, in plain Python: products over all K scores of each elite."""
    gammas = []
    for row in scores.tolist():
        gamma = 1.0
        for n, score in enumerate(row):
            column = [other[n] for other in scores.tolist()]
            if max(column) > min(column):
                relative = (score - min(column)) / (max(column) - min(column))
                gamma *= low + relative * (high - low)
        gammas.append(gamma)
    return [gamma / sum(gammas) for gamma in gammas]


@given(scores=score_tables, alpha=alphas)
def test_elite_chances_follow_the_equation(scores: np.ndarray, alpha: tuple[float, float]) -> None:
    chances = EliteSelection(*alpha).probabilities(scores)
    np.testing.assert_allclose(chances, expected_chances(scores, *alpha), rtol=1e-9)
    assert chances.sum() == pytest.approx(1)


def test_best_elite_is_weighted_high_and_worst_low() -> None:
    """The released code's ``low + relative * high`` would give 1.3 / 0.5 instead of 0.8 / 0.5."""
    chances = EliteSelection(0.5, 0.8).probabilities(np.array([[0.0], [1.0]]))
    assert chances[1] / chances[0] == pytest.approx(0.8 / 0.5)


def test_constant_axis_counts_as_factor_one() -> None:
    constant = np.column_stack([SCORES, np.full(len(SCORES), 0.7)])
    np.testing.assert_array_equal(
        EliteSelection().probabilities(constant), EliteSelection().probabilities(SCORES)
    )


def test_equal_elites_have_equal_chances() -> None:
    np.testing.assert_allclose(EliteSelection().probabilities(np.ones((4, 3))), 0.25)


@pytest.mark.parametrize("options", [{"low": 0.0}, {"low": 0.9}, {"high": 0.4}, {"low": np.nan}])
def test_elite_selection_refuses_its_constants(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="EliteSelection: .*low|EliteSelection: .*high"):
        EliteSelection(**options)


@given(scores=score_tables, pressure=st.floats(1, 2))
def test_rank_chances_follow_baker(scores: np.ndarray, pressure: float) -> None:
    """Each elite's chance is linear in its rank; ties get the mean over their ranks."""
    n = len(scores)
    by_rank = [(2 - pressure + 2 * (pressure - 1) * r / max(n - 1, 1)) / n for r in range(n)]
    quality = scores[:, 0].tolist()
    expected = [
        np.mean([by_rank[r] for r, q in enumerate(sorted(quality)) if q == own]) for own in quality
    ]
    chances = RankSelection(pressure).probabilities(scores)
    np.testing.assert_allclose(chances, expected if n > 1 else [1], atol=1e-12)


def test_rank_selection_looks_at_the_active_task_only() -> None:
    other = SCORES * [1, -1]
    np.testing.assert_array_equal(
        RankSelection().probabilities(SCORES), RankSelection().probabilities(other)
    )


@pytest.mark.parametrize("pressure", [0.9, 2.1, np.nan])
def test_rank_selection_refuses_its_pressure(pressure: float) -> None:
    with pytest.raises(ConfigError, match="pressure"):
        RankSelection(pressure)


SELECTIONS = {
    EliteSelection(0.2, 1.0): expected_chances(SCORES, 0.2, 1.0),
    UniformSelection(): [0.25] * 4,
    RankSelection(2.0): [0, 2 / 6, 3 / 6, 1 / 6],  # by the first column
}


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: type(s).__name__)
def test_frequencies_of_first_parents(selection: EliteSelection) -> None:
    chosen = selection(SCORES, 6000, 2, np.random.default_rng(0))
    frequencies = np.bincount(chosen[:, 0], minlength=4) / len(chosen)
    np.testing.assert_allclose(frequencies, SELECTIONS[selection], atol=0.025)


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: type(s).__name__)
def test_second_parent_follows_the_same_chances(selection: EliteSelection) -> None:
    """Given the first parent, the second is drawn among the rest in the same proportions."""
    chances = np.array(SELECTIONS[selection])
    chosen = selection(SCORES, 9000, 2, np.random.default_rng(1))
    second = chosen[chosen[:, 0] == 2, 1]
    rest = np.where(np.arange(4) == 2, 0, chances)
    frequencies = np.bincount(second, minlength=4) / len(second)
    np.testing.assert_allclose(frequencies, rest / rest.sum(), atol=0.04)


@given(scores=score_tables.filter(lambda s: len(s) >= 2), seed=st.integers(0, 99))
def test_parents_of_a_child_differ(scores: np.ndarray, seed: int) -> None:
    for selection in (EliteSelection(), UniformSelection(), RankSelection()):
        chosen = selection(scores, 5, 2, np.random.default_rng(seed))
        assert chosen.shape == (5, 2)
        assert ((chosen >= 0) & (chosen < len(scores))).all()
        assert (chosen[:, 0] != chosen[:, 1]).all()


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: type(s).__name__)
@pytest.mark.usefixtures("no_global_randomness")
def test_a_single_elite_is_both_parents(selection: EliteSelection) -> None:
    chosen = selection(SCORES[:1], 3, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(chosen, np.zeros((3, 2), int))


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: type(s).__name__)
@pytest.mark.usefixtures("no_global_randomness")
def test_selection_depends_on_its_generator_only(selection: EliteSelection) -> None:
    first, again, other = (
        selection(SCORES, 20, 2, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_selection_leaves_scores_alone() -> None:
    """The released sampler altered the archive it was given."""
    for selection in SELECTIONS:
        scores = SCORES.copy()
        scores.setflags(write=False)
        selection(scores, 3, 2, np.random.default_rng(0))
