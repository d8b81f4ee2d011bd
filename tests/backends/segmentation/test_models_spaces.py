"""Every kind of model through task vectors, spaces, expression and export."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSemanticSegmentation, SamModel

from qdmerge.checkpoints import TaskVectors, checkpoint_problems
from qdmerge.spaces import ExpertSpace, SpectralSpace
from qdmerge_segmentation.models import load_segmenter
from tests.backends.segmentation.conftest import KINDS, PRETRAINED, pictures


@pytest.fixture(scope="module")
def make_space(family, tmp_path_factory):
    cache = tmp_path_factory.mktemp("factors")

    def make(kind: str, name: str):
        found = family(kind)
        assert checkpoint_problems(found.base, found.experts) == []
        vectors = TaskVectors(found.base, found.experts)
        return ExpertSpace(vectors) if name == "expert" else SpectralSpace(vectors, 4, cache)

    return make


def loaded(family, kind, path):
    return load_segmenter(path, image_size=64, **family(kind).load)


def maps(segmenter, count=3):
    with torch.no_grad():
        return segmenter.maps(segmenter.inputs(*pictures(count)))


def random_x(space):
    return np.random.default_rng(0).normal(0.4, 0.3, space.dim)


@pytest.mark.parametrize("space_name", ["expert", "spectral"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_expressed_expert_segments_like_the_expert(family, make_space, kind, space_name):
    space = make_space(kind, space_name)
    live = loaded(family, kind, family(kind).base)
    own = maps(live)
    for name, path in [*family(kind).experts.items(), ("base", family(kind).base)]:
        space.express(space.seeds[name], live.module)
        expected = maps(loaded(family, kind, path))
        scale = expected.std().item()
        torch.testing.assert_close(maps(live), expected, rtol=1e-4, atol=1e-4 * scale)
        assert (name == "base") == torch.allclose(own, expected, rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize("kind", PRETRAINED)
def test_an_exported_model_is_loaded_by_transformers_alone(family, make_space, kind, tmp_path):
    space = make_space(kind, "spectral")
    live = loaded(family, kind, family(kind).base)
    x = random_x(space)
    space.express(x, live.module)
    out = space.export(x, tmp_path / "out")
    auto = SamModel if kind == "sam" else AutoModelForSemanticSegmentation
    model, info = auto.from_pretrained(out, output_loading_info=True)
    assert not any(info.values())
    expected = live.module.state_dict()
    counters = [name for name in expected if name.endswith("num_batches_tracked")]
    assert bool(counters) == (kind in ("segformer", "unet-batch"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert torch.allclose(maps(loaded(family, kind, out)), maps(live), atol=1e-5)
    if kind.startswith("unet"):
        assert (out / "modeling_unet.py").is_file()


def test_a_module_by_factory_is_exported_as_weights(family, make_space, tmp_path):
    space = make_space("plain", "spectral")
    live = loaded(family, "plain", family("plain").base)
    x = random_x(space)
    space.express(x, live.module)
    out = space.export(x, tmp_path / "out")
    assert torch.allclose(maps(loaded(family, "plain", out)), maps(live), atol=1e-5)


def test_convolutions_are_matrices_of_out_by_the_rest(make_space):
    space = make_space("unet", "spectral")
    name = "up.0.conv.weight"
    assert space.vectors.shapes[name] == (8, 24, 3, 3)
    assert name in space.matrices
    u = space._factors.sides(name, "cpu")
    assert u[0].shape == (8, 8)
    assert u[1].shape == (8, 24 * 9)


def test_tied_and_fixed_tensors_of_segment_anything_stay_one(family, make_space):
    """The positional frequencies are saved under one name and live under two."""
    space = make_space("sam", "expert")
    named = [name for name in space.vectors.names if "positional_embedding" in name]
    assert named == ["shared_image_embedding.positional_embedding"]
    live = loaded(family, "sam", family("sam").base)
    space.express(random_x(space), live.module)
    module = live.module
    ours = module.prompt_encoder.shared_embedding.positional_embedding
    assert torch.equal(ours, module.shared_image_embedding.positional_embedding)
    stored = load_file(family("sam").base / "model.safetensors")[named[0]]
    assert torch.equal(ours, stored)  # the experts have the base's


def test_statistics_are_merged_and_counters_are_the_bases(family, make_space):
    space = make_space("unet-batch", "expert")
    x = np.array([0.5, 0.5])
    merged = dict(space.tensors(x))
    parts = [load_file(p / "model.safetensors") for p in family("unet-batch").experts.values()]
    base = load_file(family("unet-batch").base / "model.safetensors")
    for name, tensor in merged.items():
        mean = (parts[0][name] + parts[1][name]) / 2
        if name.endswith("num_batches_tracked"):
            assert tensor == base[name]
            assert tensor != parts[0][name]
        else:
            torch.testing.assert_close(tensor, mean, rtol=1e-4, atol=1e-5)
