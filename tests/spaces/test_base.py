from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from qdmerge.spaces import VectorSpace


def test_seeds_bounds_and_start() -> None:
    space = VectorSpace({"a": [0.0, 2.0], "b": [1.0, 0.0]}, lower=-1, upper=[1.0, 5.0])
    assert (space.dim, space.dtype, space.experts) == (2, np.float64, ())
    assert list(space.seeds) == ["a", "b"]
    np.testing.assert_array_equal(space.lower_bounds, [-1, -1])
    np.testing.assert_array_equal(space.upper_bounds, [1, 5])
    np.testing.assert_array_equal(space.x0, [0.5, 1.0])


def test_experts_are_the_start_when_named() -> None:
    space = VectorSpace({"base": [0.0], "a": [1.0], "b": [3.0]}, experts=("a", "b"))
    np.testing.assert_array_equal(space.x0, [2.0])
    assert np.isneginf(space.lower_bounds).all()
    assert np.isposinf(space.upper_bounds).all()


def test_seeds_cannot_be_changed() -> None:
    given = np.zeros(2)
    space = VectorSpace({"a": given})
    given[0] = 5
    assert space.seeds["a"][0] == 0
    with pytest.raises(ValueError, match="read-only"):
        space.seeds["a"][0] = 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": {}}, "at least one seed"),
        (
            {"seeds": {"a": [1.0], "b": [1.0, 2.0]}},
            r"seed 'b': expected .*\(1,\).*received.*\(2,\)",
        ),
        ({"seeds": {"a": [[1.0]]}}, r"shape \(1, 1\)"),
        ({"seeds": {"a": [np.nan]}}, "finite"),
        ({"seeds": {"a": [2.0]}, "upper": 1.0}, "outside the bounds"),
        ({"seeds": {"a": [0.0]}, "lower": 1.0, "upper": -1.0}, "must not exceed"),
        ({"seeds": {"a": [0.0]}, "lower": [0.0, 0.0]}, r"shape \(1,\).*\(2,\)"),
        ({"seeds": {"a": [0.0]}, "experts": ("c",)}, "'c'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VectorSpace(**arguments)


def test_a_solution_is_checked() -> None:
    space = VectorSpace({"a": np.zeros(3)})
    np.testing.assert_array_equal(space.check([1, 2, 3]), [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"expected .*\(3,\).*received shape \(4,\)"):
        space.check(np.zeros(4))
    with pytest.raises(ValueError, match="received inf at 1"):
        space.check([0.0, np.inf, 0.0])


def test_needs_no_torch() -> None:
    code = (
        "import sys; from qdmerge.spaces import VectorSpace; "
        "from qdmerge.checkpoints import checkpoint_problems; "
        "VectorSpace({'a': [0.0]}); checkpoint_problems('/nowhere', {}); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
