"""Jobs: long work in processes of their own, which report progress and end with their caller.

They are fresh interpreters rather than tasks of the worker pool: a spawned worker would import the
caller's main module again, take the thread limit too late for libraries that are loaded by then,
keep no record of what it printed, and outlive a killed caller until its task is done.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qdmerge import errors
from qdmerge.errors import QDMergeError, RunError
from qdmerge.execution._evaluator import describe

Report = Callable[[dict[str, Any]], None]
"""Receives JSON-able facts."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_TAIL = 4000
"""Bytes of a failed job's last output that its error carries."""


@dataclass(frozen=True)
class Job:
    """A module that runs as ``python -m module arguments...``.

    It prints its reports to stdout, a JSON object per line, as :func:`job_main` does.

    Attributes:
        what: Its work, for messages: "Training base".
        module: Name of the module.
        arguments: Its command line.
    """

    what: str
    module: str
    arguments: Sequence[str] = ()


def run_jobs(jobs: Sequence[Job], processes: int, report: Report) -> None:
    """Run jobs, each in a process of one thread; the first failure ends all.

    No process survives this function, even on Ctrl-C or an error that ``report`` raises.

    Args:
        jobs: Started in this order.
        processes: Jobs that run at a time.
        report: Receives the reports of all jobs, one after the other, in the calling thread.

    Raises:
        QDMergeError: Raised by a job under :func:`job_main`.
        RunError: A job failed otherwise; one line with the cause. Its last output is a note of
            the error.
    """
    lines: queue.SimpleQueue[tuple[_Process, str]] = queue.SimpleQueue()
    waiting = deque(jobs)
    running: list[_Process] = []
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(_Process(waiting.popleft(), lines))
            process, line = lines.get()
            if not line:
                process.finish()
                running.remove(process)
            elif facts := _parse(line):
                if "error" in facts:
                    process.error = facts
                else:
                    report(facts)
    finally:
        for process in running:
            process.close()


def job_main(work: Callable[[Report], None]) -> None:
    """Run a job's work as the main function of its module.

    Other output to stdout goes to stderr. A :class:`~qdmerge.errors.QDMergeError` reaches the
    caller of :func:`run_jobs` as it is, any other error as a RunError.

    Args:
        work: Receives the function that it reports with.
    """
    reports, sys.stdout = sys.stdout, sys.stderr

    def report(facts: dict[str, Any]) -> None:
        print(json.dumps(facts), file=reports, flush=True)

    try:
        work(report)
    except Exception as error:
        traceback.print_exc()
        mine = isinstance(error, QDMergeError)
        report({"error": type(error).__name__, "message": str(error) if mine else describe(error)})
        raise SystemExit(1) from error


class _Process:
    """A running job, whose lines of stdout go to a queue; an empty line is its end."""

    def __init__(self, job: Job, lines: queue.SimpleQueue[tuple[_Process, str]]) -> None:
        self._job = job
        self._lines = lines
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._popen = subprocess.Popen(
            [sys.executable, "-m", job.module, *job.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            encoding="utf-8",
            errors="replace",
            env=os.environ | dict.fromkeys(_THREADS, "1"),
        )
        self.error: dict[str, Any] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stdout:
            for line in stdout:
                self._lines.put((self, line))
        self._lines.put((self, ""))

    def finish(self) -> None:
        """Wait for the end; raise if the job failed."""
        status = self._popen.wait()
        if status:
            raise self._failure(status)
        self.close()

    def _failure(self, status: int) -> QDMergeError:
        kind = getattr(errors, self.error.get("error", ""), None)
        if kind is not None:
            return kind(self.error["message"])
        self._noise.seek(0, os.SEEK_END)
        self._noise.seek(max(0, self._noise.tell() - _TAIL))
        printed = self._noise.read().decode(errors="replace").strip()
        how, cause = "", self.error.get("message")
        if cause is None:
            how = f" ({_ended(status)})"
            cause = printed.splitlines()[-1] if printed else "it printed nothing"
        error = RunError(f"{self._job.what} failed{how}: {cause}")
        error.add_note(f"It printed:\n{printed}")
        return error

    def close(self) -> None:
        """End the process, if it has not ended."""
        self._popen.kill()
        self._popen.wait()
        self._noise.close()


def _ended(status: int) -> str:
    if status > 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name
    return f"killed by {name}" + (", often for want of memory" if name == "SIGKILL" else "")


def _parse(line: str) -> dict[str, Any]:
    """Return a report; {} if the line is anything else, such as output of a library."""
    try:
        facts = json.loads(line)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
