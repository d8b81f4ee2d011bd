"""Gradients in coordinates: against autograd of the documented formulas, and differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import CheckpointError, UnsupportedError
from qdmerge.parts import SPACES
from qdmerge.spaces import WeightSpace
from tests.spaces.dense import Inputs, dense
from tests.trios import SHAPES, Trio, with_adapters

KINDS = ("expert", "layer", "spectral", "core", "dense", "regmean", "slerp")
EXPERTS = ("coding", "db", "os")
ADAPTERS = {"coding": 2, "db": 1, "os": 2}
MIXED = {"db": 1, "os": 2}


class Layer(nn.Module):
    """What :data:`SHAPES` holds of one of two layers."""

    def __init__(self, number: int) -> None:
        super().__init__()
        if number == 0:
            self.attn = nn.Linear(8, 8, bias=False)
            self.norm = nn.LayerNorm(8, eps=1.0, bias=False)
        else:
            self.conv = nn.Conv2d(3, 4, 2, bias=False)
            self.register_buffer("running_mean", torch.zeros(4))
            self.register_buffer("steps", torch.zeros(3, dtype=torch.int64))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if hasattr(self, "attn"):
            return hidden + self.norm(torch.tanh(self.attn(hidden) / 4))
        pictures = self.conv(hidden.reshape(-1, 3, 4, 4) / 4) - self.running_mean[:, None, None]
        return hidden + torch.tanh(pictures).mean(dim=(1, 2, 3)).view(-1, 1, 1)


class Net(nn.Module):
    """A smooth model of :data:`SHAPES`; the head may be the embedding."""

    def __init__(self, tied: bool = False, checkpointing: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.layers = nn.ModuleList([Layer(0), Layer(1)])
        self.scale = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(8, 12 if tied else 6, bias=False)
        if tied:
            self.head.weight = self.embed.weight
        self.checkpointing = checkpointing

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(tokens)
        for layer in self.layers:
            hidden = (
                checkpoint(layer, hidden, use_reentrant=False)
                if self.checkpointing
                else layer(hidden)
            )
        return torch.log_softmax(self.head(torch.tanh(self.scale * hidden)), dim=-1)


TOKENS = torch.randint(12, (4, 6), generator=torch.Generator().manual_seed(0))


def loss_of(logits: torch.Tensor, part: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(part)
    return -(logits * torch.rand(logits.shape, generator=generator)).sum()


class Watch:
    """Every expert sees tokens of its own."""

    def __init__(self) -> None:
        self.module = Net()
        self.experts = EXPERTS

    def key(self, examples: int) -> str:
        return "tokens"

    def tokens(self, expert: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(10 + EXPERTS.index(expert))
        return torch.randint(12, (8, 6), generator=generator)

    def passes(self, expert: str, examples: int) -> Iterator[Callable[[], object]]:
        yield partial(self.module, self.tokens(expert))


def received(vectors: TaskVectors) -> Inputs:
    """What every layer of every expert receives, by torch alone."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for expert in vectors.experts:
        module = Net().double()
        state = {n: vectors.base(n) for n in vectors.names}
        state |= {
            n: state[n] + vectors.delta(expert, n)
            for n in vectors.names
            if state[n].is_floating_point()
        }
        module.load_state_dict(state)
        found[expert] = {}

        def keep(layer: nn.Module, inputs: tuple, of: str, name: str) -> None:
            rows = inputs[0].detach()
            if isinstance(layer, nn.Conv2d):
                rows = nn.functional.unfold(rows, layer.kernel_size).mT
            found[of][name] = rows.flatten(end_dim=-2)

        for name in ("layers.0.attn", "layers.1.conv", "head"):
            hook = partial(keep, of=expert, name=f"{name}.weight")
            module.get_submodule(name).register_forward_pre_hook(hook)
        module(Watch().tokens(expert))
    return found


@pytest.fixture(scope="module", params=["whole", "adapters", "mixed"])
def experts(request: pytest.FixtureRequest, trio: Trio, tmp_path_factory) -> Trio:
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "whole":
        return trio
    if request.param == "adapters":
        return with_adapters(trio, root, ADAPTERS)
    return with_adapters(trio, root, MIXED, full=1)


def build(
    kind: str, vectors: TaskVectors, cache: Path, rank: int = 2, **more: object
) -> WeightSpace:
    options = {"rank": rank, "cache": cache} if kind in ("spectral", "core", "regmean") else {}
    space = SPACES.build(kind, {**options, **more}, {"vectors": vectors})
    if kind == "regmean":
        space.calibrate(Watch())
        space.warm_up()
    return space


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def points(space: WeightSpace) -> dict[str, np.ndarray]:
    """Points anywhere, and where models skip what adds nothing to them."""
    rng = np.random.default_rng(0)
    low, high = np.maximum(space.lower_bounds, -1), np.minimum(space.upper_bounds, 1)
    anywhere = rng.uniform(low, high).astype(np.float32)
    half = np.where(rng.random(space.dim) < 0.5, anywhere, space.x0)
    found = {"anywhere": anywhere, "average": space.x0, "half": half, **space.seeds}
    if space.name == "regmean":  # not differentiable there: every way from it is another mean
        del found["base"]
    return found


