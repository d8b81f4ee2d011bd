"""BatchNorm statistics, measured anew."""

from __future__ import annotations

import pytest
import torch
from torch.optim.swa_utils import update_bn

from qdmerge_segmentation.models import has_batch_norm, load_segmenter, reestimate_batch_norm
from tests.backends.segmentation.conftest import KINDS, pictures, unet

BATCH_NORMS = (torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm)


@pytest.fixture
def segmenter(family):
    found = family("unet-batch")
    return load_segmenter(found.base, **found.load)


@pytest.fixture
def inputs(segmenter):
    return segmenter.inputs(*pictures(5))


def layers(module):
    return [layer for layer in module.modules() if isinstance(layer, BATCH_NORMS)]


def seen_by_layers(segmenter, inputs, batch_size):
    """What each layer gets while statistics are measured: a list of batches for each."""
    seen = {layer: [] for layer in layers(segmenter.module)}
    hooks = [
        layer.register_forward_pre_hook(
            lambda one, args: seen[one].append(args[0].double().clone())
        )
        for layer in seen
    ]
    reestimate_batch_norm(segmenter, inputs, batch_size)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(("batch_size", "parts"), [(8, [5]), (3, [3, 2]), (2, [2, 2, 1])])
def test_statistics_become_those_of_the_inputs(segmenter, inputs, batch_size, parts):
    for layer in layers(segmenter.module):
        layer.running_mean.fill_(torch.nan)
        layer.running_var.fill_(torch.inf)
    seen = seen_by_layers(segmenter, inputs, batch_size)
    assert len(seen) == 3
    for layer, batches in seen.items():
        assert [len(batch) for batch in batches] == parts
        mean = torch.cat(batches).mean((0, 2, 3))
        var = sum(b.transpose(0, 1).flatten(1).var(1) * len(b) for b in batches) / 5
        torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var.double(), var, rtol=1e-4, atol=1e-5)


def test_with_one_batch_evaluation_becomes_normalization_by_the_batch(segmenter, inputs):
    reestimate_batch_norm(segmenter, inputs, 8)
    with torch.no_grad():
        evaluated = segmenter.logits(inputs)
        segmenter.module.train()
        trained = segmenter.logits(inputs)
    # The running variance is the unbiased one, (n - 1) / n of it normalizes a batch.
    torch.testing.assert_close(evaluated, trained, rtol=0.02, atol=0.02 * trained.std().item())


def test_equal_batches_give_what_update_bn_gives(segmenter, inputs):
    two = {key: value[:4] for key, value in inputs.items()}
    other = unet("batch")
    other.load_state_dict(segmenter.module.state_dict())
    reestimate_batch_norm(segmenter, two, 2)
    pixels = segmenter._preprocessing.normalize(two["pixel_values"], torch.float32)
    with torch.no_grad():
        update_bn(pixels.split(2), other)
    for layer, expected in zip(layers(segmenter.module), layers(other), strict=True):
        torch.testing.assert_close(layer.running_mean, expected.running_mean)
        torch.testing.assert_close(layer.running_var, expected.running_var)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_nothing_else_changes(family, momentum):
    """Weights, modes, momenta and counters; dropout draws nothing."""
    found = family("plain")
    segmenter = load_segmenter(found.base, **found.load)
    norm, dropout = segmenter.module[1], segmenter.module[2]
    norm.momentum = momentum
    segmenter.module.train()
    dropout.eval()
    modes = [module.training for module in segmenter.module.modules()]
    inputs = segmenter.inputs(*pictures(4))
    before = {name: tensor.clone() for name, tensor in segmenter.module.state_dict().items()}
    random = torch.get_rng_state()
    dropped = []
    dropout.register_forward_hook(lambda one, _args, _out: dropped.append(one.training))
    reestimate_batch_norm(segmenter, inputs, 2)
    assert dropped == [False, False]
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in segmenter.module.modules()] == modes
    assert norm.momentum == momentum
    for name, tensor in segmenter.module.state_dict().items():
        changed = not torch.equal(tensor, before[name])
        assert changed == ("running" in name), name


def test_an_interrupted_measurement_restores_modes_and_counters(segmenter, inputs):
    def stop(*_args):
        raise KeyboardInterrupt

    hook = segmenter.module.head.register_forward_hook(stop)
    counts = [layer.num_batches_tracked.item() for layer in layers(segmenter.module)]
    with pytest.raises(KeyboardInterrupt):
        reestimate_batch_norm(segmenter, inputs, 2)
    hook.remove()
    assert not any(module.training for module in segmenter.module.modules())
    assert {layer.momentum for layer in layers(segmenter.module)} == {0.1}
    assert [layer.num_batches_tracked.item() for layer in layers(segmenter.module)] == counts


def test_measuring_twice_gives_the_same(segmenter, inputs):
    reestimate_batch_norm(segmenter, inputs, 2)
    first = {name: tensor.clone() for name, tensor in segmenter.module.state_dict().items()}
    reestimate_batch_norm(segmenter, inputs, 2)
    assert all(torch.allclose(t, first[n]) for n, t in segmenter.module.state_dict().items())


def test_synchronized_layers_count_too(segmenter, inputs):
    reestimate_batch_norm(segmenter, inputs, 3)
    expected = [layer.running_var.clone() for layer in layers(segmenter.module)]
    segmenter.module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(segmenter.module)
    found = layers(segmenter.module)
    assert all(isinstance(layer, torch.nn.SyncBatchNorm) for layer in found)
    for layer in found:
        layer.running_var.fill_(9)
    reestimate_batch_norm(segmenter, inputs, 3)
    for layer, var in zip(found, expected, strict=True):
        torch.testing.assert_close(layer.running_var, var)


@pytest.mark.parametrize("kind", KINDS)
def test_which_models_have_statistics(family, kind):
    found = family(kind)
    segmenter = load_segmenter(found.base, image_size=64, **found.load)
    assert has_batch_norm(segmenter.module) == (kind in ("segformer", "unet-batch", "plain"))
    before = {name: tensor.clone() for name, tensor in segmenter.module.state_dict().items()}
    reestimate_batch_norm(segmenter, segmenter.inputs(*pictures(2)), 2)
    changed = {n for n, t in segmenter.module.state_dict().items() if not torch.equal(t, before[n])}
    assert bool(changed) == has_batch_norm(segmenter.module)
    assert all("running" in name for name in changed)


def test_layers_without_running_statistics_do_not_count():
    assert not has_batch_norm(torch.nn.BatchNorm2d(3, track_running_stats=False))
