"""The backend on models that were trained for a moment, and a run through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.errors import ConfigError
from qdmerge.runs import BuildBackend
from qdmerge.settings import load_config
from qdmerge_zoo.segmentation import TASKS
from tests.trained import segmentation_zoo


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A configuration of two tasks on the micro zoo."""
    folder = segmentation_zoo()
    tasks = TASKS[:2]
    config = {
        "evaluations": 6,
        "backend": {
            "name": "segmentation",
            "base": str(folder / "base"),
            "experts": {name: str(folder / name) for name in tasks},
            "tasks": {name: {"data": str(folder / "data" / name)} for name in tasks},
        },
        "space": {"name": "spectral", "rank": 2},
        "archive": {"name": "grid", "bins": 4},
        "final": {"leading": 1, "bootstrap": 100},
    }
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def backend(study):
    return BuildBackend(load_config(study))()


def children(backend, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 2, (count, backend.space.dim)).astype(np.float32)


def test_scores_are_the_mean_over_images_of_an_independent_dice(backend):
    (x,) = children(backend, 1)
    evaluation = backend.evaluate(x[None], "test")
    for column, task in enumerate(backend.segmentation_tasks):
        name = task.task.name
        found = backend.predictions(x, name, "test")
        truth = task.images["test"].masks
        dice = [
            f1_score(t.ravel(), f.ravel(), zero_division=1.0)
            for t, f in zip(truth, found, strict=True)
        ]
        assert evaluation.items[0][name] == pytest.approx(dice)
        assert evaluation.scores[0, column] == pytest.approx(np.mean(dice))


def test_scores_depend_on_the_solution_alone(backend):
    xs = children(backend, 3)
    together = backend.evaluate(xs, "validation").scores
    backwards = backend.evaluate(xs[::-1], "validation").scores[::-1]
    assert np.array_equal(together, backwards)
    assert len({tuple(row) for row in together}) > 1
    assert not np.array_equal(together, backend.evaluate(xs, "test").scores)


def test_facts_are_plain_and_name_the_images_of_every_split(backend):
    facts = json.loads(json.dumps(backend.facts()))
    for task in backend.segmentation_tasks:
        splits = facts["items"][task.task.name]
        named = [name for split in splits.values() for name in split["images"]]
        assert len(named) == len(set(named)) == sum(split["count"] for split in splits.values())


def test_images_that_a_model_was_trained_on_are_not_scored(study):
    with pytest.raises(ConfigError, match=r"'base' was trained on.*split_seed"):
        BuildBackend(load_config(study, ["backend.split_seed=5"]))()


