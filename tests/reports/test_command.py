"""`qdmerge report` and the end of `qdmerge run`: which figures are drawn and told."""

from __future__ import annotations

import shutil

import pytest
from qdmerge_toy import ToyBackend

from tests.cli.test_commands import QUICK, call
from tests.reports.test_draw import FINISHED, FROM_LOG


@pytest.fixture
def copy(run_of, tmp_path):
    """A finished run with the figures of its log alone."""
    path = shutil.copytree(run_of("two tasks").path, tmp_path / "run")
    shutil.rmtree(path / "figures", ignore_errors=True)
    return path


def listed(output: str) -> list[str]:
    return [line.strip() for line in output.splitlines() if line.startswith("  figures")]


def broken(self, *arguments):
    raise ValueError("no [brush]\nanywhere")


def test_a_run_lists_the_backends_figures_with_the_others(tmp_path):
    code, output = call("run", "toy", "--evaluations", 4, "--out", tmp_path / "run", *QUICK)
    assert code == 0, output
    assert listed(output) == [f"figures/{name}" for name in (*FINISHED, "plane.png")]
    assert "drawing examples" in output
    assert "Warning" not in output


def test_a_run_whose_backend_cannot_draw_ends_well_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(ToyBackend, "illustrate", broken)
    monkeypatch.setattr("qdmerge.runs.draw_figures", lambda folder: [])  # takes seconds
    code, output = call("run", "toy", "--evaluations", 4, "--out", tmp_path / "run", *QUICK)
    assert code == 0, output
    (warning,) = (line for line in output.splitlines() if "Warning" in line)
    assert warning.startswith("Warning: the backend's examples could not be drawn: ValueError: no")
    assert "no [brush] anywhere" in warning
    assert "results.json" in output


def test_a_report_draws_from_the_log_alone(copy, monkeypatch):
    (copy / "results.json").unlink()
    (copy / "figures").mkdir()
    (copy / "figures" / "plane.png").write_bytes(b"drawn before")
    monkeypatch.setattr(ToyBackend, "__init__", broken)
    code, output = call("report", copy)
    assert code == 0, output
    assert listed(output) == [f"figures/{name}" for name in (*FROM_LOG, "plane.png")]
    assert (copy / "figures" / "plane.png").read_bytes() == b"drawn before"


def test_a_report_with_examples_has_the_backend_draw_too(copy, monkeypatch):
    monkeypatch.setattr("qdmerge.runs.draw_figures", lambda folder: [])
    code, output = call("report", copy, "--examples")
    assert code == 0, output
    assert "drawing examples" in output
    assert listed(output) == ["figures/plane.png"]
    assert (copy / "figures" / "plane.png").is_file()


def one_error(output: str) -> str:
    (error,) = (line for line in output.splitlines() if line.startswith("Error: "))
    assert output.endswith(error + "\n")
    assert "Traceback" not in output
    return error


def test_examples_of_a_backend_that_draws_none(copy, monkeypatch):
    monkeypatch.delattr(ToyBackend, "illustrate")
    code, output = call("report", copy, "--examples")
    assert code == 2
    assert "ToyBackend draws no examples" in one_error(output)


def test_examples_that_cannot_be_drawn_or_have_no_results_yet(copy, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ToyBackend, "illustrate", broken)
        code, output = call("report", copy, "--examples")
    assert code == 2
    assert "could not be drawn: ValueError: no [brush] anywhere" in one_error(output)
    (copy / "results.json").unlink()
    code, output = call("report", copy, "--examples")
    assert code == 2
    assert "has no results yet" in one_error(output)
