"""What models see of an image, compared with transformers' own processors."""

from __future__ import annotations

import inspect
import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from qdmerge.errors import ConfigError
from qdmerge_segmentation.models import load_segmenter, predict
from qdmerge_segmentation.models._check import model_problems
from qdmerge_segmentation.models._preprocessing import Preprocessing, resize
from qdmerge_segmentation.models._sam import box_around, point_inside
from tests.backends.segmentation.conftest import SAM_SIDE, pictures

GREY = 1 / 255 / 0.224  # one grey value after normalization


def processor(name: str, **options):
    """An image processor of transformers that needs no torchvision, in any version."""
    pil = getattr(transformers, f"{name}Pil", None)
    if pil is None:
        module = inspect.getmodule(getattr(transformers, name.replace("ImageProcessor", "Config")))
        path = module.__name__.replace("configuration_", "image_processing_pil_")
        try:
            pil = getattr(__import__(path, fromlist=[""]), f"{name}Pil")
        except ImportError:
            pil = getattr(transformers, name)
    return pil(**options)


def test_semantic_inputs_are_those_of_transformers(family, tmp_path):
    theirs = processor("SegformerImageProcessor", size={"height": 48, "width": 32})
    folder = shutil.copytree(family("segformer").base, tmp_path / "model")
    theirs.save_pretrained(folder)
    segmenter = load_segmenter(folder)
    images, masks = pictures(3, (70, 50))
    inputs = segmenter.inputs(images, masks)
    expected = theirs(images, return_tensors="pt")["pixel_values"]
    found = segmenter._preprocessing.normalize(inputs["pixel_values"], torch.float32)
    assert found.shape == (3, 3, 48, 32)
    assert (found - expected).abs().max() < 1.1 * GREY
    with torch.no_grad():
        ours = segmenter.maps(inputs)
        assert torch.allclose(ours, segmenter.module(expected).logits, atol=0.05 * ours.std())


@pytest.mark.parametrize(
    "settings",
    [
        {"do_normalize": False},
        {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]},
        {"rescale_factor": 1 / 127.5},
        {"do_flip_channel_order": True, "do_normalize": False},
    ],
)
def test_normalization_is_what_the_folder_says(tmp_path, settings):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    (image,), _ = pictures(1)
    found = Preprocessing.read(tmp_path).normalize(resize(image, image.shape[:2]), torch.float32)
    scaled = image * settings.get("rescale_factor", 1 / 255)
    if settings.get("do_flip_channel_order"):
        scaled = scaled[..., ::-1]
    if settings.get("do_normalize", True):
        mean = settings.get("image_mean", [0.485, 0.456, 0.406])
        scaled = (scaled - mean) / settings.get("image_std", [0.229, 0.224, 0.225])
    assert np.allclose(found[0].permute(1, 2, 0), scaled, atol=1e-5)


@pytest.mark.parametrize("size", [(20, 33), (64, 64), (100, 200)])
def test_images_are_resized_as_pillow_does(size):
    (image,), _ = pictures(1, (70, 50))
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    found = resize(image, size)[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ({"size": {"height": 30, "width": 40}}, (30, 40)),
        ({"size": {"shortest_edge": 30}}, (30, 30)),
        ({"size": 24}, (24, 24)),
        ({"size": 24, "do_resize": False}, None),
        ({}, None),
    ],
)
def test_the_size_is_what_the_folder_says(tmp_path, written, size):
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": written}))
    assert Preprocessing.read(tmp_path).size == size


def test_the_size_comes_from_settings_then_preprocessor_then_config(family, tmp_path):
    folder = shutil.copytree(family("unet").base, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())

    def side(image_size=None):
        pixels = load_segmenter(folder, image_size=image_size).inputs(*pictures(1))["pixel_values"]
        return pixels.shape[-1]

    assert side() == 64  # the images' own
    (folder / "config.json").write_text(json.dumps({**config, "image_size": 48}))
    assert side() == 48
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 32}))
    assert side() == 32
    assert side(16) == 16
    (folder / "preprocessor_config.json").write_text("[]")
    with pytest.raises(ConfigError, match="expected a JSON object"):
        side()


