"""Names, options and what the run fills in; and what a mistyped one is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from qdmerge.errors import ConfigError, nearest
from qdmerge.parts import Entry, Registry, load_target
from qdmerge.parts import _named as parts
from qdmerge.parts._registry import PARTS_GROUP
from qdmerge.settings import SEARCH_PRESETS, SearchPreset, catalog, load_config

HERE = __name__


@dataclass
class Widget:
    """A part: the run provides ``archive`` and ``seed``; the rest are options."""

    archive: Any
    size: Annotated[int, Field(ge=1)]
    seed: int = 0
    kind: Literal["round", "flat"] = "round"
    weights: int | list[int] = 1


def open_part(seed: int, **anything: Any) -> dict[str, Any]:
    return {"seed": seed, **anything}


def annotated_for_checkers_only(archive: NoSuchType, size: AlsoMissing = 3) -> Any:  # noqa: F821
    return size


NOT_CALLABLE = 3


@pytest.fixture
def registry() -> Registry:
    return Registry(
        "widget",
        context=("archive", "seed"),
        entries={
            "small": Entry(f"{HERE}:Widget", "a small one", {"size": 1}),
            "any": Entry(f"{HERE}:Widget", "size to be given"),
            "open": Entry(f"{HERE}:open_part", "takes anything"),
        },
    )


CONTEXT = {"archive": "the archive", "seed": 7, "unrelated": "never passed"}


def test_the_run_fills_its_parameters_and_options_win_over_defaults(registry: Registry) -> None:
    assert registry.build("small", {}, CONTEXT) == Widget("the archive", 1, 7)
    assert registry.build("small", {"size": 4}, CONTEXT) == Widget("the archive", 4, 7)
    assert registry.build("small", {"seed": 1}, CONTEXT) == Widget("the archive", 1, 1)
    assert registry.build("any", {"size": "5"}, CONTEXT).size == 5


def test_any_callable_is_a_part_by_module_and_name(registry: Registry) -> None:
    assert registry.build(f"{HERE}:Widget", {"size": 2}, CONTEXT).size == 2
    assert registry.build(f"{HERE}:open_part", {"x": 2}, CONTEXT) == {"seed": 7, "x": 2}
    assert registry.problems(f"{HERE}:Widget", {"size": 2}) == []


def test_annotations_that_exist_for_type_checkers_only(registry: Registry) -> None:
    name = f"{HERE}:annotated_for_checkers_only"
    assert registry.build(name, {"size": "as it is"}, CONTEXT) == "as it is"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smal", {}, "unknown widget 'smal'; did you mean 'small'? Known: any, open, small, or"),
        ("qqq", {}, "unknown widget 'qqq'. Known: any, open, small, or module:attribute."),
        ("any", {}, "widget 'any': 'size' is missing"),
        ("small", {"sise": 2}, "widget 'small': unknown key 'sise'; did you mean 'size'? Known: "),
        ("small", {"archive": 1, "qqq": 2}, "unknown key 'qqq'. Known: archive, kind, size, weig"),
        ("small", {"size": "many"}, "widget 'small': 'size': Input should be a valid integer"),
        ("small", {"size": 0}, "'size': Input should be greater than or equal to 1 (got 0)"),
        ("small", {"kind": "rond"}, "'kind': Input should be 'round' or 'flat' (got 'rond')"),
        (
            "small",
            {"weights": "x"},
            "'weights': Input should be a valid integer, unable to parse string as an integer "
            "(got 'x'); or: Input should be a valid list (got 'x')",
        ),
        ("nowhere.to:find", {}, "cannot import 'nowhere.to:find': No module named 'nowhere'"),
        (f"{HERE}:Wdget", {}, f"module '{HERE}' has no 'Wdget'; did you mean 'Widget'?"),
        (f"{HERE}:NOT_CALLABLE", {}, "is a int, not something to call"),
        (".relative:part", {}, "'.relative:part' is not of the form module:attribute"),
        (":part", {}, "':part' is not of the form module:attribute"),
        ("builtins:dict", {}, "cannot tell which options"),
    ],
)
def test_mistakes_are_explained(
    registry: Registry, name: str, options: dict[str, Any], message: str
) -> None:
    assert message in "\n".join(registry.problems(name, options))
    with pytest.raises(ConfigError) as caught:
        registry.build(name, options, CONTEXT)
    assert message in str(caught.value)


def test_all_mistakes_of_a_part_at_once(registry: Registry) -> None:
    problems = registry.problems("small", {"size": 0, "kind": 1, "sise": 1})
    assert len(problems) == 3
    assert all(line.startswith("widget 'small': ") for line in problems)


def test_a_module_that_breaks_on_import_is_a_mistake_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_part_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="cannot import 'broken_part_module:X': division by zero"):
        load_target("broken_part_module:X")
    sys.modules.pop("broken_part_module", None)


PARTS = {
    "widget": {
        "large": Entry(f"{HERE}:Widget", "a large one", {"size": 100}),
        "small": Entry(f"{HERE}:open_part", "never looked at: the built-in part wins"),
    },
    "search_preset": lambda: {
        "tessellated": SearchPreset("on Voronoi cells", {"archive": "cvt"}),
        "paper": SearchPreset("never looked at: the built-in one wins", {"archive": "dns"}),
    },
}


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs entry points of the group ``qdmerge.parts``: name to target."""

    def install(**targets: str) -> None:
        points = {name: EntryPoint(name, target, "") for name, target in targets.items()}
        monkeypatch.setattr("qdmerge.parts._registry.installed", {PARTS_GROUP: points}.get)

    return install


