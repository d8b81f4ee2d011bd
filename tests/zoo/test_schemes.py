"""Sources with a scheme: ``tiny://``, its options, its presets, and the keys it had before."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from qdmerge import plugins
from qdmerge.checkpoints import Progress, Scheme, SourceKind, find_scheme, scheme_of
from qdmerge.compare import Study, find_methods
from qdmerge.errors import ConfigError, RunError
from qdmerge.runs import RunFolder
from qdmerge.settings import find_preset, load_config, parse_config, presets, presets_for
from qdmerge_zoo.schemes import Tiny, TinyLLM, TinySegmentation

OLD: dict[str, tuple[dict[str, int], Scheme]] = {
    "llm": (
        {"tiny_seed": 3, "tiny_tasks": 4, "tiny_conflict": 1},
        TinyLLM(seed=3, tasks=4, conflict=1),
    ),
    "segmentation": (
        {"tiny_seed": 3, "tiny_tasks": 6, "tiny_conflict": 1},
        TinySegmentation(seed=3, tasks=6, conflict=1),
    ),
}
"""Backend to keys of before there were schemes, and what they say."""


def preset(backend: str) -> dict[str, Any]:
    return load_config(backend, models=False).echo()


@pytest.mark.parametrize("backend", OLD)
def test_keys_of_before_are_read_with_a_hint(backend: str) -> None:
    keys, scheme = OLD[backend]
    data = preset(backend)
    del data["backend"]["sources"]
    data["backend"] |= keys
    with pytest.warns(FutureWarning, match=r"tiny_seed.* is now 'backend\.sources\.tiny\.seed"):
        config = parse_config(data)
    assert config.backend.sources == {"tiny": scheme}
    assert config.echo()["backend"]["sources"] == {"tiny": scheme.model_dump()}


@pytest.mark.parametrize("backend", OLD)
def test_a_mistyped_key_of_before_gives_no_hint(
    backend: str, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(ConfigError, match="unknown key 'sed'; did you mean 'seed'"):
        load_config(backend, ["backend.tiny_sed=1"], models=False)
    assert not [warning for warning in recwarn if "is now" in str(warning.message)]


@pytest.mark.parametrize("backend", OLD)
@pytest.mark.parametrize("key", ["backend.tiny_seed", "backend.sources.tiny.seed"])
def test_the_last_setting_wins_under_both_keys(backend: str, key: str, tmp_path: Path) -> None:
    old = preset(backend)
    del old["backend"]["sources"]
    old["backend"] |= {"tiny_seed": 5, "tiny_conflict": 1}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old, sort_keys=False))
    for source, conflict in ((backend, 0), (str(tmp_path / "old.yaml"), 1)):
        config = load_config(source, [f"{key}=7"], models=False)
        assert config.backend.sources["tiny"].model_dump(exclude={"tasks"}) == {
            "seed": 7,
            "conflict": conflict,
        }


@pytest.mark.parametrize("backend", OLD)
def test_a_run_of_before_is_the_run_of_today(backend: str, tmp_path: Path) -> None:
    data = preset(backend)
    tiny = data["backend"].pop("sources")["tiny"]
    data["backend"] |= {f"tiny_{option}": value for option, value in tiny.items()}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"format": 2, **data}, sort_keys=False))
    assert RunFolder.open(tmp_path).read_config() == load_config(backend, models=False)


@pytest.mark.parametrize("backend", OLD)
def test_a_comparison_of_before_is_the_comparison_of_today(backend: str, tmp_path: Path) -> None:
    def study(*settings: str) -> Study:
        beds = {"tiny": load_config(backend, settings, models=False)}
        return Study(beds, find_methods(["average"]), seeds=1, evaluations=1, folder=tmp_path)

    now = study()._description()
    then = now["blocks"]["tiny"]["backend"]
    tiny = then.pop("sources")["tiny"]
    then |= {f"tiny_{option}": value for option, value in tiny.items()}
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(now))
    study()
    with pytest.raises(RunError, match=r"blocks\.tiny\.backend\.sources\.tiny\.seed changed"):
        study("backend.sources.tiny.seed=1")


def test_used_schemes_are_written_out_and_unused_ones_left_out() -> None:
    data = preset("segmentation")["backend"] | {"sources": {}}
    assert parse_config({"backend": data}).backend.sources == {"tiny": TinySegmentation()}
    models = {"base": "base", "experts": {"leaf": "leaf"}, "tasks": {"leaf": {"data": "leaf"}}}
    for options, kept in (({"seed": 0}, {}), ({"seed": 1}, {"tiny": TinySegmentation(seed=1)})):
        own = {"name": "segmentation", **models, "sources": {"tiny": options}}
        assert parse_config({"backend": own}).backend.sources == kept


def test_settings_with_schemes_travel_to_workers() -> None:
    config = load_config("llm", ["backend.sources.tiny.seed=3"], models=False)
    assert pickle.loads(pickle.dumps(config.backend)) == config.backend


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sources.tiny.sed=1", "scheme 'tiny': unknown key 'sed'; did you mean 'seed'?"),
        ("tiny_sed=1", "scheme 'tiny': unknown key 'sed'; did you mean 'seed'?"),
        ("sources.tiny.tasks=5", "scheme 'tiny': 'tasks': Input should be 3, 4 or 6 (got 5)"),
        ("sources.tini.seed=1", "unknown scheme 'tini'; did you mean 'tiny'? Installed: tiny"),
        ("sources.tiny=3", "scheme 'tiny': Input should be a valid dictionary"),
        ("sources=3", "'sources': Input should be a valid dictionary"),
        ("base=tini://base", "base: unknown scheme 'tini'; did you mean 'tiny'?"),
        ("base=tiny://bass", "base: no 'tiny://bass'; did you mean 'base'?"),
        ("tasks.os.data=tiny://oss.jsonl", "task 'os': no 'tiny://oss.jsonl'; did you mean 'os.j"),
        (
            "experts.os=tiny://sed",
            "expert 'os': no 'tiny://sed' in a zoo of 3 tasks; set sources.tiny.tasks to 6",
        ),
    ],
)
def test_mistakes_are_told_with_what_is_near(change: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("llm", [f"backend.{change}"])
    assert message in str(caught.value)


def test_a_backend_s_first_preset_is_a_scheme_s() -> None:
    assert find_preset("llm") == "qdmerge_zoo/presets/llm-tiny.yaml"
    assert find_preset("segmentation") == "qdmerge_zoo/presets/segmentation-tiny.yaml"
    assert list(presets_for("segmentation"))[-1] == "segmentation-folders"
    assert presets_for("toy") == {"toy-three": "qdmerge_toy_presets/toy.yaml"}
    assert set(presets_for("llm")) == set(Tiny.presets["llm"])


def test_the_zoo_has_nothing_for_other_backends() -> None:
    with pytest.raises(ConfigError, match="'tiny://' has nothing for backend 'toy', only for llm"):
        scheme_of("tiny://base", "toy")


class Shelf(Scheme):
    """A third party's scheme."""

    presets: ClassVar[Mapping[str, Mapping[str, str]]] = {"toy": {"toy-shelf": "shelf/it.yaml"}}

    row: int

    def problem(self, source: str, what: SourceKind) -> str | None:
        return None if what == "data" else "the shelf holds data alone"

    def resolve(self, source: str, progress: Progress) -> Path:
        progress("shelf", self.row, self.row)
        return Path(source.removeprefix("shelf://"))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(name: str, value: str) -> None:
        ours = list(plugins.installed("qdmerge.backends").values())
        points = EntryPoints([*ours, EntryPoint(name, value, "qdmerge.sources")])
        monkeypatch.setattr(plugins, "_scan", lambda path: points)

    return install


