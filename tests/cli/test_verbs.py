"""Commands and kinds that packages bring, hints, and progress."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from qdmerge.cli import app, show_progress
from qdmerge.errors import hint_renamed
from qdmerge.runs import RunProgress

PLUGIN = """
import typer
from qdmerge.cli import Source, console, new_folder
from qdmerge.errors import ConfigError, hint_renamed

def greet(source: Source, loud: bool = False) -> None:
    "Greet a source."
    if source == "nobody":
        raise ConfigError("nobody is there")
    for _ in range(2):
        hint_renamed("greet", "hello")
    console.print(f"hello {source}" + "!" * loud)

zoo = typer.Typer(help="A zoo.")

@zoo.command()
def feed() -> None:
    console.print("fed")

@zoo.command()
def close() -> None:
    console.print("closed")

def animals():
    return [("lion", "roars")]

number = 5
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "qdmerge_greeting.py").write_text(PLUGIN)
    info = tmp_path / "qdmerge_greeting-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: qdmerge-greeting\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "[qdmerge.commands]\n"
        "greet = qdmerge_greeting:greet\n"
        "zoo = qdmerge_greeting:zoo\n"
        "run = qdmerge_greeting:greet\n"
        "gone = qdmerge_absent:run\n"
        "number = qdmerge_greeting:number\n"
        "[qdmerge.catalog]\n"
        "animals = qdmerge_greeting:animals\n"
        "plants = qdmerge_absent:plants\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


@pytest.mark.usefixtures("plugin")
def test_a_package_brings_a_function_or_an_app_as_a_command():
    code, output = call("greet", "you", "--loud")
    assert (code, output.splitlines()[-1]) == (0, "hello you!")
    assert call("zoo", "feed") == (0, "fed\n")
    assert call("greet", "nobody") == (2, "Error: nobody is there\n")
    code, output = call("greet", "--help")
    assert (code, "Greet a source." in output) == (0, True)


@pytest.mark.usefixtures("plugin")
def test_a_command_that_cannot_be_imported_is_one_line_and_hides_no_other():
    code, output = call("--help")
    assert code == 0
    for name in ("list", "run", "compare", "greet", "zoo"):
        assert f" {name} " in output
    assert " gone " not in output
    lines = [line for line in output.splitlines() if line.startswith("Warning")]
    skipped = "Warning: skipped the command"
    assert lines == [
        f"{skipped} 'gone' (qdmerge_absent:run): No module named 'qdmerge_absent'",
        f"{skipped} 'number' (qdmerge_greeting:number): it is of type int, not a function or a "
        "Typer app",
    ]
    code, output = call("gone")
    assert code == 2
    assert "No such command 'gone'" in output
    assert "Traceback" not in output


@pytest.mark.usefixtures("plugin")
def test_our_own_commands_cannot_be_replaced():
    code, output = call("run", "tyo")
    assert (code, "neither a file nor a preset" in output) == (2, True)


@pytest.mark.usefixtures("plugin")
def test_a_package_brings_a_kind_of_the_list():
    assert call("list", "animals")[1].split() == ["animals", "lion", "roars"]
    assert "broken: No module named 'qdmerge_absent'" in call("list", "plants")[1]
    code, output = call("list")
    assert code == 0
    assert {"lion", "qdmerge_absent:plants", "methods", "nsga2"} <= {*output.split()}


@pytest.mark.usefixtures("plugin")
def test_a_hint_is_one_line_once():
    _, output = call("greet", "you")
    assert output.splitlines() == ["Warning: 'greet' is now 'hello'", "hello you"]


def test_the_former_name_of_a_kind_is_read_with_a_hint():
    _, output = call("list", "recipes")
    assert output.splitlines()[0] == "Warning: 'recipes' is now 'searches'"
    assert {"paper", "released", "recommended"} <= {*output.split()}
    assert output.splitlines()[1:] == call("list", "searches")[1].splitlines()


def test_other_warnings_are_left_alone(monkeypatch):
    monkeypatch.setattr(
        "qdmerge.settings.catalog", lambda kinds: warnings.warn("slow", stacklevel=1) or {}
    )
    with pytest.warns(UserWarning, match="slow"):
        assert "Warning" not in call("list")[1]


def test_the_recipe_of_a_search_has_two_spellings(tmp_path):
    for option in ("--search", "--recipe"):
        code, output = call("check", "toy", option, "papr")
        assert (code, "did you mean 'paper'?" in output) == (2, True)


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_a_line_per_stage_or_a_live_view(terminal):
    stats = {"a": {"best": 0.5, "elites": 3, "coverage": 0.1, "qd_score": 2.0}}
    console = Console(force_terminal=terminal, width=100, record=True)
    with show_progress(console) as listener:
        listener(RunProgress("seeds", 0, 0))
        for done in range(5):
            listener(RunProgress("search", done, 4, task="a", failed=done // 4, stats=stats))
        listener(RunProgress("test", 0, 3))
    lines = console.export_text().splitlines()
    if terminal:
        assert any("test" in line and "0/3" in line for line in lines)
        return
    assert lines[0] == "seeds"
    assert lines[1] == "search  0/4  active a  best a 0.500  QD score 2.00"
    last = "search  4/4  active a  best a 0.500  QD score 2.00  1 failed  0:00 left"
    assert lines[2:] == [last, "test  0/3"]


def test_hints_reach_python_as_warnings():
    with pytest.warns(FutureWarning, match="'old' is now 'new'"):
        hint_renamed("old", "new")
