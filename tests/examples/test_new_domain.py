"""The domain in one file: it runs, is short, and the how-to quotes what is in it."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "new_domain.py"
PLUGIN = ROOT / "examples" / "digits_plugin"
SEED = 3

ROWS = ["base", "upright", "rotated", "inverted", "average", "aggregate", "chosen", "climbed"]
COLUMNS = ["upright", "rotated", "inverted", "mean", "min"]


def table_of(output: str) -> dict[str, dict[str, float]]:
    heading, *lines = output.splitlines()
    assert heading.split() == COLUMNS
    cells = [line.split() for line in lines[: len(ROWS)]]
    assert [row[0] for row in cells] == ROWS
    return {name: dict(zip(COLUMNS, map(float, row), strict=True)) for name, *row in cells}


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 115


def test_the_example_prints_its_table_and_leaves_models_and_a_figure(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--seed", str(SEED), "--evaluations", "30"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    table = table_of(done.stdout)
    for name, row in table.items():
        scores = [row[task] for task in COLUMNS[:3]]
        assert all(0 <= score <= 1 for score in scores), name
        assert row["mean"] == pytest.approx(sum(scores) / 3, abs=1.1e-3)
        assert row["min"] == min(scores)
    for name in COLUMNS[:3]:  # an expert is the best of the seeds on its own task, and forgets
        assert table[name][name] == max(table[seed][name] for seed in ROWS[:4])
        assert table[name]["min"] < table["base"]["min"]
    assert table["climbed"]["min"] > table["average"]["min"]
    assert table["climbed"]["mean"] > max(table[name]["mean"] for name in ROWS[:5])

    (merged,) = tmp_path.rglob("merged")
    assert done.stdout.splitlines()[-1].endswith(str(merged))
    folder = merged.parent
    names = {path.stem for path in folder.glob("*.safetensors")}
    assert names == {"base", "upright", "rotated", "inverted"}
    with Image.open(folder / "archives.png") as figure:
        assert len(figure.convert("RGB").getcolors(maxcolors=10**6)) > 100
    assert accuracies(merged / "model.safetensors") == pytest.approx(
        [table["chosen"][task] for task in COLUMNS[:3]],
        abs=4e-3,  # two digits of 597, of which two classes may tie
    )


def accuracies(path: Path) -> list[float]:
    """Test accuracies of an exported network, with torch alone."""
    net = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    net.load_state_dict(load_file(path))
    images, labels = map(torch.tensor, load_digits(return_X_y=True))
    # The first draw of the example is the order of the digits; the last 597 are for the test.
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SEED))[-597:]
    images, labels = images[order].float() / 16 - 0.5, labels[order]
    quarter_turn = images.view(-1, 8, 8).flip(2).transpose(1, 2).flatten(1)
    with torch.inference_mode():
        answers = [net(view).argmax(dim=1) for view in (images, quarter_turn, -images)]
    return [float((answer == labels).double().mean()) for answer in answers]


def test_the_example_touches_no_folder_that_is_there_already(tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLE))["main"]
    with pytest.raises(FileExistsError):
        main(tmp_path)
    assert not list(tmp_path.iterdir())


def quoted_code(section: str, language: str) -> list[str]:
    page = (ROOT / "docs" / "how-to" / "new-domain.md").read_text(encoding="utf-8")
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", page, flags=re.S | re.M)
    assert text is not None
    return re.findall(rf"```{language}\n(.*?)```", text[1], flags=re.S)


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_the_how_to_explains_every_line_of_the_example() -> None:
    quoted = "".join(quoted_code("The file, piece by piece", "python"))
    _, _, code = EXAMPLE.read_text(encoding="utf-8").partition('"""\n\n')
    assert lines_of(quoted) == lines_of(code)


def test_what_the_how_to_quotes_of_the_plug_in_is_in_it() -> None:
    files = [*PLUGIN.glob("*/*.py"), PLUGIN / "pyproject.toml"]
    sources = [path.read_text(encoding="utf-8") for path in files]
    section = "The same domain as a plug-in"
    quoted = quoted_code(section, "python") + quoted_code(section, "toml")
    assert len(quoted) > 5
    for code in quoted:
        assert any(code in source for source in sources), code