def pulled(space: WeightSpace, x: np.ndarray, module: nn.Module, parts: int = 1) -> np.ndarray:
    space.express(x, module)
    with space.pullback(x, module) as gradient:
        for part in range(parts):
            loss_of(module(TOKENS), part).backward()
    return gradient.numpy()


def expected(
    space: WeightSpace, x: np.ndarray, module: nn.Module, inputs: Inputs | None = None
) -> np.ndarray:
    """By autograd of the dense formulas, in float64."""
    at = torch.from_numpy(space.check(x)).double().requires_grad_()
    weights = dense(space, inputs)(at)
    weights = {n: t.double() if t.is_floating_point() else t for n, t in weights.items()}
    state = {n: t for n, t in weights.items() if n in module.state_dict()}
    buffers = {n: weights[n].detach() for n, _ in module.named_buffers()}
    loss_of(functional_call(module, state | buffers, (TOKENS,))).backward()
    assert at.grad is not None
    return at.grad.numpy()


def assert_close(got: np.ndarray, want: np.ndarray, what: str = "", limit: float = 1e-4) -> None:
    assert got.shape == want.shape
    error = np.abs(got - want).max() / np.abs(want).max()
    assert error < limit, f"{what}: {error:g}"


@pytest.mark.parametrize("memory", [0, 2**28])
@pytest.mark.parametrize("kind", KINDS)
def test_autograd_of_the_documented_formula(
    kind: str, memory: int, experts: Trio, cache: Path
) -> None:
    vectors = experts.vectors(memory=memory)
    assert vectors.resident == bool(memory)
    space, module = build(kind, vectors, cache), Net().double()
    inputs = received(vectors) if kind == "regmean" else None
    for name, x in points(space).items():
        got = pulled(space, x, module)
        assert_close(got, expected(space, x, module, inputs), f"{kind} at {name}")


@pytest.mark.parametrize("kind", KINDS)
def test_central_differences(kind: str, experts: Trio, cache: Path) -> None:
    space, module = build(kind, experts.vectors(), cache), Net().double()
    x, rng, step = points(space)["anywhere"], np.random.default_rng(1), 1e-3
    gradient = pulled(space, x, module).astype(np.float64)
    buffer = module.layers[1].running_mean.clone()

    @torch.no_grad()
    def loss(at: np.ndarray) -> float:
        space.express(at, module)
        module.layers[1].running_mean.copy_(buffer)  # buffers have no gradient
        return float(loss_of(module(TOKENS)))

    for _ in range(3):
        way = np.sign(gradient) * rng.uniform(size=space.dim)
        way /= np.linalg.norm(way)
        slope = (loss(x + step * way) - loss(x - step * way)) / (2 * step)
        assert gradient @ way == pytest.approx(slope, rel=5e-3)


@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("memory", [0, 2**28])
def test_regression_means_in_blocks(width: int, memory: int, experts: Trio, cache: Path) -> None:
    vectors, module = experts.vectors(memory=memory), Net().double()
    space = build("regmean", vectors, cache, width=width)
    for name, x in points(space).items():
        got = pulled(space, x, module)
        assert_close(got, expected(space, x, module, received(vectors)), name)


def test_ranks_that_leave_no_rest(experts: Trio, cache: Path) -> None:
    for kind in ("spectral", "core"):
        space, module = build(kind, experts.vectors(), cache, rank=64), Net().double()
        x = points(space)["anywhere"]
        assert_close(pulled(space, x, module), expected(space, x, module), kind)