@pytest.fixture(scope="module")
def run(study, tmp_path_factory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("runs") / "run"
    result = CliRunner().invoke(app, ["run", str(study), "--out", str(path)])
    assert result.exit_code == 0, result.output
    return path, result.output


def test_a_run_leaves_figures_of_predictions(run, backend):
    path, output = run
    for task in backend.tasks:
        assert f"figures/predictions-{task.name}.png" in output
        assert (path / "figures" / f"predictions-{task.name}.png").stat().st_size > 10_000


REPRODUCE = """
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0].startswith("qdmerge"):
                raise ImportError(name)

    sys.meta_path.insert(0, Blocked())
    import json, numpy as np, torch
    from PIL import Image
    from transformers import AutoModelForSemanticSegmentation

    model = AutoModelForSemanticSegmentation.from_pretrained(sys.argv[1], trust_remote_code=True)
    model.eval()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    scores = {}
    for name, (folder, files) in json.loads(sys.argv[2]).items():
        dice = []
        for file in files:
            image = np.array(Image.open(f"{folder}/images/{file}").convert("RGB"))
            truth = np.array(Image.open(f"{folder}/masks/{file}")) > 0
            pixels = (torch.from_numpy(image).permute(2, 0, 1).float() / 255 - mean) / std
            with torch.no_grad():
                found = model(pixel_values=pixels[None]).logits[0, 0].numpy() > 0
            total = truth.sum() + found.sum()
            dice.append(1.0 if total == 0 else 2 * (truth & found).sum() / total)
        scores[name] = float(np.mean(dice))
    print(json.dumps(scores))
"""


def test_the_exported_model_reproduces_the_reported_scores_without_qdmerge(run, study, tmp_path):
    path, _ = run
    results = json.loads((path / "results.json").read_text())
    chosen = next(row for row in results["candidates"] if row["name"] == results["chosen"])
    tasks = yaml.safe_load(study.read_text())["backend"]["tasks"]
    images = {
        name: (task["data"], results["facts"]["items"][name]["test"]["images"])
        for name, task in tasks.items()
    }
    done = subprocess.run(
        [
            *(sys.executable, "-c", textwrap.dedent(REPRODUCE)),
            *(str(path / "model"), json.dumps(images)),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    # A pixel at the threshold may fall to the other side in batches of another size.
    assert json.loads(done.stdout) == pytest.approx(chosen["test"], abs=2e-3)


def test_changed_images_are_refused_on_resume(run, study, tmp_path):
    path, _ = run
    copy = tmp_path / "run"
    copy.mkdir()
    config = yaml.safe_load((path / "config.yaml").read_text())
    task = next(iter(config["backend"]["tasks"]))
    config["backend"]["max_images"] = {"validation": 1}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    lines = (path / "events.jsonl").read_text()
    (copy / "events.jsonl").write_text(lines)
    result = CliRunner().invoke(app, ["resume", str(copy)])
    assert result.exit_code == 2
    assert "another configuration" in result.output
    assert task


@pytest.fixture(scope="module")
def with_batch_norm(tmp_path_factory):
    """A backend of models with BatchNorm, whose experts differ from the base at random."""
    from transformers import AutoModelForSemanticSegmentation

    from qdmerge_segmentation.models.modeling_unet import UNetConfig, UNetForSemanticSegmentation

    folder = tmp_path_factory.mktemp("batch-norm")
    data = segmentation_zoo() / "data"
    torch.manual_seed(0)
    UNetForSemanticSegmentation(UNetConfig(widths=(4, 8), norm="batch")).save_pretrained(
        folder / "base"
    )
    tasks = TASKS[:2]
    for number, name in enumerate(tasks):
        model = AutoModelForSemanticSegmentation.from_pretrained(folder / "base")
        generator = torch.Generator().manual_seed(number)
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=generator))
        model.save_pretrained(folder / name)

    def build(*settings: str):
        config = {
            "backend": {
                "name": "segmentation",
                "base": str(folder / "base"),
                "experts": {name: str(folder / name) for name in tasks},
                "tasks": {name: {"data": str(data / name)} for name in tasks},
                "reestimate_images": 3,
            },
            "space": "expert",
        }
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        return BuildBackend(load_config(path, settings))()

    return build


def statistics(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: tensor.clone()
        for name, tensor in module.state_dict().items()
        if name.endswith(("running_mean", "running_var"))
    }


def test_batch_statistics_are_measured_anew_for_merged_models_only(with_batch_norm):
    fresh, merged = with_batch_norm(), with_batch_norm("backend.reestimate_batch_norm=false")
    x = fresh.space.merge([0.5, 0.5])
    for backend in (fresh, merged):
        backend.express(x)
    assert statistics(fresh.segmenter.module)
    assert any(
        not torch.allclose(mine, theirs)
        for mine, theirs in zip(
            statistics(fresh.segmenter.module).values(),
            statistics(merged.segmenter.module).values(),
            strict=True,
        )
    )
    expert = fresh.space.experts[0]
    fresh.express(fresh.space.seeds[expert])
    own = fresh.space.vectors
    for name, tensor in statistics(fresh.segmenter.module).items():
        assert torch.allclose(tensor, own.base(name) + own.delta(expert, name), atol=1e-6)
    # After another model was expressed, the first one comes out as before.
    fresh.express(x)
    before = statistics(fresh.segmenter.module)
    fresh.express(2 * x)
    fresh.express(x)
    assert all(torch.equal(before[k], v) for k, v in statistics(fresh.segmenter.module).items())
    assert (fresh.facts()["batch_norm"], merged.facts()["batch_norm"]) == (
        "measured anew",
        "as merged",
    )
    assert len(fresh.facts()["statistics"]) == 16
    assert "statistics" not in merged.facts()


def test_an_exported_model_carries_its_measured_statistics(with_batch_norm, tmp_path):
    from transformers import AutoModelForSemanticSegmentation

    backend = with_batch_norm()
    x = backend.space.merge([0.3, 0.7])
    backend.export(x, tmp_path / "model")
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "model")
    backend.express(x)
    expected = backend.segmenter.module.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.allclose(tensor, expected[name], atol=1e-6), name
