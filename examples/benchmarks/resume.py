"""Kills a run at random moments, resumes it, and compares it with an uninterrupted one.

    python examples/benchmarks/resume.py llm-tiny --kills 3 --set evaluations=12

Takes what `qdmerge run` takes: a configuration or a preset, and settings. Whatever the moments are,
both runs must have the same events (with the solutions asked for, their scores and what became of
the archives) and the same results, but for their times.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from qdmerge.runs import RunFolder

QDMERGE = [sys.executable, "-m", "qdmerge.cli"]


def essence(run: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What a run did and found, without times and without the marks that sessions leave."""
    folder = RunFolder(run)
    done = [
        {key: value for key, value in event.items() if key not in ("time", "began", "seconds")}
        for event in folder.read_events()
        if event["event"] not in ("resume", "stop")
    ]
    for event in done:  # each solution is there, and is what its name says
        for identity in event.get("solutions", []):
            folder.solutions.get(identity)
    return done, {k: v for k, v in folder.read_results().items() if k != "seconds"}


def events(run: Path) -> int:
    """How many events a run has logged, the last one perhaps in part."""
    log = run / "events.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def progress(run: Path) -> str:
    """How far a run came, in words."""
    if not (run / "config.yaml").exists():
        return "before its folder was made"
    told = sum(event["event"] == "tell" for event in RunFolder(run).read_events())
    return f"{told} generations told, {events(run)} events"


@contextmanager
def started(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command of qdmerge with its workers in a process group of its own, which ends with this."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*QDMERGE, *arguments], stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def finish(arguments: list[str], log: Path) -> None:
    """A command of qdmerge, to its end."""
    with started(arguments, log) as process:
        if process.wait():
            sys.exit(f"qdmerge {' '.join(arguments)}:\n{log.read_text()}")


def main(
    source: Annotated[str, typer.Argument(help="A backend, a preset, or a YAML file.")],
    kills: Annotated[int, typer.Option(min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    settings: Annotated[list[str], typer.Option("--set", help="As for qdmerge run.")] = [],  # noqa: B006
) -> None:
    """Kill a run at random moments, resume it, and compare it with an uninterrupted one."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the run that is under way, too
    extra = [word for setting in settings for word in ("--set", setting)]
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="qdmerge-resume-") as folder:
        whole, cut, log = (Path(folder) / name for name in ("whole", "cut", "log"))
        began = time.monotonic()
        finish(["run", source, "--out", str(whole), *extra], log)
        seconds = time.monotonic() - began
        print(f"uninterrupted: {progress(whole)}, {seconds:.0f} s", flush=True)

        def arguments() -> list[str]:
            if (cut / "config.yaml").exists():
                return ["resume", str(cut)]
            shutil.rmtree(cut, ignore_errors=True)
            return ["run", source, "--out", str(cut), *extra]

        total = events(whole)
        first, *_, last = (event["time"] for event in RunFolder(whole).read_events())
        for number in range(1, kills + 1):
            begun, verb = events(cut), arguments()
            share = moments.uniform(0, 2 / (kills - number + 2))  # of what is left to do
            target = begun + round(share * (total - begun))
            with started(verb, log) as process:
                while events(cut) < target and process.poll() is None:
                    time.sleep(0.01)
                # And somewhere between two events.
                time.sleep(moments.random() * (last - first) / total)
                if process.poll():
                    sys.exit(f"qdmerge {' '.join(verb)}:\n{log.read_text()}")
                ended = process.poll() is not None
            when = "came too late, it had ended" if ended else progress(cut)
            print(f"kill {number}, of `{verb[0]}`: {when}", flush=True)
        finish(arguments(), log)
        equal = essence(whole) == essence(cut)
        print(f"{'equal' if equal else 'DIFFERENT'}: events, solutions and results of both runs")
        sys.exit(0 if equal else 1)


if __name__ == "__main__":
    typer.run(main)
