"""Expressing a solution in a live module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import CheckpointError
from qdmerge.spaces import ExpertSpace, SpectralSpace
from tests.trios import Tensors, write


class Net(nn.Module):
    """Tied embedding and head, a convolution, batch normalization, a scalar, a transient buffer."""

    def __init__(self, seed: int, tied: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.conv = nn.Conv2d(3, 4, 2)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.head = nn.Linear(6, 9, bias=False)
        self.register_buffer("positions", torch.arange(3.0), persistent=False)
        if tied:
            self.head.weight = self.embed.weight
        generator = torch.Generator().manual_seed(seed)
        for tensor in (*self.parameters(), self.norm.running_mean):
            tensor.data = torch.randn(tensor.shape, generator=generator)


def once(module: nn.Module) -> Tensors:
    """A state with every tied tensor once, under its first name, as transformers saves it."""
    seen: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        seen.setdefault(id(tensor), name)
    return {name: state[name].detach().clone() for name in seen.values()}


@pytest.fixture
def nets(tmp_path: Path) -> Callable[..., TaskVectors]:
    def make(state: Callable[[nn.Module], Tensors] = once, tied: bool = True) -> TaskVectors:
        paths = {n: write(tmp_path / n, state(Net(i, tied))) for i, n in enumerate("bde")}
        return TaskVectors(paths.pop("b"), paths)

    return make


def assert_state(module: nn.Module, expected: nn.Module) -> None:
    want = expected.state_dict()
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, want[name], msg=name)


@pytest.mark.parametrize("make", [ExpertSpace, lambda v: SpectralSpace(v, 2, v.checkpoint.path)])
def test_experts_appear_in_place(nets: Callable[..., TaskVectors], make: Callable) -> None:
    space = make(nets())
    module = Net(9)
    before = module.embed.weight
    for expert, seed in (("d", 1), ("e", 2), ("base", 0)):
        space.express(space.seeds[expert], module)
        assert_state(module, Net(seed))
    assert module.embed.weight is before
    assert module.head.weight is before
    assert before.requires_grad


def test_float_buffers_are_merged_and_counters_kept(nets: Callable[..., TaskVectors]) -> None:
    space = ExpertSpace(nets())
    module = Net(9)
    module.norm.num_batches_tracked += 5
    space.express(space.merge([0.5, 0.5]), module)
    mean = (Net(1).norm.running_mean + Net(2).norm.running_mean) / 2
    torch.testing.assert_close(module.norm.running_mean, mean)
    assert module.norm.num_batches_tracked == 0


def test_a_tied_tensor_is_written_once(nets: Callable[..., TaskVectors]) -> None:
    vectors = nets(lambda net: {n: t.clone() for n, t in net.state_dict().items()})
    assert {"embed.weight", "head.weight"} <= set(vectors.names)
    space, module = ExpertSpace(vectors), Net(9)
    version = module.embed.weight._version
    space.express(space.seeds["d"], module)
    assert module.embed.weight._version == version + 1
    assert_state(module, Net(1))


def test_an_untied_module_gets_both_copies(nets: Callable[..., TaskVectors]) -> None:
    space, module = ExpertSpace(nets(tied=False)), Net(9, tied=False)
    space.express(space.seeds["e"], module)
    assert_state(module, Net(2, tied=False))
    assert not torch.equal(module.head.weight, module.embed.weight)


def test_the_module_s_dtype_is_kept(nets: Callable[..., TaskVectors]) -> None:
    space, module = ExpertSpace(nets()), Net(9).to(torch.bfloat16)
    space.express(space.seeds["d"], module)
    assert module.conv.weight.dtype == torch.bfloat16
    assert torch.equal(module.conv.weight, Net(1).conv.weight.bfloat16())


def test_noncontiguous_parameters(nets: Callable[..., TaskVectors]) -> None:
    space = ExpertSpace(nets())
    module = Net(9).to(memory_format=torch.channels_last)
    space.express(space.seeds["d"], module)
    assert torch.equal(module.conv.weight, dict(space.tensors(space.seeds["d"]))["conv.weight"])


def refuses(vectors: TaskVectors, module: nn.Module, *words: str) -> None:
    before = {n: t.clone() for n, t in module.state_dict().items()}
    space = ExpertSpace(vectors)
    with pytest.raises(CheckpointError) as raised:
        space.express(space.merge([2.0, 2.0]), module)
    for word in ("Net", *words):
        assert word in str(raised.value)
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())


def test_a_module_that_lacks_a_tensor(nets: Callable[..., TaskVectors]) -> None:
    module = Net(9)
    del module.scale
    refuses(nets(), module, "the module lacks scale")


def test_a_module_of_another_shape(nets: Callable[..., TaskVectors]) -> None:
    module = Net(9)
    module.conv = nn.Conv2d(3, 5, 2)
    refuses(nets(), module, "conv.weight is (5, 3, 2, 2), the checkpoint has (4, 3, 2, 2)")


def test_a_module_with_more_parameters(nets: Callable[..., TaskVectors]) -> None:
    module = Net(9)
    module.extra = nn.Linear(2, 2)
    refuses(nets(), module, "the checkpoint lacks extra.weight, extra.bias")


def test_an_untied_head_without_weights(nets: Callable[..., TaskVectors]) -> None:
    refuses(nets(), Net(9, tied=False), "the checkpoint lacks head.weight")


def test_transient_buffers_in_the_checkpoint(nets: Callable[..., TaskVectors]) -> None:
    space = ExpertSpace(nets(lambda net: once(net) | {"positions": net.positions * 2}))
    module = Net(9)
    space.express(np.zeros(2), module)
    assert module.positions.tolist() == [0, 2, 4]