@pytest.mark.parametrize(
    "odd",
    [
        {"size": {"height": "x", "width": 8}},
        {"size": {"height": None, "width": None}},
        {"size": 0},
        {"size": [10**400, 1]},
        {"image_mean": 3},
        {"image_mean": [0.5, 0.5]},
        {"image_std": [0.0, 1.0, 1.0]},
        {"rescale_factor": float("nan")},
        {"do_resize": []},
    ],
    ids=str,
)
def test_impossible_preprocessing_is_found_before_weights_are_loaded(odd, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "unet"}')
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(odd))
    (line,) = model_problems(tmp_path, None, None)
    assert line.startswith(f"{tmp_path / 'preprocessor_config.json'}: '{next(iter(odd))}")


def test_images_of_several_sizes_need_one_to_be_resized_to(family):
    segmenter = load_segmenter(family("unet").base)
    images = [*pictures(1)[0], *pictures(1, (32, 48))[0]]
    with pytest.raises(ConfigError, match=r"48x32, 64x64, ...\).*set image_size"):
        segmenter.inputs(images, images)


# Segment Anything


def sam_processor():
    side = {"height": SAM_SIDE, "width": SAM_SIDE}
    return processor("SamImageProcessor", size={"longest_edge": SAM_SIDE}, pad_size=side)


@pytest.mark.parametrize("size", [(40, 70), (90, 33), (50, 50), (64, 64), (300, 200)])
@pytest.mark.parametrize("prompt", ["box", "point"])
def test_segment_anything_sees_what_its_processor_makes(family, prompt, size):
    images, masks = pictures(2, size)
    segmenter = load_segmenter(family("sam").base, prompt=prompt)
    inputs = segmenter.inputs(images, masks)
    asked = (
        {"input_boxes": [[list(map(float, box_around(mask)))] for mask in masks]}
        if prompt == "box"
        else {
            "input_points": [[list(map(float, point_inside(mask)))] for mask in masks],
            "input_labels": [[1] for _ in masks],
        }
    )
    theirs = sam_processor()
    expected = dict(transformers.SamProcessor(theirs)(images, **asked, return_tensors="pt"))
    assert torch.equal(inputs["frame"], expected["reshaped_input_sizes"])
    for key in asked:
        assert inputs[key].shape == expected[key].shape
        assert torch.allclose(inputs[key].double(), expected[key].double(), atol=1e-4)

    seen = {}
    hook = segmenter.module.register_forward_pre_hook(
        lambda _module, _args, given: seen.update(given), with_kwargs=True
    )
    with torch.no_grad():
        logits = segmenter.logits(inputs)
        hook.remove()
        assert (seen["pixel_values"] - expected["pixel_values"]).abs().max() < 1.1 * GREY
        masks_of = segmenter.module(**seen).pred_masks
    if size[0] == size[1]:
        finished = theirs.post_process_masks(
            masks_of, [size] * 2, inputs["frame"].tolist(), binarize=False
        )
        ours = interpolate(logits[:, None], size, mode="bilinear")
        assert torch.allclose(ours, torch.cat(finished), atol=1e-4)


def test_padding_is_cut_off_as_the_processor_does(family):
    """On smooth maps, where the order of two interpolations hardly matters."""
    segmenter = load_segmenter(family("sam").base, prompt="none")
    generator = torch.Generator().manual_seed(0)
    rough = torch.randn(3, 1, 8, 8, generator=generator)
    low = interpolate(rough, (32, 32), mode="bicubic")
    sizes = [(40, 70), (90, 30), (200, 200)]
    frames = torch.tensor([segmenter._frame(*size) for size in sizes])
    ours = segmenter._without_padding(low, frames.float())
    theirs = sam_processor().post_process_masks(
        low[:, None], sizes, frames.tolist(), binarize=False
    )
    for one, expected, size in zip(ours, theirs, sizes, strict=True):
        found = interpolate(one[None], size, mode="bilinear")
        assert (found - expected).abs().mean() < 0.02 * low.std()
        assert (found > 0).eq(expected > 0).float().mean() > 0.98


