"""The contract of spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from qdmerge.errors import UnsupportedError
from qdmerge.spaces import Space

if TYPE_CHECKING:
    import torch

    from qdmerge.spaces import LinearSpace, WeightSpace


class SpaceContract:
    """Tests that every space passes; those of weights run on a space of weights only.

    Attributes:
        tolerance: Relative and absolute difference of weights that counts as rounding.
    """

    tolerance: ClassVar[float] = 1e-4

    def make_space(self) -> Space:
        """Return a new space; equal each time, and quick to make. Override this."""
        raise NotImplementedError("override make_space()")

    def weight_space(self) -> WeightSpace:
        """Return the space, or skip the test if it has no weights."""
        from qdmerge.spaces import WeightSpace

        space = self.make_space()
        if not isinstance(space, WeightSpace):
            pytest.skip("the space has no weights")
        return space

    def linear_space(self) -> LinearSpace:
        """Return the space, or skip the test if it is no linear map to weights."""
        from qdmerge.spaces import LinearSpace

        space = self.make_space()
        if not isinstance(space, LinearSpace):
            pytest.skip("the space is no linear map to weights")
        return space

    def test_dimension_and_bounds(self) -> None:
        """``dim`` is positive; bounds have one entry per coordinate, and leave room."""
        space = self.make_space()
        assert isinstance(space, Space)
        assert space.dim >= 1
        assert space.lower_bounds.shape == space.upper_bounds.shape == (space.dim,)
        assert (space.lower_bounds <= space.upper_bounds).all()
        assert np.issubdtype(space.dtype, np.floating)

    def test_seeds_are_solutions(self) -> None:
        """Every seed is a read-only solution within the bounds; every expert is a seed."""
        space = self.make_space()
        assert space.seeds
        assert set(space.experts) <= set(space.seeds)
        for name, x in {**space.seeds, "x0": space.x0}.items():
            assert x.shape == (space.dim,), name
            assert x.dtype == space.dtype, name
            assert np.isfinite(x).all(), name
            assert (space.lower_bounds <= x).all(), name
            assert (x <= space.upper_bounds).all(), name
        assert not any(x.flags.writeable for x in space.seeds.values())

    def test_solutions_are_checked(self) -> None:
        """``check`` takes what is a solution, and refuses other shapes and what is not finite."""
        space = self.make_space()
        x = next(iter(space.seeds.values()))
        np.testing.assert_array_equal(space.check(x.tolist()), x)
        for wrong in (
            np.zeros(space.dim + 1),
            np.zeros((1, space.dim)),
            np.full(space.dim, np.nan),
        ):
            with pytest.raises(ValueError, match=r"\w"):
                space.check(wrong)

    def test_the_same_space_again(self) -> None:
        """A space that is made again gives the same solutions the same meaning."""
        one, two = self.make_space(), self.make_space()
        assert (one.dim, one.dtype, one.experts) == (two.dim, two.dtype, two.experts)
        np.testing.assert_array_equal(one.lower_bounds, two.lower_bounds)
        np.testing.assert_array_equal(one.upper_bounds, two.upper_bounds)
        assert list(one.seeds) == list(two.seeds)
        for name, x in one.seeds.items():
            np.testing.assert_array_equal(two.seeds[name], x)

    def test_experts_are_reproduced(self) -> None:
        """The experts' own ``x`` give their weights, and the base's gives the base's."""
        space = self.weight_space()
        vectors = space.vectors
        for name, x in space.seeds.items():
            for tensor, weights in space.tensors(x):
                expected = vectors.base(tensor)
                if name in space.experts and vectors.floating(tensor):
                    expected = expected.double() + vectors.delta(name, tensor).double()
                self._assert_close(weights, expected, f"{tensor} of {name}")

    def test_far_away_solutions_have_finite_weights(self) -> None:
        """A solution clipped to the bounds, as emitters do, is a model; the same each time."""
        space = self.weight_space()
        far = np.random.default_rng(0).uniform(-3, 3, space.dim)
        x = np.clip(far, space.lower_bounds, space.upper_bounds).astype(space.dtype)
        once, again = dict(space.tensors(x)), dict(space.tensors(x))
        assert once.keys() == again.keys()
        for name, weights in once.items():
            assert weights.isfinite().all(), name
            assert weights.equal(again[name]), name

    def test_a_live_module_gets_the_same_weights(self) -> None:
        """``express`` writes what ``tensors`` gives, whatever model was there before."""
        space = self.weight_space()
        module = _module_of(dict(space.tensors(next(iter(space.seeds.values())))))
        for x in (space.x0, *space.seeds.values()):
            space.express(x, module)
            state = module.state_dict()
            for name, weights in space.tensors(x):
                self._assert_close(state[name], weights, name)

    def test_gradients_are_those_of_the_weights(self) -> None:
        """``pullback`` tells what small steps of ``x`` do; a space without gradient says so."""
        import torch

        space, rng = self.weight_space(), np.random.default_rng(2)
        x = space.x0 + space.units * rng.uniform(-0.1, 0.1, space.dim)
        x = np.clip(x, space.lower_bounds, space.upper_bounds).astype(space.dtype)
        module = _module_of(dict(space.tensors(x)))
        if not space.differentiable:
            with pytest.raises(UnsupportedError), space.pullback(x, module):
                pass
            return
        shapes = {name: weight.shape for name, weight in module.named_parameters()}
        aims = {n: torch.from_numpy(rng.normal(size=shape)) for n, shape in shapes.items()}

        def value(at: np.ndarray) -> float:
            pairs = ((weight, aims.get(name)) for name, weight in space.tensors(at))
            return sum(float((w.double() * aim).sum()) for w, aim in pairs if aim is not None)

        space.express(x, module)
        with space.pullback(x, module) as gradient:
            terms = [(w * aims[name]).sum() for name, w in module.named_parameters()]
            torch.stack(terms).sum().backward()
        for _ in range(3):
            step = 0.01 * space.units * rng.uniform(-1, 1, space.dim)
            ahead, behind = (x + step).astype(space.dtype), (x - step).astype(space.dtype)
            found = float(gradient.double().numpy() @ (ahead.astype(float) - behind))
            assert found == pytest.approx(value(ahead) - value(behind), rel=0.02, abs=1e-3)

    def test_the_map_is_linear(self) -> None:
        """Of a linear space: mixed solutions are mixed task vectors."""
        space = self.linear_space()
        x, y = np.random.default_rng(1).normal(size=(2, space.dim)).astype(space.dtype)
        at_x, at_y = dict(space.tensors(x)), dict(space.tensors(y))
        for name, mixed in space.tensors(0.75 * x - 0.5 * y):
            if space.vectors.floating(name):
                base = space.vectors.base(name).double()
                expected = base + 0.75 * (at_x[name] - base) - 0.5 * (at_y[name] - base)
                self._assert_close(mixed, expected, name)

    def test_every_linear_merge_is_a_solution(self) -> None:
        """Of a linear space: ``merge(w)`` is ``base + sum_k w_k tau_k``."""
        space = self.linear_space()
        weights = np.linspace(-0.5, 1.25, len(space.experts)).tolist()
        x = space.check(space.merge(weights))
        for name, merged in space.tensors(x):
            if space.vectors.floating(name):
                expected = space.vectors.base(name).double()
                for expert, weight in zip(space.experts, weights, strict=True):
                    expected = expected + weight * space.vectors.delta(expert, name).double()
                self._assert_close(merged, expected, name)

    def _assert_close(self, got: torch.Tensor, expected: torch.Tensor, what: str) -> None:
        assert got.shape == expected.shape, what
        difference = (got.double() - expected.double()).abs()
        limit = self.tolerance * (1 + expected.double().abs())
        assert bool((difference <= limit).all()), f"{what} differs by {difference.max():.3g}"


def _module_of(tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Return a module whose state has these names and shapes, all zero."""
    import torch

    root = torch.nn.Module()
    for name, tensor in tensors.items():
        *path, leaf = name.split(".")
        owner = root
        for part in path:
            if part not in dict(owner.named_children()):
                owner.add_module(part, torch.nn.Module())
            owner = owner.get_submodule(part)
        zeros = torch.zeros_like(tensor)
        if tensor.is_floating_point():
            owner.register_parameter(leaf, torch.nn.Parameter(zeros))
        else:
            owner.register_buffer(leaf, tensor.clone())
    return root
