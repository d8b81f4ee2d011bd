"""`qdmerge compare`, as a user meets it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.compare import find_methods
from qdmerge.compare._summary import COSTS
from qdmerge.runs import read_events

QUICK = ["--set", "final.leading=1", "--set", "final.bootstrap=100", "--workers", "2"]
METHODS = ["--methods", "random,cma_es,nsga2,m2n2,map_elites,config"]


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "out"
    code, output = call(
        "compare", "toy", *METHODS, "--seeds", 3, "--evaluations", 15, "--out", out,
        "--vary", "backend.dim=4,5", *QUICK,
    )  # fmt: skip
    assert code == 0, output
    return out, output


def test_the_page_the_data_the_table_and_the_figures_are_there(done):
    out, output = done
    assert (out / "compare.md").read_text().splitlines()[0] in output
    summary = json.loads((out / "compare.json").read_text())
    assert list(summary["methods"]) == METHODS[1].split(",")
    assert summary["reference"] == "config"
    with (out / "runs.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 * 3 * 2 * 3  # methods, seeds, test beds, criteria
    assert {line["block"] for line in lines} == {"dim=4", "dim=5"}
    assert len(list((out / "figures").glob("*.png"))) >= 2


def test_given_again_it_only_reads(done):
    out, _ = done
    before = (out / "evaluations.jsonl").read_bytes()
    first = json.loads((out / "compare.json").read_text())
    code, output = call(
        "compare", "toy", *METHODS, "--seeds", 3, "--evaluations", 15, "--out", out,
        "--vary", "backend.dim=4,5", *QUICK,
    )  # fmt: skip
    assert code == 0, output
    assert (out / "evaluations.jsonl").read_bytes() == before
    assert json.loads((out / "compare.json").read_text()) == first


def test_few_seeds_carry_no_star(done):
    code, output = call(
        "compare", "toy", "--methods", "random,config", "--seeds", 2, "--evaluations", 10,
        "--out", done[0].parent / "few", *QUICK,
    )  # fmt: skip
    assert code == 0, output
    assert "too few pairs" in output
    assert " * |" not in output


def test_killed_and_given_again_it_ends_the_same(tmp_path):
    def arguments(out):
        return [
            "compare", "toy", "--methods", "random,config", "--seeds", "2", "--evaluations", "12",
            "--out", str(out), "--set", "backend.delay=0.05", *QUICK,
        ]  # fmt: skip

    process = subprocess.Popen(
        [sys.executable, "-m", "qdmerge.cli", *arguments(tmp_path / "killed")],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    log = tmp_path / "killed" / "evaluations.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size > 4000) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    begun = len(read_events(log))
    assert begun
    assert not (tmp_path / "killed" / "compare.json").exists()
    for name in ("killed", "whole"):
        # Here, with one worker: processes take seconds to begin, and results know nothing of them.
        code, output = call(*arguments(tmp_path / name), "--workers", "1")
        assert code == 0, output
    found = [
        json.loads((tmp_path / name / "compare.json").read_text()) for name in ("killed", "whole")
    ]
    for one in found:
        for method in one["methods"].values():
            for timed in (*COSTS, "most_seconds"):
                del method[timed]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "nsga3"], "unknown method 'nsga3'; did you mean 'nsga2'?"),
        (["--methods", ""], "no method to compare; known: experts, average"),
        (["--methods", "random", "--seeds", "0"], "seeds must be at least 1; got 0"),
        (["--methods", "random", "--evaluations", "0"], "evaluations must be at least 1; got 0"),
        (["--methods", "random", "--workers", "0"], "workers must be at least 1; got 0"),
        (["--methods", "random", "--reference", "randm"], "methods; did you mean 'random'?"),
        (["--methods", "random", "--vary", "backend.dim"], "is not of the form key=value,value"),
        (
            ["--methods", "random", "--vary", "backend.dime=4"],
            "unknown key 'dime'; did you mean 'dim'?",
        ),
        (["--methods", "ties,random"], "method 'ties' merges weights, but backend 'toy'"),
        (
            ["--methods", "config", "--evaluations", "8"],
            "method 'config': a budget of 8 evaluations",
        ),
        (["--methods", "random", "--seconds", "0"], "seconds must be a number above 0; got 0"),
        (["--methods", "adamerging"], "needs a guide with the loss 'entropy', which backend 'toy'"),
        (
            ["--methods", "guided", "--set", "backend.has_guide=false"],
            "method 'guided' needs a guide with the loss 'agreement', which backend 'toy'",
        ),
        (["--methods", "finetune"], "with these settings does not train one model on all tasks"),
    ],
)
def test_wrong_input_is_one_line_each(tmp_path, arguments, message):
    code, output = call("compare", "toy", "--out", tmp_path / "out", *arguments)
    assert code == 2, output
    assert message in output
    assert "Traceback" not in output


def test_the_methods_that_are_compared_by_default_are_known():
    command = get_command(app).get_command(None, "compare")
    (methods,) = (option for option in command.params if option.name == "methods")
    assert {"paper", "recommended"} < {*find_methods(methods.default.split(","))}


def test_a_failing_method_is_shown_and_ends_with_an_error(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        "broken:\n  changes:\n    backend: {name: toy, n_tasks: 3, fault_rate: 1}\n"
        "    execution: {workers: 1, in_flight: 1, retries: 0, max_failures: 2}\n"
    )
    code, output = call(
        "compare", "toy", "--methods", f"random,{broken}", "--reference", "random", "--seeds", 1,
        "--evaluations", 12, "--out", tmp_path / "out", *QUICK,
    )  # fmt: skip
    assert code == 1
    assert "## Failed runs" in output
    assert "2 evaluations failed in a row" in output


def test_a_budget_of_seconds_ends_searches_and_all_costs_are_told(tmp_path):
    arguments = [
        "compare", "toy", "--methods", "guided,random", "--seeds", 1, "--evaluations", 60,
        "--seconds", 0.4, "--out", tmp_path / "out", "--set", "backend.delay=0.02",
        *QUICK[:4], "--workers", 1,
    ]  # fmt: skip
    code, output = call(*arguments)
    assert code == 0, output
    summary = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert summary["budget_seconds"] == 0.4
    told = summary["methods"]
    assert told["random"]["evaluations"] < 60
    assert told["random"]["passes"] == 0
    assert told["random"]["evaluating"] > 0.4
    assert told["guided"]["passes"] >= 200
    assert told["guided"]["guiding"] > 0
    with (tmp_path / "out" / "runs.csv").open() as file:
        lines = {line["method"]: line for line in csv.DictReader(file)}
    for name, method in told.items():
        for cost in ("passes", "evaluating", "guiding", "preparing"):
            assert float(lines[name][cost]) == method[cost]
    arguments[arguments.index(0.4)] = 0.5
    code, output = call(*arguments)
    assert code == 2
    assert "of another configuration: seconds changed" in " ".join(output.split())
