"""What everything but evaluation costs; prints what it compared, asserts nothing.

python examples/benchmarks/speed.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qdmerge.runs import BuildBackend, Run, build_search
from qdmerge.settings import load_config


def median_ms(call: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Median and quartiles of the milliseconds of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    low, middle, high = np.percentile(times, [25, 50, 75])
    return middle, low, high


def variation() -> None:
    """Milliseconds to make a child, and the size of its genome."""
    config = load_config("llm-tiny", ["execution.workers=1"])
    backend = BuildBackend(config)()
    search = build_search(config, backend)
    batch = search.ask()
    # The archives' content hardly matters to the time; scores are spread to fill some cells.
    rng = np.random.default_rng(0)
    from qdmerge import Evaluation

    k = len(backend.tasks)
    search.tell(batch, Evaluation(rng.uniform(0.2, 0.9, (len(batch), k))))
    for _ in range(150):
        batch = search.ask()
        search.tell(batch, Evaluation(rng.uniform(0.2, 0.9, (len(batch), k))))

    def ask_and_tell() -> None:
        batch = search.ask()
        search.tell(batch, Evaluation(rng.uniform(0.2, 0.9, (len(batch), k))))

    middle, low, high = median_ms(ask_and_tell, 200)
    print(
        f"variation and archives, ms a child (150 evaluated): {middle:.2f} [{low:.2f}, {high:.2f}]"
    )
    x = batch.solutions[0]
    middle, low, high = median_ms(lambda: backend.evaluate(x[None], "validation"), 5)
    print(f"evaluation on validation, ms a child: {middle:.0f} [{low:.0f}, {high:.0f}]")
    with tempfile.TemporaryDirectory() as folder:
        exported = backend.export(x, Path(folder) / "model")
        weights = sum(file.stat().st_size for file in exported.glob("*.safetensors"))
    print(f"genome {x.nbytes} bytes, checkpoint {weights} bytes: 1/{weights / x.nbytes:.0f}")


def overhead() -> None:
    """Share of a run's wall time that is not evaluation."""
    folder = Path(tempfile.mkdtemp()) / "run"
    config = load_config("llm-tiny", ["execution.workers=1", "evaluations=60"])
    start = time.perf_counter()
    results = Run.create(config, folder).execute()
    total = time.perf_counter() - start
    evaluating = results["seconds"]["evaluating"]
    print(
        f"serial run of 60 evaluations: {total:.0f} s in all, {evaluating:.0f} s evaluating, "
        f"{1 - evaluating / total:.1%} everything else (imports and start included)"
    )
    shutil.rmtree(folder.parent)


def start_up() -> None:
    """Seconds of the quick commands, beside a bare interpreter."""
    commands = {
        "python -c pass": ["-c", "pass"],
        "qdmerge --help": ["-m", "qdmerge.cli", "--help"],
        "qdmerge list": ["-m", "qdmerge.cli", "list"],
    }
    for name, command in commands.items():
        call = [sys.executable, *command]
        middle, low, high = median_ms(lambda c=call: subprocess.run(c, capture_output=True), 7)
        print(f"{name}: {middle:.0f} ms [{low:.0f}, {high:.0f}]")


if __name__ == "__main__":
    print("medians [quartiles]")
    start_up()
    variation()
    overhead()
