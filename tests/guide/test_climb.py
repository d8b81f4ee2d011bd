"""Climbs along a guide's gradients, and what a search does with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from qdmerge_toy import ToyBackend, ToyConfig
from safetensors.torch import save_file

from qdmerge import CycleQD
from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import ConfigError, UnsupportedError
from qdmerge.guide import Climb, Slopes, draw_rows, evaluate
from qdmerge.operators import GuidedMutation, NoMutation, chain
from qdmerge.spaces import ExpertSpace, ModuleGuide


@pytest.fixture
def backend() -> ToyBackend:
    return ToyBackend(ToyConfig())


def test_a_climb_is_adam_on_the_weighted_losses(backend):
    shares, seed, steps, rate = (0.5, 0.0, 0.5), 3, 7, 0.1
    x0 = np.full(4, 0.2)
    x, passes = Climb(shares, steps, rate, batch=6, seed=seed)(backend.guide, backend.space, x0)
    moved = torch.tensor(x0, dtype=torch.float32, requires_grad=True)
    adam = torch.optim.Adam([moved], lr=rate)
    guide = backend.guide
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        rows = draw_rows(guide.sizes, ["task0", "task2"], 6, seed, step)
        loss = 0.0
        for k, share in ((0, 0.5), (2, 0.5)):
            targets = torch.tensor(guide.peaks[k] + guide.aside[k, rows[f"task{k}"]])
            loss = loss + share * ((moved - targets) ** 2).sum(dim=1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    np.testing.assert_allclose(x, moved.detach().numpy(), atol=1e-5)
    assert passes == steps
    assert (np.sum((x - guide.peaks[0]) ** 2)) < np.sum((x0 - guide.peaks[0]) ** 2)


@given(first=st.integers(0, 6))
def test_a_climb_in_parts_is_the_climb_at_once(first):
    whole, parts = ToyBackend(ToyConfig()), ToyBackend(ToyConfig())
    x0, options = np.zeros(4), {"rate": 0.1, "total": 6}
    climbed, passes = Climb((1.0, 1.0, 1.0), 6, **options)(whole.guide, whole.space, x0)
    _, once = Climb((1.0, 1.0, 1.0), first, **options)(parts.guide, parts.space, x0)
    continued, more = Climb((1.0, 1.0, 1.0), 6, **options)(parts.guide, parts.space, x0)
    np.testing.assert_array_equal(continued, climbed)
    assert (passes, once + more) == (6, 6)


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    batch=st.integers(1, 30),
    seed=st.integers(0, 9),
)
def test_items_are_seen_equally_often(sizes, batch, seed):
    named = {str(k): size for k, size in enumerate(sizes)}
    seen = {task: np.zeros(size, int) for task, size in named.items()}
    for step in range(8):
        rows = draw_rows(named, list(named), batch, seed, step)
        assert list(rows) == list(named)
        for task, chosen in rows.items():
            assert len(chosen) == max(1, batch // len(named))
            np.add.at(seen[task], chosen, 1)
    for counts in seen.values():
        assert counts.max() - counts.min() <= 1


def test_slopes_are_the_gradients_of_the_scores_seen_by_the_guide(backend):
    x = np.full(4, 0.1)
    evaluation = evaluate(backend, x, "validation", Slopes(batch=48))
    assert evaluation.jacobians.shape == (1, 3, 4)
    guide = backend.guide  # sixteen of each task: all its items
    expected = -2 * (x - guide.peaks - guide.aside.mean(axis=1))
    np.testing.assert_allclose(evaluation.jacobians[0], expected, atol=1e-5)
    assert evaluation.passes == 3
    assert evaluation.solutions is None


def guided(archive, spec):
    from qdmerge.emitters import MergeEmitter
    from qdmerge.operators import EliteSelection, LinearCrossover

    mutation = GuidedMutation(spec.task, spec.tasks, steps=4, rate=0.05)
    return MergeEmitter(
        archive, selection=EliteSelection(), crossover=LinearCrossover(), mutation=mutation
    )


def test_a_search_scores_what_the_guide_improved(backend):
    search = CycleQD(backend, emitters=[guided])
    assert search.guided
    search.tell(seeds := search.ask(), search.evaluate(seeds))
    batch = search.ask()
    with pytest.raises(ValueError, match="improved by the guide"):
        search.tell(batch, backend.evaluate(batch.solutions, "validation"))
    evaluation = search.evaluate(batch)
    assert not np.array_equal(evaluation.solutions, batch.solutions)
    np.testing.assert_array_equal(
        evaluation.scores, backend.evaluate(evaluation.solutions, "validation").scores
    )
    search.tell(batch, evaluation)
    kept = [elite.x for task in search.tasks for elite in search.elites(task)]
    assert any(np.array_equal(x, evaluation.solutions[0]) for x in kept)
    assert not any(np.array_equal(x, batch.solutions[0]) for x in kept)


@given(focus=st.floats(0, 1), seed=st.integers(0, 99))
def test_shares_sum_to_one_and_focus_on_the_active_task(focus, seed):
    mutation = GuidedMutation("b", ("a", "b", "c"), focus=focus)
    for climb in mutation.errands(5, np.random.default_rng(seed)):
        assert sum(climb.shares) == pytest.approx(1)
        assert climb.shares[1] >= focus - 1e-12


def test_a_chain_climbs_once():
    mutation = GuidedMutation("a", ("a", "b"))
    errands = chain(NoMutation(), mutation).errands(2, np.random.default_rng(0))
    assert errands == mutation.errands(2, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="climbs once"):
        chain(mutation, mutation)


@pytest.fixture
def pair(tmp_path) -> tuple[ExpertSpace, torch.nn.Linear]:
    """A space of two experts, and its live module: a classifier of five inputs."""
    generator = torch.Generator().manual_seed(3)
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("base", "a", "b")}
    for path in paths.values():
        save_file({"weight": torch.randn(4, 5, generator=generator)}, path)
    space = ExpertSpace(TaskVectors(paths.pop("base"), paths))
    return space, torch.nn.Linear(5, 4, bias=False)


def entropy_of(logits: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Categorical(logits=logits).entropy().mean()


def test_a_climb_by_entropy_is_adamerging(pair):
    space, module = pair
    inputs = {task: torch.randn(8, 5, generator=torch.Generator().manual_seed(k))
              for k, task in enumerate(("a", "b"))}  # fmt: skip

    def entropy(task, rows):
        return entropy_of(module(inputs[task][torch.from_numpy(rows)]))

    def unused(task, rows):
        raise AssertionError("the first loss")

    guide = ModuleGuide(space, module, unused, {"a": 8, "b": 8}, entropy=entropy)
    climb = Climb((0.5, 0.5), 20, 0.01, batch=6, seed=2, total=10**9, objective="entropy")
    x, _ = climb(guide, space, np.full(2, 0.3, np.float32))

    base = space.vectors.base("weight")
    taus = torch.stack([space.vectors.delta(name, "weight") for name in ("a", "b")])
    coefficients = torch.full((2,), 0.3, requires_grad=True)
    adam = torch.optim.Adam([coefficients], lr=0.01)
    for step in range(20):
        rows = draw_rows(guide.sizes, ["a", "b"], 6, 2, step)
        weight = base + torch.tensordot(coefficients, taus, dims=1)
        loss = sum(entropy_of(inputs[task][rows[task]] @ weight.T) / 2 for task in rows)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert np.abs(x - 0.3).max() > 0.05
    np.testing.assert_allclose(x, coefficients.detach().numpy(), atol=1e-4)


def test_a_guide_without_entropy_says_so_by_name(backend):
    climb = Climb((1.0, 1.0, 1.0), 2, 0.1, objective="entropy")
    with pytest.raises(UnsupportedError, match="ToyGuide has no loss 'entropy'.*ModuleGuide"):
        evaluate(backend, np.zeros(4), "validation", climb)