@pytest.mark.parametrize("kind", ["expert", "layer", "spectral", "core"])
def test_no_task_vector_of_adapters_is_formed(
    kind: str, trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = build(kind, with_adapters(trio, tmp_path, ADAPTERS).vectors(), tmp_path)
    module = Net().double()
    want = expected(space, space.x0, module)
    for method in ("delta", "_dense"):
        monkeypatch.setattr(TaskVectors, method, lambda *_: pytest.fail("formed"))
    assert_close(pulled(space, space.x0, module), want)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("kind", ["layer", "spectral", "core"])
def test_tied_weights_count_once_with_all_uses(
    kind: str, twice: bool, make_trio: Callable[..., Trio], tmp_path: Path
) -> None:
    """Also where the checkpoint holds both names: then the first is the module's."""
    trio = make_trio({n: s for n, s in SHAPES.items() if n != "head.weight"})
    if twice:
        for path in (trio.base_path, *trio.expert_paths.values()):
            file = path / "model.safetensors"
            tensors = load_file(file)
            save_file(tensors | {"head.weight": tensors["embed.weight"].clone()}, file)
    space, module = build(kind, trio.vectors(), tmp_path), Net(tied=True).double()
    x = points(space)["anywhere"]
    at = torch.from_numpy(x).double().requires_grad_()
    weights = dense(space)(at)
    weights["head.weight"] = weights["embed.weight"]
    state = {n: t.double() if t.is_floating_point() else t for n, t in weights.items()}
    untied = Net(tied=True).double()
    untied.head = nn.Linear(8, 12, bias=False)
    buffers = {n: state[n].detach() for n, _ in untied.named_buffers()}
    loss_of(functional_call(untied, state | buffers, (TOKENS,))).backward()
    assert_close(pulled(space, x, module), at.grad.numpy())
    assert module.head.weight is module.embed.weight


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_half_precision_are_summed_in_single(
    kind: str, trio: Trio, cache: Path
) -> None:
    space, half = build(kind, trio.vectors(), cache), Net().bfloat16()
    x = points(space)["anywhere"]
    space.express(x, half)
    with space.pullback(x, half) as gradient:
        loss_of(half(TOKENS).float()).backward()
        once = gradient.clone()
        for part in range(2):
            loss_of(half(TOKENS).float(), part).backward()
    assert gradient.dtype == torch.float32
    assert_close(once.numpy(), pulled(space, x, Net()), limit=0.2)
    alone = [pulled_again(space, x, half, part) for part in (0, 0, 1)]
    np.testing.assert_allclose(gradient.numpy(), sum(alone), rtol=1e-4, atol=1e-4)


def pulled_again(space: WeightSpace, x: np.ndarray, module: nn.Module, part: int) -> np.ndarray:
    with space.pullback(x, module) as gradient:
        loss_of(module(TOKENS).float(), part).backward()
    return gradient.numpy()


def test_several_losses_add_up_and_checkpointing_changes_nothing(trio: Trio, cache: Path) -> None:
    space = build("core", trio.vectors(), cache)
    x = points(space)["anywhere"]
    plain, frugal = Net(), Net(checkpointing=True)
    both = pulled(space, x, plain, parts=2)
    alone = [pulled_again(space, x, plain, part) for part in range(2)]
    np.testing.assert_allclose(both, sum(alone), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pulled(space, x, frugal, parts=2), both, rtol=1e-5, atol=1e-6)


def test_one_gradient_is_alive_at_a_time(trio: Trio, tmp_path: Path) -> None:
    """Weights that no expert changes get none at all; what was there before does not count."""
    space = build("core", with_adapters(trio, tmp_path, ADAPTERS).vectors(), tmp_path)
    module, alive = Net(), []
    parameters = dict(module.named_parameters())
    want = pulled(space, space.x0, module)
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
        parameter.register_post_accumulate_grad_hook(
            lambda _: alive.append([n for n, p in parameters.items() if p.grad is not None])
        )
    np.testing.assert_array_equal(pulled(space, space.x0, module), want)
    assert sorted(alive) == [[n] for n in sorted(parameters) if space.vectors.is_changed(n)]
    assert {"scale", "layers.0.norm.weight"}.isdisjoint(name for (name,) in alive)


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_is_as_before(trio: Trio, fails: bool) -> None:
    space, module = build("expert", trio.vectors(), Path()), Net()
    module.layers.requires_grad_(False)
    before = {n: p.requires_grad for n, p in module.named_parameters()}
    try:
        with space.pullback(space.x0, module) as gradient:
            loss_of(module(TOKENS)).backward()
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert gradient.any()
    kept = gradient.clone()
    assert {n: p.requires_grad for n, p in module.named_parameters()} == before
    assert all(parameter.grad is None for parameter in module.parameters())
    loss_of(module(TOKENS)).backward()
    assert module.embed.weight.grad is not None
    assert torch.equal(gradient, kept)


def test_channels_last(trio: Trio, tmp_path: Path) -> None:
    space = build("expert", with_adapters(trio, tmp_path, ADAPTERS).vectors(), tmp_path)
    want = pulled(space, space.x0, Net())
    module = Net().to(memory_format=torch.channels_last)
    np.testing.assert_allclose(pulled(space, space.x0, module), want, rtol=1e-4)


@pytest.mark.parametrize("kind", ["ties", "dare", "dare_ties"])
def test_spaces_that_have_no_gradient_say_so(kind: str, trio: Trio) -> None:
    space = build(kind, trio.vectors(), Path())
    with (
        pytest.raises(UnsupportedError, match=f"'{kind}' has no gradient.*core.*expert.*regmean"),
        space.pullback(space.x0, Net()),
    ):
        pass


def test_what_does_not_fit_is_refused_before_anything(trio: Trio) -> None:
    space, module = build("expert", trio.vectors(), Path()), Net()
    with pytest.raises(ValueError, match=r"shape \(3,\)"), space.pullback(np.zeros(4), module):
        pass
    module.scale = nn.Parameter(torch.ones(2), requires_grad=False)
    with pytest.raises(CheckpointError, match="scale is"), space.pullback(space.x0, module):
        pass
    assert not module.scale.requires_grad
