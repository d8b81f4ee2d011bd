"""The regression mean against least squares, solved directly on what layers receive."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn.functional import conv2d, linear, unfold

from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import ConfigError, EvaluationError
from qdmerge.operators import SVDMutation
from qdmerge.spaces import RegMeanSpace, SpectralSpace
from tests.spaces.networks import EXPERTS, AtWork, net

RIDGE = 0.02


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> TaskVectors:
    folder = tmp_path_factory.mktemp("nets")
    paths = {}
    for seed, name in enumerate(("base", *EXPERTS)):
        paths[name] = folder / f"{name}.safetensors"
        save_file(net(seed).state_dict(), paths[name])
    return TaskVectors(paths.pop("base"), paths)


@pytest.fixture(scope="module")
def make(
    vectors: TaskVectors, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., RegMeanSpace]:
    cache = tmp_path_factory.mktemp("cache")

    def build(at_work: AtWork | None = None, **options: object) -> RegMeanSpace:
        space = RegMeanSpace(vectors, **{"ridge": RIDGE, "examples": 40, "cache": cache, **options})
        space.calibrate(at_work or AtWork())
        return space

    return build


def received(expert: str, layer: str) -> torch.Tensor:
    """What a layer of an expert's own network receives, by torch alone."""
    model, seen = net(1 + EXPERTS.index(expert)), []
    hook = dict(model.named_modules())[layer].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].detach())
    )
    model(AtWork().images(expert, 40))
    hook.remove()
    return torch.cat(seen)


