"""Jobs in real processes: their reports, their failures, and that none outlives its caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from qdmerge.errors import ConfigError, RunError
from qdmerge.execution import Job, run_jobs

MakeJob = Callable[..., Job]

PLAIN = """
import json, os, sys, time
def report(**facts):
    print(json.dumps(facts), flush=True)
"""
NAMED = """
from qdmerge.errors import ConfigError
from qdmerge.execution import job_main
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    """Makes jobs of source code: ``job(code, *arguments)``."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    made = iter(range(100))

    def make(code: str, *arguments: str) -> Job:
        module = f"job_of_a_test_{next(made)}"
        (tmp_path / f"{module}.py").write_text(code)
        return Job(f"Counting to {module[-1]}", module, arguments)

    return make


def ignore(facts: dict[str, Any]) -> None:
    pass


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_reports_of_all_jobs_arrive_in_the_calling_thread(job: MakeJob) -> None:
    code = PLAIN + "for n in range(3): report(name=sys.argv[1], n=n)"
    found: list[tuple[str, int]] = []

    def report(facts: dict[str, Any]) -> None:
        assert threading.current_thread() is threading.main_thread()
        found.append((facts["name"], facts["n"]))

    run_jobs([job(code, name) for name in "abc"], 2, report)
    assert sorted(found) == [(name, n) for name in "abc" for n in range(3)]
    assert [n for name, n in found if name == "a"] == [0, 1, 2]


def test_so_many_jobs_run_at_a_time_each_with_one_thread(
    job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = PLAIN + (
        "report(threads=os.environ['OMP_NUM_THREADS'], began=time.monotonic())\n"
        "time.sleep(0.3)\n"
        "report(ended=time.monotonic())"
    )
    found: list[dict[str, Any]] = []
    run_jobs([job(code) for _ in range(4)], 2, found.append)
    assert {facts["threads"] for facts in found if "threads" in facts} == {"1"}
    began = [facts["began"] for facts in found if "began" in facts]
    ended = sorted(facts["ended"] for facts in found if "ended" in facts)
    at_once = [
        sum(b <= moment for b in began) - sum(e <= moment for e in ended) for moment in began
    ]
    assert max(at_once) == 2


def test_a_crash_is_one_line_with_its_cause_and_carries_the_rest(job: MakeJob) -> None:
    crash = job("print('{not a report'); raise ValueError('33 is odd')")
    with pytest.raises(RunError) as caught:
        run_jobs([crash], 1, ignore)
    assert str(caught.value) == "Counting to 0 failed (exit status 1): ValueError: 33 is odd"
    assert "Traceback" in caught.value.__notes__[0]


def test_a_killed_job_says_by_what(job: MakeJob) -> None:
    killed = job("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(RunError, match=r"killed by SIGKILL.*memory\): it printed nothing"):
        run_jobs([killed], 1, ignore)


def test_errors_for_people_come_through_as_they_are(job: MakeJob) -> None:
    code = NAMED + "def work(report): raise ConfigError('image_size: 33 is odd')\njob_main(work)"
    with pytest.raises(ConfigError) as caught:
        run_jobs([job(code)], 1, ignore)
    assert str(caught.value) == "image_size: 33 is odd"


def test_other_errors_become_one_line_and_prints_are_no_reports(job: MakeJob) -> None:
    code = NAMED + (
        "def work(report):\n"
        "    print('{\"n\": 1}')\n"
        "    report({'n': 2})\n"
        "    raise ValueError('33\\n  is odd')\n"
        "job_main(work)"
    )
    found: list[dict[str, Any]] = []
    with pytest.raises(RunError) as caught:
        run_jobs([job(code)], 1, found.append)
    assert str(caught.value) == "Counting to 0 failed: ValueError: 33 is odd"
    assert '{"n": 1}' in caught.value.__notes__[0]
    assert found == [{"n": 2}]


SLEEPER = PLAIN + "report(pid=os.getpid())\ntime.sleep(60)"


def test_a_failure_ends_the_other_jobs(job: MakeJob) -> None:
    failing = job("import time; time.sleep(0.5); raise SystemExit(3)")
    found: list[dict[str, Any]] = []
    never = job(PLAIN + "report(pid=0)")
    with pytest.raises(RunError, match="exit status 3"):
        run_jobs([job(SLEEPER), failing, never], 2, found.append)
    assert len(found) == 1
    assert gone(found[0]["pid"])


def test_an_error_of_the_caller_ends_all_jobs(job: MakeJob) -> None:
    pids: list[int] = []

    def report(facts: dict[str, Any]) -> None:
        pids.append(facts["pid"])
        if len(pids) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([job(SLEEPER), job(SLEEPER)], 2, report)
    assert all(map(gone, pids))


def test_ctrl_c_ends_all_jobs(job: MakeJob) -> None:
    sleeper = job(SLEEPER)
    code = (
        "from qdmerge.execution import Job, run_jobs\n"
        f"jobs = [Job('Sleeping', '{sleeper.module}')] * 2\n"
        "run_jobs(jobs, 2, lambda facts: print(facts['pid'], flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that runs in the background ignores the signal, and what it starts would, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as caller:
        assert caller.stdout is not None
        assert caller.stderr is not None
        pids = [int(caller.stdout.readline()) for _ in range(2)]
        caller.send_signal(signal.SIGINT)  # to the caller alone, as an IDE does
        assert caller.wait(10) != 0
        assert "KeyboardInterrupt" in caller.stderr.read()
    assert all(map(gone, pids))
