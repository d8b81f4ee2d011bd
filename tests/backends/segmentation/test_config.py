"""Wrong inputs, as a user meets them: one line each, all at once, before a weight is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.errors import ConfigError
from qdmerge.settings import load_config


def write_pair(folder: Path, name: str, rng: np.random.Generator, size: int = 32) -> None:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    mask = np.zeros((size, size), np.uint8)
    mask[4:20, 6:22] = 255
    Image.fromarray(image).save(folder / "images" / name)
    Image.fromarray(mask).save(folder / "masks" / name)


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A configuration whose folders are right and whose models are the tiny ones."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(8):
        write_pair(tmp_path / "data", f"{number}.png", rng)
    models = ("camouflage", "leaf")
    data = {"data": "data"}
    config = {
        "backend": {
            "name": "segmentation",
            "base": "tiny://base",
            "experts": {name: f"tiny://{name}" for name in models},
            "tasks": {name: dict(data) for name in models},
        }
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def refusal(study: Path, *settings: str) -> str:
    """What `qdmerge check` says of a configuration that it refuses."""
    arguments = [part for setting in settings for part in ("--set", setting)]
    result = CliRunner().invoke(app, ["check", str(study), *arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


def test_a_right_configuration_is_accepted_without_loading_anything(study):
    result = CliRunner().invoke(app, ["check", str(study)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("backend.base=tiny://bass", "no 'tiny://bass'; did you mean 'base'?"),
        ("backend.tasks.leaf.data=tiny://data/leef", "did you mean 'data/leaf'?"),
        ("backend.tasks.leaf.data=dada", "no directory 'dada'; did you mean 'data'?"),
        ("backend.base=./models/base", "qdmerge experts"),
        ("backend.tasks.leaf.expert=leav", "unknown expert 'leav'; did you mean 'leaf'?"),
        ("backend.experts.base=tiny://leaf", "cannot be named 'base'"),
        ("backend.tasks.leaf.metric=dicer", "dice"),
        ("backend.fractions={train: 0.9}", "the fractions sum to"),
        ("backend.promt=box", "prompt"),
        ("backend.tasks.leaf.classes=[]", "at least 1"),
    ],
)
def test_wrong_settings_are_told_in_a_line(study, setting, says):
    assert says in refusal(study, setting)


def test_a_missing_mask_is_named(study):
    Path("data/masks/3.png").unlink()
    assert "3.png" in refusal(study)


def test_a_mask_of_another_size_is_named_with_both_sizes(study):
    Image.fromarray(np.zeros((16, 20), np.uint8)).save("data/masks/3.png")
    said = refusal(study)
    assert "3.png" in said
    assert "20 x 16" in said
    assert "32 x 32" in said


def test_an_unreadable_image_is_named(study):
    content = Path("data/images/5.png").read_bytes()
    Path("data/images/5.png").write_bytes(content[: len(content) // 2])
    assert "5.png" in refusal(study)


def test_odd_mask_values_are_told_with_the_remedy(study):
    mask = np.zeros((32, 32), np.uint8)
    mask[0, :3] = (255, 3, 7)
    Image.fromarray(mask).save("data/masks/2.png")
    said = refusal(study)
    assert "2.png" in said
    assert "classes" in said
    assert "7" in refusal(study, "backend.tasks.leaf.classes=[255, 3]")
    index = ["classes=[255, 3]", "other_classes=[7]"]
    both = [f"backend.tasks.{task}.{one}" for task in ("leaf", "camouflage") for one in index]
    assert load_config(study, both)


def test_an_empty_split_is_told(study):
    for number in range(2, 8):
        Path(f"data/images/{number}.png").unlink()
        Path(f"data/masks/{number}.png").unlink()
    assert "split" in refusal(study)


def test_all_mistakes_are_told_at_once(study):
    Path("data/masks/3.png").unlink()
    said = refusal(study, "backend.base=nowhere", "backend.tasks.leaf.expert=leav")
    assert all(part in said for part in ("nowhere", "leav", "3.png"))


def test_splits_keep_groups_together_and_follow_the_seed(study):
    rows = ["file,source,group", *(f"{n}.png,camera,g{n // 2}" for n in range(8))]
    Path("data/index.csv").write_text("\n".join(rows) + "\n")

    def splits(seed: int) -> dict[str, set[str]]:
        config = load_config(study, [f"backend.split_seed={seed}"]).backend
        return {
            name: {s.group for s in part}
            for name, part in config.image_folder("leaf").samples().items()
        }

    first = splits(0)
    assert sorted(group for groups in first.values() for group in groups) == [
        "g0",
        "g1",
        "g2",
        "g3",
    ]
    assert first == splits(0)
    assert any(splits(seed) != first for seed in range(1, 6))


def test_a_limit_of_images_takes_the_first_of_the_split(study):
    whole = load_config(study).backend
    few = load_config(study, ["backend.max_images.train=2"]).backend
    assert (
        few.image_folder("leaf").samples()["train"]
        == whole.image_folder("leaf").samples()["train"][:2]
    )
    assert (
        few.image_folder("leaf").samples()["test"] == whole.image_folder("leaf").samples()["test"]
    )


def test_both_presets_are_valid_settings(tmp_path, monkeypatch):
    assert load_config("segmentation-tiny").backend.names() == [
        "camouflage",
        "polyp",
        "skeleton",
        "leaf",
    ]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        load_config("segmentation-folders")
    lines = str(refused.value).split("\n")
    # Nothing is wrong with it but what a user has to bring.
    assert len(lines) == 5
    assert all("no directory" in line for line in lines)


def test_experts_refuses_wrong_data_before_it_trains(study):
    shutil.rmtree("data/masks")
    result = CliRunner().invoke(app, ["experts", str(study), "--set", "backend.base=./models/base"])
    assert result.exit_code == 2, result.output
    assert "masks" in result.output
    assert not Path("models").exists()