def test_other_packages_bring_parts(registry: Registry, packages: Callable[..., None]) -> None:
    packages(theirs=f"{HERE}:PARTS")
    assert registry.build("large", {}, CONTEXT).size == 100
    assert registry.build("small", {}, CONTEXT).size == 1
    assert [name for name, _ in registry.items()] == ["any", "large", "open", "small"]
    assert "did you mean 'large'?" in registry.problems("lrge", {})[0]
    config = load_config("toy", search_preset="tessellated")
    assert config.archive.name == "cvt"
    assert load_config("toy", search_preset="paper").archive.name == "grid"
    with pytest.raises(ConfigError, match="search preset 'tesselated'; did you mean 'tessellated'"):
        load_config("toy", search_preset="tesselated")
    listed = catalog(["searches"])["searches"]
    assert ("tessellated", "on Voronoi cells") in listed
    assert {name for name, _ in listed} == {*SEARCH_PRESETS, "tessellated"}


def test_a_package_whose_parts_are_broken_is_named_and_hides_nothing(
    registry: Registry, packages: Callable[..., None]
) -> None:
    packages(
        absent="no_such_module:PARTS", odd=f"{HERE}:NOT_CALLABLE", theirs=f"{HERE}:PARTS",
        late=f"{HERE}:LATE",
    )  # fmt: skip
    assert registry.build("large", {}, CONTEXT).size == 100
    (problem,) = registry.problems("lrge", {})
    assert "The parts of 'absent' cannot be loaded: ModuleNotFoundError: No module" in problem
    assert "The parts of 'odd' cannot be loaded" in problem
    assert "The parts of 'late' cannot be loaded: ZeroDivisionError: division by zero" in problem
    listed = dict(catalog(["searches"])["searches"])
    assert {*SEARCH_PRESETS, "tessellated", "absent", "odd"} == {*listed}
    assert listed["absent"].startswith("broken: ModuleNotFoundError")


LATE = {"widget": lambda: 1 / 0}


def test_nearest_ends_the_sentence() -> None:
    assert nearest("gird", ["grid", "cvt"]) == "; did you mean 'grid'?"
    assert nearest("zzz", ["grid", "cvt"]) == "."


