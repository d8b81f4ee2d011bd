"""Trained models in their formats: what changes, what stays, what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from qdmerge.checkpoints import TaskVectors, checkpoint_problems
from qdmerge.errors import ConfigError, RunError
from qdmerge.spaces import ExpertSpace
from qdmerge_segmentation.models import load_segmenter
from qdmerge_segmentation.training import _trainer
from tests.backends.segmentation.conftest import KINDS, SAM_SIDE, Family, pictures
from tests.backends.segmentation.training.conftest import MakeConfig, ignore, make, of_kind


def test_training_learns(config: MakeConfig, start: str, tmp_path: Path) -> None:
    rate = {"rate": 1e-2, "batch_size": 8}
    settings = config(steps=60, training={"start": start, "base": rate})
    make("base", settings, ignore)
    record = yaml.safe_load((tmp_path / "models/base/training.yaml").read_text())
    first, last = record["curve"][0], record["curve"][-1]
    assert (first["step"], first["loss"], last["step"]) == (0, None, 60)
    assert len(record["curve"]) == 1 + 30
    assert all(last["validation"][task] > first["validation"][task] + 0.3 for task in "ab")
    assert last["loss"] < 0.7 * record["curve"][1]["loss"]


def test_a_loss_that_is_not_finite_ends_the_training(
    config: MakeConfig, start: str, tmp_path: Path
) -> None:
    settings = config(steps=9, training={"start": start, "base": {"rate": 1e30}})
    with pytest.raises(RunError, match=r"Training base failed: the loss is (nan|inf).*base\.rate"):
        make("base", settings, ignore)
    assert not (tmp_path / "models/base").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_trains_and_is_saved_as_its_base_is(
    kind: str, family: Callable[[str], Family], config: MakeConfig, tmp_path: Path
) -> None:
    base = family(kind)
    settings = config(**of_kind(kind, base))
    make("a", settings, ignore)
    expert = tmp_path / "models" / "a"
    assert not expert.with_name("a.training").exists()
    assert checkpoint_problems(base.base, {"a": expert}) == []
    options = {"image_size": settings.image_size, **base.load}
    before, after = (
        load_segmenter(path, **options).module.state_dict() for path in (base.base, expert)
    )
    assert all(tensor.isfinite().all() for tensor in after.values() if tensor.is_floating_point())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) > len(before) / 2
    assert not any("positional_embedding" in name for name in changed)
    if kind in ("plain", "unet-batch", "segformer"):  # statistics follow the training images
        assert any("running_mean" in name for name in changed)
    space = ExpertSpace(TaskVectors(base.base, {"a": expert}))
    merged = space.export(space.seeds["a"], tmp_path / "merged")
    assert not list(merged.glob("training*"))


def test_a_new_unet_loads_with_the_preprocessing_it_was_trained_with(
    config: MakeConfig, tmp_path: Path
) -> None:
    make("base", config(), ignore)
    folder = tmp_path / "models" / "base"
    images, masks = pictures(3, (50, 40))
    trained = load_segmenter(folder, image_size=32).inputs(images, masks)
    alone = load_segmenter(folder, image_size=None).inputs(images, masks)
    assert trained["pixel_values"].shape == (3, 3, 32, 32)
    assert torch.equal(trained["pixel_values"], alone["pixel_values"])
    assert (folder / "modeling_unet.py").is_file()
    assert json.loads((folder / "config.json").read_text())["model_type"]


def test_the_image_processor_and_code_of_the_start_are_kept(
    config: MakeConfig, start: str, tmp_path: Path
) -> None:
    processor = {"image_processor": {"image_mean": [0.5] * 3, "size": {"shortest_edge": 99}}}
    (Path(start) / "processor_config.json").write_text(json.dumps(processor))
    (Path(start) / "more.py").write_text("")
    make("base", config(training={"start": start}), ignore)
    base = tmp_path / "models" / "base"
    kept = json.loads((base / "processor_config.json").read_text())["image_processor"]
    assert (kept["image_mean"], kept["size"]) == ([0.5] * 3, {"height": 32, "width": 32})
    assert (base / "more.py").is_file()


def test_a_module_by_factory_is_saved_as_the_file_that_is_named(
    family: Callable[[str], Family], config: MakeConfig, tmp_path: Path
) -> None:
    plain = family("plain")
    start = plain.base / "model.safetensors"
    target = tmp_path / "out" / "base.safetensors"
    make("base", config(target, training={"start": str(start)}, **plain.load), ignore)
    assert sorted(path.name for path in target.parent.iterdir()) == [
        "base.safetensors",
        "base.training.yaml",
    ]
    assert load_file(target).keys() == load_file(start).keys()
    assert not torch.equal(load_file(target)["0.weight"], load_file(start)["0.weight"])


def test_only_the_chosen_parameters_change(
    family: Callable[[str], Family], config: MakeConfig, tmp_path: Path
) -> None:
    segformer = family("segformer")
    only = {"experts": {"only": ["decode_head.classifier", "decode_head.linear_fuse"]}}
    make("a", config(training=only, **of_kind("segformer", segformer)), ignore)
    before = load_file(segformer.base / "model.safetensors")
    after = load_file(tmp_path / "models" / "a" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    # The statistics of the frozen BatchNorm stay, too.
    assert changed == {
        "decode_head.classifier.weight",
        "decode_head.classifier.bias",
        "decode_head.linear_fuse.weight",
    }


@pytest.mark.parametrize("stage", ["base", "experts"])
def test_a_choice_that_fits_no_parameter_is_found_before_the_base_is_trained(
    stage: str, config: MakeConfig, start: str, tmp_path: Path
) -> None:
    settings = config(training={"start": start, stage: {"only": ["haed"]}})
    with pytest.raises(ConfigError) as caught:
        make("base", settings, ignore)
    assert str(caught.value) == (
        f"training.{stage}.only: no parameter's name begins with 'haed'; did you mean 'head'? "
        "They begin with down, head, up."
    )
    assert not (tmp_path / "models/base").exists()


@pytest.mark.parametrize("prompt", ["box", "point"])
def test_prompts_follow_the_turned_mask(
    prompt: str,
    family: Callable[[str], Family],
    config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    sam = family("sam")
    settings = config(**{**of_kind("sam", sam), "prompt": prompt})
    segmenter = load_segmenter(sam.base, prompt=prompt)
    seen: list[dict[str, torch.Tensor]] = []
    truths: list[torch.Tensor] = []
    maps, loss = segmenter.maps, _trainer.segmentation_loss

    def spied_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        truths.append(truth)
        return loss(logits, truth)

    monkeypatch.setattr(segmenter, "maps", lambda inputs: (seen.append(inputs), maps(inputs))[1])
    monkeypatch.setattr(_trainer, "segmentation_loss", spied_loss)
    plan = settings.training_plan()
    images = {
        task: {split: settings.images(task, split) for split in ("train", "validation")}
        for task in plan.tasks
    }
    training = _trainer.Training(plan.models["a"], plan, segmenter, images, tmp_path)
    for step in range(3):
        training.step(step)
    for inputs, truth in zip(seen, truths, strict=True):
        for row, mask in enumerate(truth):
            if tuple(inputs["frame"][row]) != (SAM_SIDE, SAM_SIDE):
                continue  # the truth fills the square, the prompt's pixels do not
            y, x = mask.nonzero().T
            if prompt == "box":
                box = inputs["input_boxes"][row, 0]
                expected = torch.stack([x.min(), y.min(), x.max(), y.max()])
                assert (box - expected).abs().max() <= 2
            else:
                px, py = inputs["input_points"][row, 0, 0].round().long().tolist()
                assert mask[py, px] == 1
