"""The paper's tables in small: their methods, their commands, and what they print."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from itertools import combinations, permutations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from scipy.stats import spearmanr

from qdmerge.cli import app
from qdmerge.compare._methods import METHODS, DomainFacts, Method, configure, find_methods
from qdmerge.merges import grid_size
from qdmerge.settings import load_config

ROOT = Path(__file__).parents[2]
ABLATION = ROOT / "examples" / "paper" / "ablation.yaml"
PAGES = ("README.md", "docs/how-to/compare.md", "examples/paper/README.md")
TABLES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/results/*.md"))


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def commands(page: str, program: str) -> list[list[str]]:
    """Command lines of a page's shell test_beds, with their variables put in place."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.startswith("docs/results/"):  # the pages share the variables of their index
        text = (ROOT / "docs/results/index.md").read_text(encoding="utf-8") + text
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.S)).splitlines()
    variables = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]+=", line))
    found = []
    for line in lines:
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        if line.startswith(f"{program} "):
            found.append(shlex.split(line, comments=True))
    return found


@pytest.mark.parametrize("page", [*PAGES, *TABLES])
def test_the_comparisons_of_a_page_can_be_asked_for(page):
    group = typer.main.get_command(app)
    compare = group.get_command(typer.Context(group), "compare")
    found = commands(page, "qdmerge compare")
    assert found or page in TABLES  # some tables are of other commands
    for command in found:
        asked = compare.make_context("compare", command[2:]).params
        methods = find_methods(asked["methods"].split(","))
        assert asked["reference"] in (None, *methods)
        settings = [v.split(",")[0] for v in asked["vary"] or ()]
        if asked["source"] != "study.yaml":
            load_config(asked["source"], settings, models=False)


def test_tables_are_dated_and_say_first_what_they_found():
    assert len(TABLES) > 15
    for page in TABLES:
        if page != "docs/results/index.md":
            title, _, lead, *_ = (ROOT / page).read_text(encoding="utf-8").splitlines()
            assert title.startswith("# ")
            assert re.match(r"\*Measured 20\d\d-\d\d-\d\d\.\* .*\. .*\.", lead), page


def test_the_scripts_of_the_page_are_there():
    found = commands("examples/paper/README.md", "python")
    assert len(found) >= 5
    assert all(Path(script).is_file() for _, script, *_ in found)


