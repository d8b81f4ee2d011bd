"""Configurations: mistakes all at once, settings from the command line, exact echo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import yaml
from qdmerge_toy import ToyConfig

from qdmerge import plugins
from qdmerge.backend import BackendConfig
from qdmerge.errors import ConfigError
from qdmerge.settings import (
    RunConfig,
    backend_names,
    find_backend,
    find_preset,
    load_config,
    parse_config,
    presets,
    presets_for,
    read_preset,
)

TOY: dict[str, Any] = {"backend": "toy"}


def mistakes(data: dict[str, Any], *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(data, overrides)
    return str(caught.value).split("\n")


def test_defaults_are_the_paper_s() -> None:
    config = parse_config(TOY)
    assert config.backend == ToyConfig()
    assert (config.archive.name, config.scheduler.name) == ("grid", "cycle")
    assert [part.name for part in config.emitters] == ["merge"]
    assert (config.axes.low_margin, config.axes.high_margin) == (0.85, 1.15)
    assert config.space is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"backend": "tooy"}, "unknown backend 'tooy'; did you mean 'toy'? Installed: "),
        ({"backend": "qqqqq"}, "unknown backend 'qqqqq'. Installed"),
        ({}, "'backend' is missing"),
        ({"backend": None}, "backend needs a name"),
        ({"backend": ["toy"]}, "backend needs a name"),
        ({"backend": {"dim": 3}}, "backend needs a name"),
        ({"backend": {"name": "toy", "dmi": 3}}, "unknown key 'dmi'; did you mean 'dim'?"),
        ({"backend": {"name": "toy", "dim": "x"}}, "backend 'toy': 'dim': Input should be a valid"),
        ({**TOY, "archve": "grid"}, "unknown key 'archve'; did you mean 'archive'?"),
        ({**TOY, "archive": "gird"}, "'archive': unknown archive 'gird'; did you mean 'grid'?"),
        ({**TOY, "archive": {"name": "grid", "bin": 3}}, "unknown key 'bin'; did you mean 'bins'?"),
        ({**TOY, "archive": {"name": "dns", "capacity": "x"}}, "archive 'dns': 'capacity': Input"),
        ({**TOY, "archive": {"bins": 3}}, "'archive.name' is missing"),
        ({**TOY, "archive": 3}, "'archive': Input should be a valid dictionary"),
        ({**TOY, "emitters": ["mrge"]}, "'emitters.0': unknown emitter 'mrge'; did you mean 'merg"),
        (
            {**TOY, "emitters": []},
            "'emitters' is empty, and so is 'start'",
        ),
        ({**TOY, "emitters": ["merge", {"name": "gaussian", "sgma": 1}]}, "did you mean 'sigma'?"),
        ({**TOY, "scheduler": "cyle"}, "unknown scheduler 'cyle'; did you mean 'cycle'?"),
        ({**TOY, "scheduler": {"name": "cycle", "intervl": 2}}, "did you mean 'interval'?"),
        ({**TOY, "space": "spectrl"}, "unknown space 'spectrl'; did you mean 'spectral'?"),
        ({**TOY, "space": {"name": "spectral", "rnk": 2}}, "did you mean 'rank'?"),
        (
            {**TOY, "emitters": [{"name": "merge", "mutation": "svdd"}]},
            "'emitters.0': emitter 'merge': 'mutation.0': unknown mutation 'svdd'; did you mean",
        ),
        (
            {**TOY, "emitters": [{"name": "merge", "mutation": ["none", {"name": "svd", "x": 1}]}]},
            "'emitters.0': emitter 'merge': 'mutation.1': mutation 'svd': unknown key 'x'",
        ),
        (
            {**TOY, "emitters": [{"name": "merge", "selection": "elit"}]},
            "'emitters.0': emitter 'merge': 'selection': unknown selection 'elit'; did you mean",
        ),
        (
            {**TOY, "emitters": [{"name": "merge", "crossover": {"name": "linear", "sgma": 1}}]},
            "'crossover': crossover 'linear': unknown key 'sgma'; did you mean 'sigma'?",
        ),
        ({**TOY, "axes": {"lo_margin": 1}}, "unknown key 'axes.lo_margin'; did you mean 'low_marg"),
        ({**TOY, "axes": {"low_margin": 1.2}}, "'axes.low_margin': Input should be less than or"),
        ({**TOY, "axes": {"ranges": {"task0": [1, 0]}}}, "'axes.ranges.task0': a range must rise"),
        (
            {**TOY, "start": [{"recipe": "plane", "smples": 3}]},
            "unknown key 'start.0.smples'; did you mean 'samples'? Known: batch, concentration, ",
        ),
        ({**TOY, "start": [{"recipe": "tilted", "tilt": 1}]}, "did you mean 'tilts'? Known: "),
        ({**TOY, "start": ["plan"]}, "'start.0': Input tag 'plan' found using 'recipe'"),
        ({**TOY, "execution": {"worker": 2}}, "'execution.worker'; did you mean 'workers'?"),
        ({**TOY, "execution": {"workers": 0}}, "'execution.workers': Input should be greater"),
        ({**TOY, "final": {"choose_by": "meen"}}, "'final.choose_by': Input should be"),
        (
            {**TOY, "final": {"choose_by": "weights"}},
            "'choose_by: weights' needs 'weights'",
        ),
        ({**TOY, "evaluations": "many"}, "'evaluations': Input should be a valid integer"),
        ({**TOY, "seed": -1}, "'seed': Input should be greater than or equal to 0 (got -1)"),
    ],
)
def test_every_mistake_says_where_and_what(data: dict[str, Any], message: str) -> None:
    lines = mistakes(data)
    assert len(lines) == 1
    assert message in lines[0]


def test_all_mistakes_at_once() -> None:
    lines = mistakes(
        {
            "backend": {"name": "toy", "dim": "x", "dmi": 2},
            "archve": "grid",
            "archive": {"name": "grid", "bin": 2, "bins": 0},
            "emitters": ["mrge", {"name": "merge", "mutation": "svdd", "selection": "elit"}],
            "scheduler": "cyle",
            "evaluations": 0,
            "execution": {"workers": 0, "in_flght": 1},
        }
    )
    assert len(lines) == 12
    for named in (
        "'dim'", "'dmi'", "'archve'", "'bin'", "'bins'", "'mrge'", "'svdd'", "'elit'", "'cyle'",
        "'evaluations'", "'execution.workers'", "'execution.in_flght'",
    ):  # fmt: skip
        assert sum(named in line for line in lines) >= 1, named
    # Every line can be read alone.
    assert all(line.startswith(("'", "unknown key '")) for line in lines)


def test_any_class_is_a_part_by_module_and_name() -> None:
    config = parse_config(
        {
            **TOY,
            "archive": {"name": "ribs.archives:SlidingBoundariesArchive", "dims": [4, 4]},
            "emitters": [{"name": "ribs.emitters:GaussianEmitter", "sigma": 0.1}],
            "scheduler": "qdmerge.schedulers:FixedScheduler",
        }
    )
    assert config.archive.options == {"dims": [4, 4]}
    lines = mistakes({**TOY, "archive": "ribs.archives:SlidingBoundariesArchive"})
    assert lines == [
        "'archive': archive 'ribs.archives:SlidingBoundariesArchive': 'dims' is missing"
    ]
    assert (
        "no 'GirdArchive'; did you mean 'GridArchive'?"
        in mistakes({**TOY, "archive": "ribs.archives:GirdArchive"})[0]
    )


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("seed=7", ("seed",), 7),
        ("backend.dim=5", ("backend", "dim"), 5),
        ("archive.bins=[3, 4]", ("archive", "bins"), [3, 4]),
        ("archive=dns", ("archive", "name"), "dns"),
        ("emitters.1.sigma=0.5", ("emitters", 1, "sigma"), 0.5),
        ("emitters.0.mutation.sigma=0.5", ("emitters", 0, "mutation", "sigma"), 0.5),
        ("emitters=[gaussian]", ("emitters",), [{"name": "gaussian"}]),
        ("execution.workers=3", ("execution", "workers"), 3),
        ("execution.timeout=", ("execution", "timeout"), None),
        ("axes.ranges.task0=[0, 2]", ("axes", "ranges", "task0"), [0.0, 2.0]),
        ("scheduler.interval=4", ("scheduler", "interval"), 4),
        ("space.name=layer", ("space", "name"), "layer"),
    ],
)
def test_settings_reach_into_the_configuration(
    override: str, path: tuple[str | int, ...], expected: Any
) -> None:
    data = {
        "backend": "toy",
        "archive": "grid",
        "emitters": [{"name": "merge", "mutation": "gaussian"}, "gaussian"],
    }
    before = json.dumps(data)
    value: Any = parse_config(data, [override]).echo()
    for key in path:
        value = value[key]
    assert value == expected
    assert json.dumps(data) == before, "the data that was passed must not change"


def test_settings_reach_into_defaults() -> None:
    overrides = ["archive.bins=9", "emitters.0.batch_size=3", "scheduler.interval=2"]
    config = parse_config(TOY, overrides)
    assert config.archive.model_dump() == {"name": "grid", "bins": 9}
    assert config.emitters[0].model_dump() == {"name": "merge", "batch_size": 3}
    assert config.scheduler.model_dump() == {"name": "cycle", "interval": 2}
    assert parse_config(TOY).emitters[0].options == {}, "defaults must not change"


def test_later_settings_win() -> None:
    assert parse_config({**TOY, "seed": 1}, ["seed=2", "seed=3"]).seed == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "'seed' is not of the form key=value"),
        ("=3", "'=3' is not of the form key=value"),
        ("emitters.5.sigma=1", "'emitters.5.sigma': a list has positions 0 to 0, not '5'"),
        ("emitters.x=1", "a list has positions 0 to 0, not 'x'"),
        ("seed.deep=1", "'seed.deep': there is nothing called 'deep' inside 0"),
        ("archive.bins=[1", "the value is not valid YAML: [1"),
        ("sead=1", "unknown key 'sead'; did you mean 'seed'?"),
        ("archive.bin=1", "did you mean 'bins'?"),
    ],
)
def test_wrong_settings(override: str, message: str) -> None:
    assert message in mistakes({**TOY, "seed": 0}, override)[0]


FULL = {
    "backend": {"name": "toy", "dim": 3, "fault": "nan"},
    "seed": 5,
    "space": {"name": "spectral", "rank": 4},
    "archive": {"name": "ribs.archives:SlidingBoundariesArchive", "dims": [3, 4]},
    "axes": {"ranges": {"task0": [0, 2.5]}},
    "emitters": [
        "iso_line",
        {
            "name": "merge",
            "selection": {"name": "rank", "pressure": 1.25},
            "mutation": [{"name": "svd", "per": "matrix"}, "gaussian"],
        },
    ],
    "scheduler": {"name": "fixed", "task": "task1"},
    "execution": {"workers": 2, "timeout": 1.5},
    "final": {"choose_by": "weights", "weights": {"task0": 1, "task1": 2}},
}


@pytest.mark.parametrize("data", [TOY, FULL], ids=["short", "full"])
def test_the_echo_is_exact(data: dict[str, Any]) -> None:
    """Through YAML and JSON and back, it is the same configuration."""
    config = parse_config(data)
    echo = config.echo()
    assert set(echo) == set(RunConfig.model_fields)
    assert echo["backend"]["name"] == "toy"
    for again in (echo, yaml.safe_load(yaml.safe_dump(echo)), json.loads(json.dumps(echo))):
        assert parse_config(again) == config
        assert parse_config(again).echo() == echo


def test_a_configuration_cannot_change() -> None:
    config = parse_config(TOY)
    for target, name in ((config, "seed"), (config.axes, "low_margin"), (config.archive, "name")):
        with pytest.raises((ValueError, FrozenInstanceError)):
            setattr(target, name, 1)


def test_every_preset_of_every_backend_is_valid() -> None:
    checked = 0
    for backend in backend_names():
        for name, resource in presets_for(backend).items():
            config = parse_config(yaml.safe_load(read_preset(name)))
            assert config.backend.name == backend, resource
            assert read_preset(name).lstrip().startswith("#"), "a preset is commented"
            checked += 1
    assert checked >= 2
    assert set(backend_names()) >= {"llm", "toy"}


def test_no_preset_file_is_forgotten() -> None:
    """Every YAML beside a preset is a preset of some backend."""
    from importlib.resources import files

    known = set(presets().values())
    for resource in known:
        package, _, path = resource.partition("/")
        folder = (Path(str(files(package))) / path).parent
        for file in folder.rglob("*.yaml"):
            relative = file.relative_to(Path(str(files(package))))
            assert f"{package}/{relative.as_posix()}" in known, file


def test_a_backend_s_name_is_its_first_preset() -> None:
    assert find_preset("toy") == find_preset("toy-three") == "qdmerge_toy_presets/toy.yaml"
    assert load_config("toy", ["seed=3"]).seed == 3
    with pytest.raises(ConfigError, match="'toy-thre' is neither a file nor a preset.*'toy-three'"):
        load_config("toy-thre")


def test_configurations_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("backend: toy\nseed: 3\n")
    assert load_config(path).seed == 3
    assert load_config(str(path), ["seed=4"]).seed == 4
    for text, message in {
        "backend: [": "is not valid YAML",
        "- toy": "must hold keys and values, but holds list",
        "": "must hold keys and values, but holds NoneType",
    }.items():
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    for unreadable in (path, tmp_path / "missing.yaml"):
        with pytest.raises(ConfigError, match="cannot read configuration"):
            load_config(unreadable)


def test_chosen_parts_keep_the_options_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "backend: toy\narchive: {name: grid, bins: 4}\n"
        "emitters: [{name: gaussian, sigma: 0.7}, merge]\n"
    )
    chosen = {"archive": "grid", "emitters": ["iso_line", "gaussian"], "scheduler": None}
    config = load_config(path, parts=chosen)
    assert config.archive.options == {"bins": 4}
    assert [part.model_dump() for part in config.emitters] == [
        {"name": "iso_line"},
        {"name": "gaussian", "sigma": 0.7},
    ]
    assert load_config(path, parts={"archive": "dns"}).archive.options == {}
    assert config.scheduler.name == "cycle"


class NotABackend:
    """An entry point's target of the wrong kind."""


class WithoutPresets(BackendConfig):
    """A backend that can only be used with a configuration file."""

    name = "bare"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(name: str, value: str) -> None:
        points = EntryPoints([EntryPoint(name, value, "qdmerge.backends")])
        monkeypatch.setattr(plugins, "_scan", lambda path: points)

    return install


def test_a_backend_that_cannot_be_used_says_why(installed: Any) -> None:
    installed("broken", "no_such_module:Config")
    with pytest.raises(ConfigError, match=r"'broken' \(no_such_module:Config\) cannot be imported"):
        find_backend("broken")
    assert presets() == {}, "one broken backend must not hide the others' presets"
    installed("wrong", f"{__name__}:NotABackend")
    with pytest.raises(ConfigError, match="'wrong' of qdmerge.backends must name a BackendConfig"):
        find_backend("wrong")
    installed("bare", f"{__name__}:WithoutPresets")
    with pytest.raises(ConfigError, match="'bare' has no preset; give a configuration file"):
        find_preset("bare")


def test_a_third_party_backend_is_found_in_other_processes() -> None:
    """As worker processes and the command line find it."""
    code = "from qdmerge.settings import backend_names; print(*backend_names())"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert set(found.stdout.split()) >= {"llm", "toy"}
