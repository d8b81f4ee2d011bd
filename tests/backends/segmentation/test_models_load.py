"""Loading models of every kind, and what is said about wrong ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import qdmerge_segmentation.models as models
from qdmerge.errors import CheckpointError, ConfigError, QDMergeError
from qdmerge_segmentation.models import load_segmenter, model_problems, predict
from tests.backends.segmentation.conftest import KINDS, pictures

FACTORY = f"{__package__}.conftest:plain"


def no_module() -> int:
    return 3


def broken() -> None:
    raise OSError("no such GPU")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_segments_images_of_any_size(family, kind):
    found = family(kind)
    labels = [2] if kind == "segformer" else None
    segmenter = load_segmenter(found.base, image_size=64, **found.load)
    assert not segmenter.module.training
    images, masks = pictures(3, (40, 70))
    images[1], masks[1] = (part[0] for part in pictures(1, (90, 30)))
    inputs = segmenter.inputs(images, masks)
    assert {len(tensor) for tensor in inputs.values()} == {3}
    sizes = [mask.shape for mask in masks]
    predicted = predict(segmenter, inputs, sizes, 2, labels)
    assert [p.shape for p in predicted] == sizes
    assert all(p.dtype == bool for p in predicted)
    alone = [
        predict(segmenter, segmenter.inputs([i], [m]), [m.shape], 1, labels)[0]
        for i, m in zip(images, masks, strict=True)
    ]
    differing = [float((a != p).mean()) for a, p in zip(alone, predicted, strict=True)]
    assert max(differing) < 0.01  # an image's mask does not depend on its company


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_weights(family, kind):
    found = family(kind)
    segmenter = load_segmenter(found.base, image_size=64, **found.load)
    images, masks = pictures(2)
    logits = segmenter.logits(segmenter.inputs(images, masks), [1] if kind == "segformer" else None)
    assert logits.dim() == 3
    logits.square().mean().backward()
    first = next(p for p in segmenter.module.parameters() if p.requires_grad and p.dim() == 4)
    assert first.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_models_run_in_the_dtype_asked_for(family, kind, dtype):
    found = family(kind)
    segmenter = load_segmenter(found.base, image_size=64, dtype=dtype, **found.load)
    assert {p.dtype for p in segmenter.module.parameters()} == {dtype}
    images, masks = pictures(1)
    assert segmenter.maps(segmenter.inputs(images, masks)).isfinite().all()


def test_a_module_by_factory_loads_from_file_and_folder(family):
    found = family("plain")
    for path in (found.base, found.base / "model.safetensors"):
        module = load_segmenter(path, factory=FACTORY).module
        expected = load_file(found.base / "model.safetensors")
        assert all(torch.equal(t, expected[n]) for n, t in module.state_dict().items())


def copied(folder: Path, target: Path, **config) -> Path:
    shutil.copytree(folder, target)
    if config:
        file = target / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return target


def message(path: Path, **settings) -> str:
    with pytest.raises(QDMergeError) as caught:
        load_segmenter(path, **settings)
    assert isinstance(caught.value, (CheckpointError, ConfigError))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_wrong_folders_are_told_in_a_line(family, tmp_path):
    base = family("unet").base
    assert "no such file or folder" in message(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no config.json here" in message(tmp_path / "empty")
    assert "set factory" in message(base / "model.safetensors")
    bad = copied(base, tmp_path / "bad")
    (bad / "config.json").write_text("{")
    assert "not valid JSON" in message(bad)
    (bad / "config.json").write_text("{}")
    assert "names no model_type" in message(bad)
    no_weights = copied(base, tmp_path / "no_weights")
    (no_weights / "model.safetensors").unlink()
    assert "no file named model.safetensors" in message(no_weights)
    torn = copied(base, tmp_path / "torn")
    file = torn / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "cannot load the model" in message(torn)


def test_unknown_kinds_are_told_with_the_nearest(family, tmp_path):
    told = message(copied(family("unet").base, tmp_path / "a", model_type="segforme", auto_map={}))
    assert "'segforme'" in told
    assert "did you mean 'segformer'" in told
    assert "sam" in told


def test_weights_of_another_architecture_are_refused(family, tmp_path):
    wide = copied(family("unet").base, tmp_path / "wide", widths=[8, 32])
    assert "cannot load the model" in message(wide)
    less = copied(family("unet").base, tmp_path / "less")
    tensors = load_file(less / "model.safetensors")
    del tensors["head.weight"]
    save_file(tensors, less / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 tensors" in message(less)
    assert "head.weight" in message(less)


def test_code_of_a_checkpoint_runs_only_when_trusted(family, tmp_path, monkeypatch):
    folder = copied(family("unet").base, tmp_path / "own", model_type="own-unet")
    file = folder / "modeling_unet.py"
    file.write_text(file.read_text().replace('"groupnorm-unet"', '"own-unet"'))
    assert "trust_remote_code: true" in message(folder)
    modules = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
    monkeypatch.syspath_prepend(modules)
    segmenter = load_segmenter(folder, trust_remote_code=True)
    assert segmenter.module.config.model_type == "own-unet"
    assert type(segmenter.module).__module__.startswith("transformers_modules.")


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("plain", "not module:callable"),
        (f"{__name__}:plane", "has no 'plane'"),
        (f"{__name__}:no_module", "returns a int, not a torch.nn.Module"),
        (f"{__name__}:broken", "no such GPU"),
        (f"{__package__}.conftest:unet", "does not fit the module"),
        ("no.such.module:f", "cannot import"),
    ],
)
def test_wrong_factories_are_told_in_a_line(family, factory, says):
    assert says in message(family("plain").base, factory=factory)


def test_wrong_weights_of_a_factory_are_told_in_a_line(family, tmp_path):
    (tmp_path / "none").mkdir()
    assert "no safetensors file here" in message(tmp_path / "none", factory=FACTORY)
    (tmp_path / "text.safetensors").write_text("no weights at all")
    assert "cannot be read" in message(tmp_path / "text.safetensors", factory=FACTORY)


def test_prompts_belong_to_segment_anything(family):
    sam, unet = family("sam").base, family("unet").base
    for policy in ("box", "point", "none"):
        assert model_problems(sam, None, policy) == []
        assert policy in message(sam)
    assert "knows no prompt 'bocks'" in message(sam, prompt="bocks")
    assert "a 'groupnorm-unet' model takes no prompt" in message(unet, prompt="box")
    assert "module by factory takes no prompt" in message(unet, factory=FACTORY, prompt="box")
    assert "takes 64 only" in message(sam, prompt="box", image_size=128)


def test_problems_show_without_torch(family, tmp_path):
    (tmp_path / "empty").mkdir()
    asked = [
        (family("unet").base, None, None),
        (family("sam").base, None, None),
        (family("unet").base, None, "box"),
        (tmp_path / "empty", None, None),
        (tmp_path / "empty", FACTORY, None),
    ]
    code = (
        "import sys, json; from pathlib import Path;"
        "from qdmerge_segmentation.models import model_problems;"
        "print(json.dumps([model_problems(Path(p), f, q) for p, f, q in json.loads(sys.argv[1])]));"
        "assert not {'torch', 'transformers', 'scipy'} & set(sys.modules)"
    )
    asked_json = json.dumps([(str(path), factory, prompt) for path, factory, prompt in asked])
    done = subprocess.run([sys.executable, "-c", code, asked_json], capture_output=True, text=True)
    assert not done.stderr
    problems = json.loads(done.stdout)
    assert [len(found) for found in problems] == [0, 1, 1, 1, 0]
    assert problems == [model_problems(*one) for one in asked]


def test_every_public_name_can_be_loaded():
    for name in models.__all__:
        assert getattr(models, name) is not None
    with pytest.raises(AttributeError, match="attribute predicts"):
        _ = models.predicts


def test_labels_become_log_odds(family):
    segmenter = load_segmenter(family("segformer").base, image_size=64)
    images, masks = pictures(2)
    inputs = segmenter.inputs(images, masks)
    with torch.no_grad():
        shares = segmenter.maps(inputs).double().softmax(dim=1)
        for labels in ([2], [0, 2], [1, 0]):
            share = shares[:, labels].sum(1)
            expected = (share / (1 - share)).log()
            assert torch.allclose(segmenter.logits(inputs, labels).double(), expected, atol=1e-4)
        for labels, says in [
            (None, "has 3 labels; set labels"),
            ([3], "are 0 to 2"),
            ([-1], "are 0 to 2"),
            ([], "are 0 to 2"),
            ([0, 1, 2], "none is background"),
        ]:
            with pytest.raises(ConfigError, match=says):
                segmenter.logits(inputs, labels)


def test_one_label_is_log_odds_and_of_two_the_second_is_foreground(family):
    images, masks = pictures(1)
    one = load_segmenter(family("unet").base)
    inputs = one.inputs(images, masks)
    assert torch.allclose(one.logits(inputs), one.maps(inputs)[:, 0], atol=1e-6)
    two = load_segmenter(family("plain").base, factory=FACTORY)
    maps = two.maps(inputs)
    assert torch.allclose(two.logits(inputs), maps[:, 1] - maps[:, 0])
    assert torch.allclose(two.logits(inputs, [0]), maps[:, 0] - maps[:, 1])


def test_a_module_has_to_return_maps(tmp_path):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1))
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    segmenter = load_segmenter(tmp_path, factory=f"{__name__}:flat")
    image = np.zeros((2, 2, 3), np.uint8)
    inputs = segmenter.inputs([image], [image[..., 0] > 0])
    with pytest.raises(ConfigError, match=r"returned a Tensor of shape \(1, 1\) for 1 images"):
        segmenter.logits(inputs)


def flat() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1))
