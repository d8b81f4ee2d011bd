"""The history of a training, and its figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from qdmerge_segmentation.figures import curves_figure
from qdmerge_segmentation.training._make import draw_curves
from tests.backends.segmentation.training.conftest import MakeConfig, ignore, make


def test_the_history_tells_all_settings_and_no_paths(
    config: MakeConfig, start: str, tmp_path: Path, data: Path
) -> None:
    settings = config(steps=3, training={"start": start})
    for name in ("base", "a"):
        make(name, settings, ignore)
    text = (tmp_path / "models/a/training.yaml").read_text()
    record = yaml.safe_load(text)
    assert str(tmp_path) not in text
    assert str(data) not in text
    assert [point["step"] for point in record["curve"]] == [0, 2, 3]
    assert record["curve"][-1]["validation"].keys() == {"a", "b"}
    assert (record["model"], record["tasks"], record["start"]) == ("a", ["a"], "base")
    assert record["stage"]["replay"] == 0.25
    assert record["images"]["a"] == {"train": 8, "validation": 2}
    assert {"torch", "transformers", "qdmerge"} < record["versions"].keys()
    assert yaml.safe_load((tmp_path / "models/base/training.yaml").read_text())["start"] == "start"
    modes = {file.stat().st_mode for file in (tmp_path / "models/a").iterdir()}
    assert len(modes) == 1  # whoever may read the history may read the weights
    figure = draw_curves(settings.training_plan(), ["base", "a"])
    assert figure == tmp_path / "models" / "training.png"
    with Image.open(figure) as image:
        assert image.width > 1000


def test_curves_are_drawn_beside_what_was_made_not_beside_a_base_that_was_there(
    config: MakeConfig, start: str, tmp_path: Path
) -> None:
    make("base", config(training={"start": start}), ignore)
    there = (tmp_path / "models").rename(tmp_path / "there")
    before = sorted(there.iterdir())
    settings = config(base=str(there / "base"))
    make("a", settings, ignore)
    assert draw_curves(settings.training_plan(), ["a"]) == tmp_path / "models" / "training.png"
    assert sorted(there.iterdir()) == before


def test_the_figure_has_a_panel_per_model_with_its_own_task_bold() -> None:
    def record(tasks: list[str]) -> dict[str, Any]:
        points = [
            {"step": 10 * k, "loss": None, "validation": {"x": k / 4, "y": k / 8}} for k in range(4)
        ]
        return {"tasks": tasks, "metrics": {"x": "dice", "y": "iou"}, "curve": points}

    figure = curves_figure({"base": record(["x", "y"]), "only y": record(["y"])})
    base, expert = figure.axes
    assert (base.get_title("left"), expert.get_title("left")) == ("base", "only y")
    x, y = expert.get_lines()[:2]
    assert y.get_linewidth() > x.get_linewidth()
    assert list(y.get_xdata()) == [0, 10, 20, 30]
    assert list(y.get_ydata()) == [0, 0.125, 0.25, 0.375]
    assert {line.get_linewidth() for line in base.get_lines()[:2]} == {y.get_linewidth()}
    assert base.get_ylabel() == "validation score"