def responses(layer: str, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The layer's outputs without bias, ``(positions, out)``, float64."""
    if layer == "conv":
        maps = conv2d(inputs.double(), weight, stride=2, padding=1)
        return maps.movedim(1, -1).flatten(end_dim=-2)
    return linear(inputs.double(), weight).flatten(end_dim=-2)


def regret(layer: str, weight: torch.Tensor, shares: np.ndarray) -> torch.Tensor:
    """What the regression mean is to make small, from outputs alone."""
    total = torch.zeros((), dtype=torch.float64)
    for share, expert in zip(shares, EXPERTS, strict=True):
        own = dict(net(1 + EXPERTS.index(expert)).named_parameters())[f"{layer}.weight"]
        off = weight - own.detach().double()
        inputs = received(expert, layer)
        width = off[0].numel()
        # The mean of X^T X's diagonal: the response of every one of the inputs' coordinates.
        each = torch.eye(width, dtype=torch.float64).reshape(width, *off.shape[1:])
        scale = (responses(layer, inputs, each) ** 2).sum() / width
        total = total + share * (responses(layer, inputs, off) ** 2).sum() / scale
        total = total + share * RIDGE * (off**2).sum()
    return total


weights_of_experts = st.lists(st.floats(0.05, 2), min_size=3, max_size=3)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(weights=weights_of_experts)
@pytest.mark.parametrize("layer", ["conv", "head"])
def test_no_matrix_answers_more_like_the_experts(
    make: Callable[..., RegMeanSpace], weights: list[float], layer: str
) -> None:
    shares = np.array(weights) / np.sum(weights)
    merged = dict(make().tensors(make().regression_mean(shares)))[f"{layer}.weight"].double()
    merged.requires_grad_()
    found = regret(layer, merged, shares)
    (slope,) = torch.autograd.grad(found, merged)
    assert slope.abs().max() < 1e-4 * found  # the least of a quadratic
    average = sum(
        share * dict(net(1 + k).named_parameters())[f"{layer}.weight"].detach().double()
        for k, share in enumerate(shares)
    )
    assert found < regret(layer, average, shares)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(weights=weights_of_experts, scale=st.floats(0.2, 3))
def test_the_sum_of_weights_scales_the_task_vector(
    make: Callable[..., RegMeanSpace], weights: list[float], scale: float
) -> None:
    space = make()
    one, other = (
        dict(space.tensors(space.regression_mean(factor * np.array(weights))))
        for factor in (1, scale)
    )
    for name, tensor in one.items():
        base = space.vectors.base(name)
        torch.testing.assert_close(
            other[name] - base, scale * (tensor - base), rtol=1e-3, atol=1e-5
        )


def test_experts_and_base_are_themselves(make: Callable[..., RegMeanSpace]) -> None:
    space = make()
    for seed, name in enumerate(("base", *EXPERTS)):
        own = net(seed).state_dict()
        for tensor, value in space.tensors(space.seeds[name]):
            torch.testing.assert_close(value, own[tensor], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rank", [2, 16])
@pytest.mark.parametrize("width", [1024, 18, 17, 3, 1])
@pytest.mark.parametrize("center", [0.4, 0.0, -0.3])
def test_any_solution_is_what_the_formula_says(
    make: Callable[..., RegMeanSpace], center: float, width: int, rank: int
) -> None:
    space = make(rank=rank, width=width)
    x = np.random.default_rng(0).normal(center, 0.5, space.dim).astype(np.float32)
    ridge = RIDGE * 10 ** x[-1]
    merged = dict(space.tensors(x))
    for layer in ("conv", "head"):
        name = f"{layer}.weight"
        base, *experts = (net(seed).state_dict()[name].flatten(1).double() for seed in range(4))
        block = space._block(torch.from_numpy(x), name).double()
        shares = block.abs().mean(dim=1)
        outer, inner = 0, 0
        for k, expert in enumerate(EXPERTS):
            rows = received(expert, layer).double()
            if layer == "conv":
                rows = unfold(rows, 3, padding=1, stride=2).transpose(1, 2)
            rows = rows.flatten(end_dim=-2)
            gram = rows.T @ rows
            blocks = math.ceil(len(gram) / width)
            block_of = torch.arange(len(gram)) // math.ceil(len(gram) / blocks)
            gram = gram * (block_of[:, None] == block_of)
            gram = gram / gram.diagonal().mean() + ridge * torch.eye(len(gram))
            u, s, vt = torch.linalg.svd(experts[k] - base, full_matrices=False)
            multipliers = torch.full_like(s, block[k, -1].item())
            components = min(rank, len(s))
            multipliers[:components] = block[k, :components]
            outer = outer + (u * (multipliers * s)) @ vt @ gram
            inner = inner + shares[k] / shares.sum() * gram
        expected = base + outer @ torch.linalg.inv(inner)
        found = merged[name].flatten(1).double()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        assert (space._terms(name, "cpu").products is None) == (rank >= min(base.shape))


def test_svd_mutation_moves_the_experts_matrices_only(make: Callable[..., RegMeanSpace]) -> None:
    space = make()
    x = space.regression_mean([0.4, 0.3, 0.3])
    (mutated,) = SVDMutation(space, "b", scale=0.2)(x[None], np.random.default_rng(0))
    before, after = dict(space.tensors(x)), dict(space.tensors(mutated))
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert moved == ["conv.weight", "grouped.weight", "head.weight"]


def test_what_is_not_measured_is_merged_linearly(make: Callable[..., RegMeanSpace]) -> None:
    space = make()
    merged = dict(space.tensors(space.regression_mean({"a": 0.5, "c": 0.7})))
    states = [net(seed).state_dict() for seed in range(4)]
    for name, tensor in merged.items():
        base = states[0][name]
        linear_merge = base + 0.5 * (states[1][name] - base) + 0.7 * (states[3][name] - base)
        measured = name in ("conv.weight", "head.weight")
        assert measured != torch.allclose(tensor, linear_merge, atol=1e-6)


def test_a_large_ridge_is_the_linear_merge(make: Callable[..., RegMeanSpace]) -> None:
    space = make(ridge=1e4)
    x = np.random.default_rng(1).uniform(0, 1, space.dim)
    x[-1] = 3
    linear_merge = dict(SpectralSpace(space.vectors).tensors(x[:-1]))
    for name, tensor in space.tensors(x):
        torch.testing.assert_close(tensor, linear_merge[name], rtol=1e-4, atol=1e-5)


def test_live_modules_and_streams_get_the_same(make: Callable[..., RegMeanSpace]) -> None:
    at_work = AtWork()
    space = make(at_work, examples=24)
    x = space.regression_mean([0.5, 0.2, 0.4])
    space.express(x, at_work.module)  # the module that was measured with meanwhile
    for name, tensor in space.tensors(x):
        torch.testing.assert_close(at_work.module.state_dict()[name], tensor)


def test_layers_are_measured_once_for_each_data(
    vectors: TaskVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(examples: int = 8, width: int = 1024) -> list[tuple[str, int]]:
        at_work = AtWork()
        space = RegMeanSpace(vectors, examples=examples, width=width, cache=tmp_path)
        space.calibrate(at_work)
        assert at_work.runs == []  # not before a model is asked for
        list(space.tensors(space.x0))
        return at_work.runs

    assert measured() == [(name, 8) for name in EXPERTS]
    assert measured() == []
    assert measured(9) == [(name, 9) for name in EXPERTS]
    assert measured(width=5) == [(name, 8) for name in EXPERTS]
    monkeypatch.setattr(AtWork, "key", lambda self, examples: "other images")
    assert measured() == [(name, 8) for name in EXPERTS]


def test_what_is_measured_beforehand_is_not_measured_again(
    vectors: TaskVectors, tmp_path: Path
) -> None:
    at_work, told = AtWork(), list[tuple[str, int, int]]()
    for _ in range(2):
        space = RegMeanSpace(vectors, cache=tmp_path)
        space.calibrate(at_work)
        space.warm_up(lambda *progress: told.append(progress))
        list(space.tensors(space.x0))
    assert told == [("measuring layers' inputs", done, 3) for done in range(4)]
    assert [expert for expert, _ in at_work.runs] == [*EXPERTS]


def test_terms_that_do_not_fit_into_memory_are_computed_again(
    make: Callable[..., RegMeanSpace], vectors: TaskVectors, tmp_path: Path
) -> None:
    paths = {name: vectors.checkpoint.path.with_name(f"{name}.safetensors") for name in EXPERTS}
    small = RegMeanSpace(
        TaskVectors(vectors.checkpoint.path, paths, memory=0),
        ridge=RIDGE,
        examples=40,
        cache=tmp_path,
    )
    small.calibrate(AtWork())
    x = small.regression_mean([0.1, 0.9, 0.4])
    for _ in range(2):
        for (name, one), (_, other) in zip(small.tensors(x), make().tensors(x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)
    assert not small._kept


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 1000), at=st.floats(-1, 1))
def test_a_small_step_is_a_small_change(
    make: Callable[..., RegMeanSpace], seed: int, at: float
) -> None:
    space, rng = make(rank=2), np.random.default_rng(seed)
    x, step = rng.normal(0, 0.5, space.dim), rng.choice([-1.0, 1.0], space.dim) * 1e-6
    x[rng.integers(space.dim, size=space.dim // 2)] = 0
    x[: space.dim // 2] *= at
    before, after = (dict(space.tensors(point)) for point in (x, x + step))
    for name, tensor in before.items():
        assert (tensor - after[name]).norm() < 0.1, name


class Odd(torch.nn.Module):
    """Tied weights, layers of other kinds, one that is never used, and a call by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, 4)
        self.attention = torch.nn.MultiheadAttention(4, 1, batch_first=True)
        self.normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 4))
        self.inner = torch.nn.Linear(4, 4)
        self.unused = torch.nn.Linear(4, 4)
        self.output = torch.nn.Linear(4, 5, bias=False)
        self.output.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(tokens)
        hidden = self.normed(self.attention(hidden, hidden, hidden)[0])
        logits: torch.Tensor = self.output(self.inner(input=hidden))
        return logits


class OddAtWork(AtWork):
    def __init__(self, times: float = 1.0) -> None:
        super().__init__(("a", "b"))
        self.module = Odd().eval()
        self.times = times

    def passes(self, expert: str, examples: int) -> Iterator[Callable[[], object]]:
        self.module.embed.weight.data.mul_(self.times)
        yield lambda: self.module(torch.arange(5)[None])


def odd_vectors(folder: Path) -> TaskVectors:
    paths = {}
    for seed, name in enumerate(("base", "a", "b")):
        torch.manual_seed(seed)
        state = {k: v for k, v in Odd().state_dict().items() if k != "output.weight"}
        paths[name] = folder / f"{name}.safetensors"
        save_file(state, paths[name])
    return TaskVectors(paths.pop("base"), paths)


def test_only_plain_layers_of_their_own_are_measured(tmp_path: Path) -> None:
    vectors = odd_vectors(tmp_path)
    space = RegMeanSpace(vectors, cache=tmp_path)
    space.calibrate(OddAtWork())
    x = space.regression_mean([0.5, 0.5])
    linear_merge = dict(SpectralSpace(vectors).tensors(x[:-1]))
    differ = [n for n, t in space.tensors(x) if not torch.allclose(t, linear_merge[n], atol=1e-6)]
    assert differ == ["inner.weight"]


def test_inputs_that_are_not_finite_are_told_and_not_kept(tmp_path: Path) -> None:
    space = RegMeanSpace(odd_vectors(tmp_path), cache=tmp_path / "cache")
    space.calibrate(OddAtWork(times=np.nan))
    with pytest.raises(EvaluationError, match="expert 'a': .*inner.weight receives is not finite"):
        list(space.tensors(space.x0))
    space = RegMeanSpace(odd_vectors(tmp_path), cache=tmp_path / "cache")
    space.calibrate(OddAtWork())
    list(space.tensors(space.x0))


class Alike(AtWork):
    """Both channels tell the same, so inner products are singular but for rounding."""

    def images(self, expert: str, examples: int) -> torch.Tensor:
        images = super().images(expert, examples)
        return torch.stack([images[:, 0], 1.3 * images[:, 0]], dim=1)


def test_the_least_ridge_can_be_solved(vectors: TaskVectors, tmp_path: Path) -> None:
    space = RegMeanSpace(vectors, ridge=1e-9, cache=tmp_path)
    space.calibrate(Alike())
    x = space.regression_mean([0.3, 0.3, 0.4], ridge=1e-12)
    assert all(tensor.isfinite().all() for _, tensor in space.tensors(x))


class Wide(AtWork):
    """All that many inputs receive is the same number in the first few."""

    def __init__(self) -> None:
        super().__init__(("a", "b"))
        self.module = torch.nn.Linear(4096, 2)

    def passes(self, expert: str, examples: int) -> Iterator[Callable[[], object]]:
        rows = 1e-3 * torch.randn(50, 4096, generator=torch.Generator().manual_seed(0))
        rows[:, :16] += 10 * torch.randn(50, 1, generator=torch.Generator().manual_seed(1))
        yield partial(self.module, rows)


def test_one_block_may_hold_all_that_is_received(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("base", "a", "b")}
    for seed, path in enumerate(paths.values()):
        torch.manual_seed(seed)
        save_file(torch.nn.Linear(4096, 2).state_dict(), path)
    space = RegMeanSpace(TaskVectors(paths.pop("base"), paths), width=16, cache=tmp_path)
    space.calibrate(Wide())
    x = space.regression_mean([0.5, 0.5], ridge=1e-4)
    assert all(tensor.isfinite().all() for _, tensor in space.tensors(x))


def test_what_cannot_be_measured(vectors: TaskVectors) -> None:
    space = RegMeanSpace(vectors)
    with pytest.raises(ConfigError, match="this backend does not offer; choose 'space: layer'"):
        space.ready()
    space.calibrate(AtWork(("a", "b")))
    with pytest.raises(ConfigError, match="no task is that of expert 'c'"):
        space.ready()
    with pytest.raises(ConfigError, match="expert 'c'"):
        list(space.tensors(space.x0))
    for ridge in (0, np.inf, np.nan):
        with pytest.raises(ConfigError, match="'ridge'"):
            RegMeanSpace(vectors, ridge=ridge)
    with pytest.raises(ValueError, match=r"within 3 powers of ten of the space's own \(0.1\)"):
        space.regression_mean([0.5] * 3, ridge=1000)
    with pytest.raises(ValueError, match=r"\['d'\]"):
        space.regression_mean({"d": 1.0})
