"""Experts' soft masks of unlabeled images, and the gradient that they give."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers.modeling_layers import GradientCheckpointingLayer
from typer.testing import CliRunner

from qdmerge.backend import SPLITS, Task
from qdmerge.cli import app
from qdmerge.errors import ConfigError, EvaluationError, UnsupportedError
from qdmerge.guide import Climb
from qdmerge.settings import parse_config
from qdmerge.spaces import CoreSpace, ExpertSpace
from qdmerge_segmentation.backend import SegmentationBackend, SegmentationTask
from qdmerge_segmentation.data import ImageSet
from qdmerge_segmentation.guide_config import GuideConfig
from qdmerge_segmentation.metrics import dice
from qdmerge_zoo.segmentation import TASKS
from tests.backends.segmentation.conftest import pictures
from tests.trained import segmentation_zoo

LABELS = {"segformer": (1, 2)}


def image_set(seed: int, count: int = 4) -> ImageSet:
    images, masks = pictures(count, seed=seed)
    return ImageSet(tuple(f"{n}.png" for n in range(count)), tuple(images), tuple(masks))


def backend_of(
    family: Any,
    kind: str = "unet",
    guide: GuideConfig | None = None,
    training: dict[str, ImageSet] | None = None,
    **options: Any,
) -> SegmentationBackend:
    """A backend of random models whose tasks "a" and "b" are to do what the experts do."""
    found = family(kind)
    experts = options.pop("experts", found.experts)
    training = training or {"a": image_set(1), "b": image_set(2)}
    tasks = [
        SegmentationTask(
            Task(name),
            dice,
            {split: image_set(10 * n + k) for k, split in enumerate(SPLITS)},
            LABELS.get(kind),
        )
        for n, name in enumerate(training, 1)
    ]
    return SegmentationBackend.load(
        {"base": found.base, **experts},
        tasks,
        {name: lambda limit, i=images: first_of(i, limit) for name, images in training.items()},
        options.pop("space", ExpertSpace),
        guide=guide,
        device="cpu",
        **{"image_size": 64, **found.load, **options},
    )


def first_of(images: ImageSet, limit: int) -> ImageSet:
    return ImageSet(images.names[:limit], images.images[:limit], images.masks[:limit])


def every(backend: SegmentationBackend) -> dict[str, np.ndarray]:
    return {task: np.arange(count) for task, count in backend.guide.sizes.items()}


HALVES = {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize("kind", ["unet", "segformer", "sam", "unet-batch", "plain"])
def test_at_an_expert_its_loss_and_gradient_are_zero(family: Any, kind: str) -> None:
    backend = backend_of(family, kind)
    rows = every(backend)
    for expert, other in (("a", "b"), ("b", "a")):
        x = backend.space.seeds[expert]
        losses, gradient = backend.guide.gradient(x, rows, {expert: 1.0, other: 0.0})
        _, apart = backend.guide.gradient(x, rows, {expert: 0.0, other: 1.0})
        assert abs(losses[expert]) < 1e-4 < losses[other]
        assert np.abs(gradient).max() < 1e-2 * np.abs(apart).max()


def test_the_loss_is_the_divergence_from_the_expert_plus_the_dice_of_soft_masks(
    family: Any,
) -> None:
    backend = backend_of(family, training={"a": image_set(1), "b": image_set(2)})
    x = np.array([0.4, 0.7], np.float32)
    chosen = np.array([3, 1])
    losses, _ = backend.guide.gradient(x, {"b": chosen}, {"b": 1.0})

    def soft(solution: np.ndarray) -> np.ndarray:
        backend.express(solution)
        images = image_set(2)
        with torch.no_grad():
            inputs = backend.segmenter.inputs(images.images, images.masks)
            return backend.segmenter.logits(inputs).double().sigmoid().numpy()[chosen]

    p, q = soft(backend.space.seeds["b"]), soft(x)
    divergence = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(axis=(1, 2))
    apart = ((p - q) ** 2).sum(axis=(1, 2)) / ((p**2 + q**2).sum(axis=(1, 2)) + 1)
    assert losses["b"] == pytest.approx((divergence + apart).mean(), rel=1e-3)


def test_entropy_is_that_of_the_model_s_own_pixels(family: Any) -> None:
    backend = backend_of(family, "unet")
    guide, x, chosen = backend.guide, np.array([0.4, 0.7], np.float32), np.array([3, 1])
    backend.express(x)
    images = image_set(2)
    with torch.no_grad():
        inputs = backend.segmenter.inputs(images.images, images.masks)
        p = backend.segmenter.logits(inputs).double().sigmoid()[chosen]

    def loss(at: np.ndarray) -> float:
        return guide.gradient(at.astype(np.float32), {"b": chosen}, {"b": 1.0}, "entropy")[0]["b"]

    expected = float(torch.distributions.Bernoulli(p).entropy().mean())
    assert loss(x) == pytest.approx(expected, rel=1e-4)
    _, gradient = guide.gradient(x, {"b": chosen}, {"b": 1.0}, "entropy")
    step = 3e-3
    slopes = [(loss(x + step * e) - loss(x - step * e)) / (2 * step) for e in np.eye(2)]
    np.testing.assert_allclose(gradient, slopes, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("kind", ["unet", "sam"])
def test_the_gradient_is_that_of_finite_differences(family: Any, kind: str) -> None:
    guide = backend_of(family, kind).guide
    rows = {"a": np.array([0, 2]), "b": np.array([1, 3])}
    x, step = np.array([0.3, 0.5], np.float32), 3e-3

    def loss(at: np.ndarray) -> float:
        losses, _ = guide.gradient(at.astype(np.float32), rows, {"a": 0.0, "b": 0.0})
        return 0.3 * losses["a"] + 0.7 * losses["b"]

    _, gradient = guide.gradient(x, rows, {"a": 0.3, "b": 0.7})
    slopes = [(loss(x + step * e) - loss(x - step * e)) / (2 * step) for e in np.eye(2)]
    np.testing.assert_allclose(gradient, slopes, rtol=0.02, atol=1e-4)


def test_masks_are_recorded_once_for_experts_and_images(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path / "cache"))
    rows = {"a": np.array([0]), "b": np.array([0])}
    first = backend_of(family)
    assert not (tmp_path / "cache" / "guide").exists()
    wanted = first.guide.gradient(first.space.x0, rows, HALVES)
    (entry,) = (tmp_path / "cache" / "guide").glob("*/masks.safetensors")

    again = backend_of(family)
    monkeypatch.setattr(type(again.guide), "_record", None)
    losses, gradient = again.guide.gradient(again.space.x0, rows, HALVES)
    assert losses == wanted[0]
    np.testing.assert_array_equal(gradient, wanted[1])

    experts = family("unet").experts
    keys = {entry.parent.name, first.guide.key(), again.guide.key()}
    assert len(keys) == 1
    for other in (
        backend_of(family, guide=GuideConfig(examples=3)),
        backend_of(family, training={"a": image_set(1), "b": image_set(5)}),
        backend_of(family, image_size=32),
        backend_of(family, "unet-batch"),
        backend_of(family, experts={"a": experts["b"], "b": experts["a"]}),
    ):
        keys.add(other.guide.key())
    assert len(keys) == 6


def test_evaluations_do_not_depend_on_the_guide(family: Any) -> None:
    backend = backend_of(family, "unet-batch")
    xs = np.array([[0.4, 0.6]], np.float32)
    before = backend.evaluate(xs, "test")
    backend.guide.gradient(backend.space.seeds["a"], every(backend), HALVES)
    after = backend.evaluate(xs, "test")
    np.testing.assert_array_equal(before.items[0]["a"], after.items[0]["a"])
    module = backend.segmenter.module
    assert not module.training
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())


def test_batch_norm_has_the_statistics_of_evaluations(family: Any) -> None:
    backend = backend_of(family, "unet-batch")
    x = np.array([0.4, 0.6], np.float32)
    backend.guide.gradient(x, every(backend), HALVES)
    guided = {k: v.clone() for k, v in backend.segmenter.module.state_dict().items()}
    backend.express(backend.space.x0)
    backend.express(x)
    for name, tensor in backend.segmenter.module.state_dict().items():
        assert torch.equal(tensor, guided[name]), name


@pytest.mark.parametrize("kind", ["segformer", "sam"])
def test_layers_computed_again_give_the_same_gradient(family: Any, kind: str) -> None:
    usual, less = (
        backend_of(family, kind),
        backend_of(family, kind, GuideConfig(checkpointing=True)),
    )
    x, rows, runs = np.array([0.4, 0.6], np.float32), every(usual), [0, 0]
    wanted = usual.guide.gradient(x, rows, HALVES)
    for number, backend in enumerate((usual, less)):
        module = backend.segmenter.module
        layer = next(m for m in module.modules() if isinstance(m, GradientCheckpointingLayer))
        part = next(m for m in layer.modules() if isinstance(m, torch.nn.LayerNorm))
        part.register_forward_hook(lambda *_, n=number: runs.__setitem__(n, runs[n] + 1))
        losses, gradient = backend.guide.gradient(x, rows, HALVES)
        assert losses == wanted[0]
        np.testing.assert_allclose(gradient, wanted[1], rtol=1e-5, atol=1e-7)
        assert not any(m.training for m in module.modules())
    assert runs[1] > runs[0]
    with pytest.raises(UnsupportedError, match=r"guide.checkpointing: .* has no layers"):
        backend_of(family, "unet", GuideConfig(checkpointing=True))


def test_images_that_models_are_scored_on_are_refused(family: Any) -> None:
    tested = image_set(12)  # task "a"'s test images
    training = {"a": image_set(1), "b": tested}
    guide = backend_of(family, training=training).guide
    with pytest.raises(ConfigError, match=r"'b': 4 of the 4 images .* the test split of task 'a'"):
        guide.prepare()


def test_an_expert_that_finds_nothing_is_named(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path / "cache"))
    backend = backend_of(family, "plain", training={"a": image_set(1), "b": image_set(2)})
    backend.segmenter.logits = lambda inputs, labels: -torch.ones(len(inputs["pixel_values"]), 4, 4)
    with pytest.raises(EvaluationError, match="expert 'a': its masks of all 4 unlabeled images"):
        backend.guide.prepare()


def test_without_an_expert_for_every_task_there_is_no_guide(family: Any) -> None:
    assert backend_of(family, training={"a": image_set(1), "c": image_set(2)}).guide is None


# --- trained models, from settings -----------------------------------------------------------


@pytest.fixture
def settings() -> dict[str, Any]:
    folder, tasks = segmentation_zoo(), TASKS[:2]
    return {
        "name": "segmentation",
        "base": str(folder / "base"),
        "experts": {name: str(folder / name) for name in tasks},
        "tasks": {name: {"data": str(folder / "data" / name)} for name in tasks},
    }


def test_a_climb_brings_a_merge_nearer_to_what_experts_say(settings: dict[str, Any]) -> None:
    backend = parse_config({"backend": settings}).backend.build(partial(CoreSpace, rank=4))
    start = backend.space.merge([0.5, 0.5])
    rows, even = every(backend), dict.fromkeys(TASKS[:2], 0.5)
    x, passes = Climb((0.5, 0.5), steps=12, rate=0.1, batch=8)(backend.guide, backend.space, start)
    assert passes == 12
    before, after = (sum(backend.guide.gradient(at, rows, even)[0].values()) for at in (start, x))
    assert after < 0.9 * before
    agree = []
    for at in (start, x):
        ours = [backend.predictions(at, name, "test") for name in TASKS[:2]]
        theirs = [
            backend.predictions(backend.space.seeds[name], name, "test") for name in TASKS[:2]
        ]
        agree.append(np.mean([list(map(dice, *pair)) for pair in zip(ours, theirs, strict=True)]))
    assert agree[1] > agree[0]


def test_images_without_masks_are_taken_from_a_folder(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "unlabeled"
    folder.mkdir()
    for number, image in enumerate(image_set(3).images):
        Image.fromarray(image).save(folder / f"{number}.png")
    guide = {"examples": 3, "data": {TASKS[1]: str(folder)}}
    backend = parse_config({"backend": {**settings, "guide": guide}}).backend.build(ExpertSpace)
    assert list(backend.guide.sizes.values()) == [3, 3]
    losses, _ = backend.guide.gradient(backend.space.x0, {TASKS[1]: np.arange(3)}, {TASKS[1]: 1.0})
    assert losses[TASKS[1]] >= 0


def test_mistakes_of_settings_are_told_by_check(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    guide = {"data": {"no-such": str(tmp_path / "missing"), TASKS[0]: str(tmp_path / "empty")}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"backend": {**settings, "guide": guide}}))
    result = CliRunner().invoke(app, ["check", str(path)])
    output = " ".join(result.output.split())
    assert result.exit_code == 2
    for line in ("guide.data: unknown task 'no-such'", "guide.data: no folder", "no images (.png"):
        assert line in output
    found = GuideConfig(data={"a": str(tmp_path / "empty")}).problems(["a"], "box")
    assert any("comes from a mask" in line for line in found)