REGISTRIES = [value for value in vars(parts).values() if isinstance(value, Registry)]
ENTRIES = [
    pytest.param(registry, name, id=f"{registry.kind}-{name}")
    for registry in REGISTRIES
    for name, _ in registry.items()
]


@pytest.mark.parametrize(("registry", "name"), ENTRIES)
def test_every_registered_part_exists_and_takes_its_defaults(registry: Registry, name: str) -> None:
    entry = registry.entry(name)
    assert callable(load_target(entry.target))
    assert entry.summary
    assert registry.problems(name, {}) == []
    (problem,) = registry.problems(name, {"no_such_option": 1})
    assert f"{registry.kind} '{name}': unknown key 'no_such_option'" in problem


def test_every_kind_of_part_has_a_registry() -> None:
    kinds = {registry.kind for registry in REGISTRIES}
    assert kinds >= {
        "space",
        "archive",
        "emitter",
        "scheduler",
        "selection",
        "crossover",
        "mutation",
    }
    assert len(ENTRIES) >= 20


@pytest.mark.parametrize(
    ("registry", "name", "options"),
    [
        (parts.SELECTIONS, "elite", {"low": 0}),
        (parts.SELECTIONS, "rank", {"pressure": 3}),
        (parts.CROSSOVERS, "linear", {"sigma": -1}),
        (parts.MUTATIONS, "svd", {"scale": -1}),
        (parts.MUTATIONS, "svd", {"per": "layer"}),
        (parts.MUTATIONS, "gaussian", {"sigma": "x"}),
        (parts.SCHEDULERS, "cycle", {"interval": 0}),
        (parts.SCHEDULERS, "bandit", {"discount": 2}),
        (parts.ARCHIVES, "grid", {"bins": 0}),
        (parts.ARCHIVES, "grid", {"bins": [4, 0]}),
        (parts.EMITTERS, "merge", {"batch_size": 0}),
        (parts.EMITTERS, "merge", {"mutation": []}),
        (parts.EMITTERS, "merge", {"selection": "elit"}),
        (parts.EMITTERS, "merge", {"crossover": {"name": "linear", "sigma": -1}}),
        (parts.EMITTERS, "cma_es", {"sigma0": "x"}),
    ],
)
def test_values_out_of_range_are_found_before_anything_is_built(
    registry: Registry, name: str, options: dict[str, Any]
) -> None:
    problems = registry.problems(name, options)
    assert problems
    assert all(next(iter(options)) in line for line in problems)


def test_a_class_without_a_constructor_of_its_own_is_a_part(registry: Registry) -> None:
    made: Callable[..., Any] = registry.build(f"{HERE}:Bare", {}, CONTEXT)
    assert isinstance(made, Bare)
    assert "unknown key 'x'" in registry.problems(f"{HERE}:Bare", {"x": 1})[0]


class Bare:
    """Nothing to configure."""


@pytest.mark.parametrize(
    ("preset", "space", "mutation", "sigma"),
    [("paper", "core", "svd_child", 0.03), ("released", "spectral", "svd", 0.01)],
)
def test_search_presets_mutate_as_the_paper_or_its_code(
    preset: str, space: str, mutation: str, sigma: float
) -> None:
    config = load_config("toy", ["emitters.0.selection.low=0.4"], search_preset=preset)
    (emitter,) = config.emitters
    assert config.space == parts.Part(name=space)
    assert emitter.options["selection"] == {"name": "elite", "low": 0.4}
    assert emitter.options["crossover"] == {"name": "linear", "sigma": sigma}
    assert emitter.options["mutation"] == {"name": mutation, "scale": 0.1}


def test_a_search_preset_keeps_the_options_of_its_space(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("{backend: toy, space: {name: core, rank: 3}}")
    kept, other = (load_config(path, search_preset=name).space for name in ("paper", "released"))
    assert (kept, other) == (parts.Part(name="core", rank=3), parts.Part(name="spectral"))