def test_a_third_party_s_scheme_serves_any_backend(installed: Any) -> None:
    installed("shelf", f"{__name__}:Shelf")
    data = preset_of_folders() | {"sources": {"shelf": {"row": 2}}}
    backend = parse_config({"backend": data}).backend
    assert backend.sources == {"shelf": Shelf(row=2)}
    told: list[tuple[str, int, int]] = []
    backend.prepare(lambda *stage: told.append(stage))
    assert told == [("shelf", 2, 2)]
    assert backend.problems() == ["base: the shelf holds data alone"]
    assert backend.multitask() is None
    assert backend.training_cost() is None
    assert list(presets_for("toy")) == ["toy-shelf", "toy-three"]
    with pytest.raises(ConfigError, match="scheme 'shelf': 'row' is missing"):
        parse_config({"backend": data | {"sources": {}}})


def preset_of_folders() -> dict[str, Any]:
    return {
        "name": "segmentation",
        "base": "shelf://base",
        "experts": {"leaf": "owner/model"},
        "tasks": {"leaf": {"data": "shelf://base"}},
    }


def test_a_scheme_that_cannot_be_used_says_why(installed: Any) -> None:
    installed("broken", "no_such_module:Scheme")
    with pytest.raises(ConfigError, match=r"'broken' \(no_such_module:Scheme\) cannot be imported"):
        find_scheme("broken")
    assert "toy-three" in presets(), "a broken scheme must not hide the backends' presets"
    installed("wrong", "pathlib:Path")
    with pytest.raises(ConfigError, match=r"'wrong' of qdmerge\.sources must name a Scheme"):
        find_scheme("wrong")
