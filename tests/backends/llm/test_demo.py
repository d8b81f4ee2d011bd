"""The tiny preset from the command line to an exported model, for real; takes minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qdmerge_llm import sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sandbox.available() is not None, reason=f"no sandbox: {sandbox.available()}"
    ),
]


def plain_scores(model_folder: Path, run_folder: Path, split: str) -> dict[str, float]:
    """Scores of an exported model with nothing of ours but the items and the execution."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from qdmerge.runs import BuildBackend, RunFolder

    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder, padding_side="left")
    scores = {}
    for task in BuildBackend(RunFolder.open(run_folder).read_config())().llm_tasks:

        def generate(prompts: Any, task: Any = task) -> list[str]:
            texts = []
            for start in range(0, len(prompts), 50):
                inputs = tokenizer(
                    list(prompts[start : start + 50]),
                    return_tensors="pt",
                    padding=True,
                    return_token_type_ids=False,
                )
                outputs = model.generate(
                    **inputs, max_new_tokens=task.max_new_tokens, do_sample=False
                )
                new = outputs[:, inputs["input_ids"].shape[1] :]
                texts += tokenizer.batch_decode(new, skip_special_tokens=True)
            return texts

        scores[task.task.name] = float(task.kind.evaluate(task.items[split], generate).mean())
    return scores


def test_the_exported_model_reproduces_its_test_scores_with_plain_transformers(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "qdmerge.cli", "run", "llm", "--out", str(run)]
    command += ["--evaluations", "9", "--set", "final.leading=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads((run / "results.json").read_text())
    chosen = next(row for row in results["candidates"] if row["name"] == results["chosen"])
    reloaded = plain_scores(run / "model", run, "test")
    # Other batches may round differently, and flip an answer where two tokens tie.
    assert reloaded == pytest.approx(chosen["test"], abs=0.005)
