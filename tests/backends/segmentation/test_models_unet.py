"""The U-Net as a model of transformers, with and without qdmerge installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation

from qdmerge_segmentation.models import UNetConfig, UNetForSemanticSegmentation, load_segmenter


def model(**options) -> UNetForSemanticSegmentation:
    torch.manual_seed(0)
    return UNetForSemanticSegmentation(UNetConfig(**options)).eval()


def test_the_default_has_the_size_that_was_measured():
    assert model().num_parameters() == 207_492


@pytest.mark.parametrize("size", [(64, 64), (50, 71), (16, 16), (1, 3)])
def test_logits_have_the_images_size(size):
    images = torch.randn(2, 3, *size)
    assert model(num_labels=3)(images).logits.shape == (2, 3, *size)


def test_padding_changes_nothing_where_none_is_needed_and_little_elsewhere():
    net, images = model(), torch.randn(1, 3, 64, 64).cumsum(-1).cumsum(-2) / 64
    whole, part = net(images).logits, net(images[..., :63, :]).logits
    assert (whole[..., :32, :] - part[..., :32, :]).abs().max() < 0.5 * whole.std()


def test_saved_without_qdmerge_it_is_the_same_model(tmp_path: Path):
    """transformers alone loads the folder: the code travels with the weights.

    Weights are equal to the bit. Logits are not always: where a tensor lies in memory decides
    which kernel runs.
    """
    for name, options in {"group": {}, "batch": {"norm": "batch", "num_labels": 2}}.items():
        net = model(widths=(8, 16), groups=4, **options)
        net.save_pretrained(tmp_path / name)
        images = torch.randn(2, 3, 20, 36)
        torch.save((images, net(images).logits, net.state_dict()), tmp_path / f"{name}.pt")
    code = """
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0].startswith("qdmerge"):
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, Blocker())
        import torch
        from transformers import AutoModelForSemanticSegmentation

        for name in ("group", "batch"):
            net = AutoModelForSemanticSegmentation.from_pretrained(
                name, trust_remote_code=True, use_safetensors=True, local_files_only=True
            )
            images, expected, weights = torch.load(f"{name}.pt")
            loaded = net.state_dict()
            assert loaded.keys() == weights.keys()
            assert all(torch.equal(loaded[key], weights[key]) for key in weights)
            torch.testing.assert_close(net(images).logits, expected, rtol=1e-4, atol=1e-5)
            net.save_pretrained(f"{name}-again")
        print("same")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "same", done.stderr
    assert (tmp_path / "group-again" / "modeling_unet.py").is_file()


def test_within_qdmerge_no_code_of_the_checkpoint_runs(tmp_path: Path):
    net = model(widths=(8, 16), groups=4)
    net.save_pretrained(tmp_path / "net")
    (tmp_path / "net" / "modeling_unet.py").write_text("raise SystemExit('this code has run')")
    loaded = load_segmenter(tmp_path / "net", trust_remote_code=True).module
    assert isinstance(loaded, UNetForSemanticSegmentation)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded(images).logits, net(images).logits, rtol=1e-4, atol=1e-5)
    assert AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "net")


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_the_number_of_labels_is_saved(tmp_path: Path, labels: int):
    UNetConfig(num_labels=labels).save_pretrained(tmp_path)
    assert UNetConfig.from_pretrained(tmp_path).num_labels == labels


def test_a_saved_model_has_a_name_and_its_code(tmp_path: Path):
    model(widths=(8, 16)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "groupnorm-unet"
    assert config["auto_map"]["AutoModelForSemanticSegmentation"].startswith("modeling_unet.")


@pytest.mark.parametrize("options", [{"norm": "layer"}, {"groups": 7}, {"widths": ()}])
def test_impossible_architectures_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        UNetConfig(**options)


def test_it_learns():
    """Initial weights are such that gradient steps find an easy region soon."""
    net = model(widths=(8, 16), groups=4).train()
    images = torch.randn(8, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    truth = (images.mean(1, keepdim=True) > 0).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(images).logits, truth)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3
