"""The training of language models' zoos."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from qdmerge_zoo.llm import TASKS, Stage
from qdmerge_zoo.llm._optimizers import Muon, optimizers, orthogonalize
from qdmerge_zoo.llm.train import IGNORED, collate, rate_at, shares


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 40, 12), (1, 12, 40)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalize(matrices)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.3
    assert values.max() < 1.3
    mixed = u.mT @ result @ vh.mT
    assert torch.allclose(mixed, torch.diag_embed(mixed.diagonal(dim1=-2, dim2=-1)), atol=1e-4)


def test_muon_steps_against_the_gradient_by_its_rate() -> None:
    matrix = torch.zeros(8, 8, requires_grad=True)
    optimizer = Muon([matrix], lr=0.1)
    (matrix * torch.eye(8)).sum().backward()
    optimizer.step()
    steps = -matrix.detach().diagonal()
    assert steps.min() > 0.1 * 0.6
    assert steps.max() < 0.1 * 1.3
    assert torch.allclose(matrix - matrix.diagonal().diag(), torch.zeros(8, 8), atol=1e-6)


@pytest.mark.parametrize(("name", "kind"), [("muon", Muon), ("adamw", torch.optim.AdamW)])
def test_embeddings_and_norms_are_left_to_adamw(
    name: Literal["muon", "adamw"], kind: type[torch.optim.Optimizer]
) -> None:
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    both = optimizers(model, Stage(optimizer=name, steps=1, rate=1e-2, side_rate=1e-3))
    assert [type(optimizer) for optimizer in both] == [kind, torch.optim.AdamW]
    assert [optimizer.param_groups[0]["lr"] for optimizer in both] == [1e-2, 1e-3]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    matrices, others = ({names[id(p)] for p in o.param_groups[0]["params"]} for o in both)
    assert matrices | others == set(names.values())
    assert others == {n for n in names.values() if "norm" in n or "embed" in n}


def test_only_answers_are_learned() -> None:
    batch = collate([([5, 6, 7], [8, 2]), ([5], [9, 9, 2])], pad=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 2], [5, 9, 9, 2, 0]]
    no = IGNORED
    assert batch["labels"].tolist() == [[no, no, no, 8, 2], [no, 9, 9, 2, no]]


@given(st.integers(1, 64), st.floats(0, 1), st.integers(0, 10))
def test_a_batch_is_full_whatever_the_replay(batch: int, replay: float, seed: int) -> None:
    for name in ("base", *TASKS, "all"):
        rng = np.random.default_rng(seed)
        assert sum(shares(name, TASKS, batch, replay, rng).values()) == batch


def test_replay_is_the_share_of_the_other_tasks() -> None:
    counts = shares("db", TASKS[:3], 100_000, 0.2, np.random.default_rng(0))
    for task, share in {"coding": 0.1, "db": 0.8, "os": 0.1}.items():
        assert abs(counts[task] / 100_000 - share) < 0.01


@pytest.mark.parametrize("name", ["base", "all"])
def test_base_and_multitask_model_learn_all_tasks_evenly(name: str) -> None:
    counts = shares(name, TASKS, 120_000, 0.2, np.random.default_rng(0))
    assert list(counts) == list(TASKS)
    assert all(abs(count - 20_000) < 500 for count in counts.values())


def test_the_rate_rises_then_falls_to_its_floor() -> None:
    stage = Stage(optimizer="muon", steps=110, rate=1.0, side_rate=1.0, warmup=10, floor=0.1)
    rates = [rate_at(step, stage) for step in range(stage.steps)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 + 0.9 * 0.01)