def test_without_a_prompt_only_the_no_mask_embedding_speaks(family):
    segmenter = load_segmenter(family("sam").base, prompt="none")
    images, masks = pictures(2)
    inputs = segmenter.inputs(images, masks)
    assert set(inputs) == {"pixel_values", "frame"}
    encoder = segmenter.module.prompt_encoder

    def logits():
        with torch.no_grad():
            return segmenter.logits(inputs)

    before = logits()
    with torch.no_grad():
        for part in (encoder.not_a_point_embed, *encoder.point_embed):
            part.weight.add_(1)
    assert torch.allclose(logits(), before, atol=1e-6)
    with torch.no_grad():
        encoder.no_mask_embed.weight.add_(torch.linspace(-1, 1, 16))
    assert not torch.allclose(logits(), before)


def test_prompts_change_what_is_segmented(family):
    images, masks = pictures(1)
    moved = [np.roll(mask, 20, axis=1) for mask in masks]
    for prompt, depends in {"box": True, "point": True, "none": False}.items():
        segmenter = load_segmenter(family("sam").base, prompt=prompt)
        with torch.no_grad():
            one, other = (segmenter.logits(segmenter.inputs(images, m)) for m in (masks, moved))
        assert torch.allclose(one, other, atol=1e-6) != depends


def test_images_of_several_shapes_go_together(family):
    segmenter = load_segmenter(family("sam").base, prompt="point")
    parts = [pictures(1, size) for size in ((40, 70), (64, 30), (64, 64))]
    images, masks = ([part[i][0] for part in parts] for i in (0, 1))
    sizes = [mask.shape for mask in masks]
    together = predict(segmenter, segmenter.inputs(images, masks), sizes, 3)
    for image, mask, found in zip(images, masks, together, strict=True):
        alone = predict(segmenter, segmenter.inputs([image], [mask]), [mask.shape], 1)
        assert (alone[0] == found).mean() > 0.99


def test_the_frequencies_of_the_positional_encoding_are_not_trained(family):
    module = load_segmenter(family("sam").base, prompt="none").module
    assert not module.shared_image_embedding.positional_embedding.requires_grad
    assert not module.prompt_encoder.shared_embedding.positional_embedding.requires_grad
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    assert len(trained) > 100


masks_of_any_kind = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda size: st.lists(
        st.booleans(), min_size=size[0] * size[1], max_size=size[0] * size[1]
    ).map(lambda values: np.array(values).reshape(size))
)


@given(masks_of_any_kind)
def test_a_box_is_the_smallest_that_holds_the_region(mask):
    x0, y0, x1, y1 = box_around(mask)
    inside = mask[y0 : y1 + 1, x0 : x1 + 1]
    if not mask.any():
        assert (x0, y0, x1, y1) == (0, 0, mask.shape[1] - 1, mask.shape[0] - 1)
        return
    assert inside.sum() == mask.sum()
    assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


@given(masks_of_any_kind)
def test_a_point_is_as_deep_inside_the_region_as_any(mask):
    x, y = point_inside(mask)
    if not mask.any():
        assert (x, y) == (mask.shape[1] // 2, mask.shape[0] // 2)
        return
    outside = np.argwhere(~np.pad(mask, 1)) - 1

    def depth(row, column):
        return np.hypot(*(outside - (row, column)).T).min()

    assert mask[y, x]
    assert depth(y, x) == pytest.approx(max(depth(*pixel) for pixel in np.argwhere(mask)))