def table_of_methods() -> dict[str, list[str]]:
    text = (ROOT / "docs" / "how-to" / "compare.md").read_text(encoding="utf-8")
    section = text.split("## The methods", 1)[1].split("###", 1)[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    return {row[0].strip("`"): [cell.strip("` ") for cell in row[1:]] for row in rows}


def test_the_table_of_methods_is_that_of_the_code():
    table = table_of_methods()
    assert list(table) == list(METHODS)
    for name, (_, space, models) in table.items():
        method = METHODS[name]
        assert space == method.changes.get("space", method.space), name
        if method.start:  # on three tasks
            terms = [(int(term.rstrip("K") or 1), term[-1]) for term in models.split(" + ")]
            told = sum(number * (3 if last == "K" else 1) for number, last in terms)
            assert configured(name, method).evaluations == told, name
            continue
        if method.recipe is None:
            assert models == "budget", name
            continue
        for experts in (3, 5):
            told = int(models.removesuffix("K") or 1) * (experts if models.endswith("K") else 1)
            tried = grid_size(method.recipe, 1 if method.model == "multitask" else experts)
            assert told == tried, name


def test_the_methods_of_ones_own_are_valid():
    text = (ROOT / "docs" / "how-to" / "compare.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.S)
    for name, settings in yaml.safe_load(snippet).items():
        configured(name, Method.model_validate(settings))


def configured(name: str, method: Method):
    config = load_config("llm-tiny", models=False)
    return configure(
        method, config, seed=1, evaluations=60, facts=DomainFacts.from_settings(config)
    )


def test_each_step_of_the_ablation_changes_one_thing():
    methods = find_methods([str(ABLATION)])
    runs = [configured(name, method) for name, method in methods.items()]
    steps = []
    for run in runs:
        (emitter,) = run.emitters
        options = emitter.options
        mutation = options["mutation"]
        steps.append((
            run.scheduler.name,
            options["selection"],
            mutation if isinstance(mutation, str) else mutation["name"],
        ))  # fmt: skip
        assert run.final.candidates == "elites"
        assert options["crossover"] == {"name": "linear", "sigma": 0.03}
    assert steps == [
        ("fixed", "uniform", "none"),
        ("cycle", "uniform", "none"),
        ("cycle", "uniform", "gaussian"),
        ("cycle", "uniform", "svd_child"),
        ("cycle", "elite", "svd_child"),
    ]


def test_the_last_step_of_the_ablation_is_the_papers_recipe():
    last = list(find_methods([str(ABLATION)]).values())[-1]
    paper = METHODS["paper"]
    own, published = (configured("", method) for method in (last, paper))
    assert (own.scheduler, own.space) == (published.scheduler, published.space)
    (emitter,), (other,) = own.emitters, published.emitters
    assert emitter.options["selection"] == "elite"
    assert {**emitter.options, "selection": {"name": "elite"}} == other.options


def summary(value: float) -> dict:
    told = {"value": value, "ci95": [value - 0.1, value + 0.1], "covers": "seeds", "runs": [value]}
    pick = {"mean": told, "geometric_mean": told, "minimum": {**told, "ci95": None}}
    method = {"picks": {"geometric_mean": pick}, "set": {"hypervolume": told}, "seeds": [0, 1]}
    return {
        "methods": {"random": method},
        "curves": [{"block": "tiny_seed=0"}],
        "versions": {"torch": "2"},
        "date": "2026-01-02",
        "failed": [],
    }


def test_comparisons_stand_side_by_side(tmp_path):
    first, second = summary(0.5), summary(0.25)
    second["methods"]["ties"] = {"picks": {}, "set": None, "seeds": []}
    for name, one in (("easy", first), ("hard", second)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "compare.json").write_text(json.dumps(one))
    script = ROOT / "examples" / "paper" / "tables.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "easy", tmp_path / "hard"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "| method | easy | hard |" in done.stdout
    assert "| random | 0.500 (0.400 to 0.600) | 0.250 (0.150 to 0.350) |" in done.stdout
    assert "| random | 0.500 | 0.250 |" in done.stdout
    assert "| ties | \u2013 | \u2013 |" in done.stdout
    assert done.stdout.count("| method |") == 4
    missing = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr


@pytest.fixture(scope="module")
def told() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples" / "segmentation"))
        import _forecasts

        yield _forecasts


def test_a_rank_correlation_is_spearmans_and_relabels_experts(told):
    rng = np.random.default_rng(3)
    pairs = list(combinations(range(4), 2))
    forecast = dict(zip(pairs, rng.integers(0, 5, 6), strict=True))
    outcome = rng.normal(size=6)
    value, p = told.rank_correlation([list(forecast.values())], [outcome], 4)
    assert value == pytest.approx(spearmanr(list(forecast.values()), outcome).statistic)
    null = [
        spearmanr([forecast[tuple(sorted((o[a], o[b])))] for a, b in pairs], outcome).statistic
        for o in permutations(range(4))
    ]
    share = [np.mean([sign * one >= sign * value - 1e-9 for one in null]) for sign in (1, -1)]
    assert p == pytest.approx(min(1, 2 * min(share)))


def test_several_zoos_say_more_than_one(told):
    rising = [1.0, 2, 3, 4, 5, 6]
    one = told.rank_correlation([rising], [rising], 4)
    assert one == (pytest.approx(1), pytest.approx(told.smallest_p(4, 1)))
    value, p = told.rank_correlation([rising] * 3, [rising] * 3, 4)
    assert value == pytest.approx(1)
    assert p == pytest.approx(told.smallest_p(4, 3)) == pytest.approx(2e-4)
    assert told.rank_correlation([[1.0] * 6], [rising], 4) == (0, 1)
    assert told.rank_correlation([[1.0]], [[2.0]], 2) == (0, 1)


def test_norms_and_signs_of_two_experts(told, tmp_path):
    import torch
    from safetensors.torch import save_file

    from qdmerge.checkpoints import TaskVectors

    tensors = {
        "base": {"w": torch.zeros(2, 2), "n": torch.ones(2)},
        "a": {"w": torch.tensor([[3.0, 0], [-4, 0]]), "n": torch.ones(2)},
        "b": {"w": torch.tensor([[1.0, 5], [2, 0]]), "n": torch.tensor([1.0, 1 + 30**0.5])},
    }
    for name, weights in tensors.items():
        (tmp_path / name).mkdir()
        save_file(weights, tmp_path / name / "model.safetensors")
    vectors = TaskVectors(tmp_path / "base", {name: tmp_path / name for name in "ab"})
    ratio, agreement = told.norms_and_signs(vectors, "a", "b")
    assert ratio == pytest.approx(5 / 60**0.5)
    assert agreement == 0.5  # of the two weights that both changed


def parts_of(name: str, method: Method) -> dict[str, Any]:
    run = configured(name, method)
    (emitter,) = run.emitters
    others = run.model_dump(exclude={"emitters", "start"})
    return {**emitter.options, "start": run.start, "others": others}


def test_each_variant_of_the_unguided_search_has_one_part_of_the_papers():
    presets = ("unguided", "paper", "released")
    unguided, paper, released = (parts_of(name, METHODS[name]) for name in presets)
    changed = []
    for name, method in find_methods([str(ROOT / "examples/paper/unguided.yaml")]).items():
        own = parts_of(name, method)
        (part,) = [part for part in own if own[part] != unguided[part]]
        assert name.endswith(part)
        assert own[part] == (released if part == "mutation" else paper)[part]
        changed.append(part)
    assert sorted(changed) == ["crossover", "mutation", "selection", "start"]


@pytest.mark.parametrize("file", ["regmean.yaml", "unguided.yaml", "variants.yaml", "guided.yaml"])
def test_files_of_methods_fit_the_harder_presets(file: str) -> None:
    methods = find_methods([str(ROOT / "examples" / "paper" / file)])
    for preset in ("llm-conflict", "segmentation-conflict"):
        config = load_config(preset, models=False)
        for method in methods.values():
            facts = DomainFacts.from_settings(config)
            run = configure(method, config, seed=0, evaluations=50, facts=facts)
            assert run.space is not None
            searched = "core" if file == "guided.yaml" else "regmean"
            assert file == "variants.yaml" or run.space.name == searched
