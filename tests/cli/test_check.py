"""``qdmerge check`` finds parts that cannot work, without models; exit statuses; small comforts."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import yaml
from qdmerge_toy import ToyBackend

from qdmerge.cli import app
from tests.cli.test_commands import call

BROKEN = {
    "unknown es": ({"emitters": [{"name": "cma_es", "es": "cmaes"}]}, "`cmaes`"),
    "unknown ranker": ({"emitters": [{"name": "cma_es", "ranker": "best"}]}, "`best`"),
    "ranker without novelty": ({"emitters": [{"name": "cma_es", "ranker": "nov"}]}, "novelty"),
    "ranker without bounds": (
        {"archive": "dns", "emitters": [{"name": "cma_es", "ranker": "rd"}]},
        "DNSArchive has none",
    ),
    "axes": ({"archive": {"name": "grid", "bins": [3, 3, 3], "learning_rate": 2}}, "learning_rate"),
    "archive of another kind": ({"archive": "categorical"}, "categories for axes"),
    "scheduler of pyribs": ({"scheduler": "ribs.schedulers:Scheduler"}, "emitters of one archive"),
    "restart": ({"emitters": [{"name": "cma_es", "restart_rule": "never"}]}, "never"),
    "operator": ({"emitters": [{"name": "genetic", "operator": "gausian"}]}, "gausian"),
    "operator's option": (
        {"emitters": [{"name": "genetic", "operator_kwargs": {"sgma": 1}}]},
        "sgma",
    ),
    "guided twice": (
        {"emitters": [{"name": "merge", "mutation": ["guided", "guided"]}]},
        "climbs once",
    ),
    "mutation of another space": (
        {"space": "core", "emitters": [{"name": "merge", "mutation": "svd"}]},
        "space 'core' does not have",
    ),
    "centroids": ({"archive": {"name": "cvt", "centroids": 0}}, "archive of task"),
    "capacity": ({"archive": {"name": "dns", "capacity": 0}}, "capacity"),
}


@pytest.mark.parametrize(("changes", "message"), BROKEN.values(), ids=list(BROKEN))
def test_check_finds_parts_that_cannot_work(changes, message, tmp_path, monkeypatch):
    monkeypatch.setattr(ToyBackend, "evaluate", None)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"backend": "toy", **changes}))
    code, output = call("check", path)
    assert (code, message in " ".join(output.split())) == (2, True), output
    assert "Traceback" not in output


def test_check_finds_all_of_them_at_once(tmp_path):
    path = tmp_path / "study.yaml"
    emitters = [{"name": "cma_es", "es": "one"}, "gaussian", {"name": "cma_es", "ranker": "two"}]
    path.write_text(yaml.safe_dump({"backend": "toy", "emitters": emitters}))
    code, output = call("check", path)
    assert code == 2
    assert "`one`" in output
    assert "`two`" in output


KNOWN = {
    "unknown task": ({"scheduler": {"name": "fixed", "task": "cding"}}, "did you mean 'coding'"),
    "axes": (
        {"archive": {"name": "grid", "bins": [3]}},
        "bins must be one number",
    ),
    "axes of pyribs": (
        {"archive": {"name": "ribs.archives:GridArchive", "dims": [4] * 3}},
        "same length",
    ),
    "bounds": ({"emitters": ["bayesian"]}, "emitter of task 'coding'"),
}


@pytest.mark.parametrize("names", [["coding", "db", "os"]])
@pytest.mark.parametrize(("changes", "message"), KNOWN.values(), ids=list(KNOWN))
def test_check_knows_the_tasks_of_a_backend(changes, message, names, tmp_path, monkeypatch):
    from qdmerge_toy import ToyConfig

    monkeypatch.setattr(ToyConfig, "names", lambda self: names)
    sources = {name: name for name in ("base", *names)}
    monkeypatch.setattr(ToyConfig, "model_sources", lambda self: sources)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"backend": "toy", **changes}))
    code, output = call("check", path)
    assert (code, message in " ".join(output.split())) == (2, True), output


SEARCHES = ("paper", "released", "recommended", "unguided")
SOUND = [
    ("toy", None),
    ("segmentation-tiny", None),
    ("llm-tiny", None),
    *(("llm-tiny", search) for search in SEARCHES),
]


@pytest.mark.parametrize(("source", "search"), SOUND)
def test_check_lets_sound_studies_pass(source, search):
    code, output = call("check", source, *(["--search", search] if search else []))
    assert (code, "is fine" in output) == (0, True), output


def test_the_version_is_told():
    assert call("--version") == (0, f"qdmerge {version('qdmerge')}\n")


def test_lists_are_not_padded_where_nobody_looks():
    code, output = call("list")
    assert code == 0
    assert not [line for line in output.splitlines() if line != line.rstrip()]
    assert "  dns  dominated novelty search" in output


def test_shells_can_complete():
    names = {name for parameter in _group().params for name in parameter.opts}
    assert {"--install-completion", "--show-completion", "--version"} <= names


def _group():
    import typer

    return typer.main.get_command(app)


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "no/such/run"],
        ["resume", "no/such/run"],
        ["report", "no/such/run"],
        ["export", "no/such/run"],
        ["run", "no-such-preset"],
        ["run", "toy", "--set", "archive=gird"],
        ["run", "toy", "--space", "spectral"],
        ["run", "toy", "--set", "emitters=[{name: cma_es, ranker: nov}]"],
        ["run", "toy", "--evaluations", "0"],
        ["run", "toy", "--evaluations", "many"],
        ["check", "toy", "--set", "seed=-1"],
        ["list", "nothing"],
        ["copy", "no-such-preset", "x.yaml"],
        ["experts", "toy"],
        ["nothing"],
    ],
    ids=" ".join,
)
def test_a_mistake_of_the_user_s_ends_with_2(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments)[0] == 2


def test_evaluations_that_fail_end_with_1(tmp_path):
    faults = ["--set", "backend={name: toy, fault_rate: 1.0}", "--set", "execution.retries=0"]
    code, output = call("run", "toy", "--out", tmp_path / "run", *faults)
    assert (code, "failed in a row" in output) == (1, True)
