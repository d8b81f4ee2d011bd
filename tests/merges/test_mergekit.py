"""Our recipes against mergekit's own output on tiny real checkpoints.

mergekit is installed in a virtual environment of its own, or reused from the one that
``QDMERGE_MERGEKIT_VENV`` names.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qdmerge.checkpoints import TaskVectors
from qdmerge.merges import Axes, DareSpace, DareTiesSpace, SlerpSpace, TiesSpace, draws
from qdmerge.merges import grid as recipe_grid
from qdmerge.spaces import ExpertSpace, WeightSpace

pytestmark = [pytest.mark.slow, pytest.mark.mergekit]

MERGEKIT = "mergekit==0.1.5"
EXPERTS = ("coding", "db", "os")
WEIGHTS = (0.7, 0.3, 0.5)
SEED = 5
SPACES = {
    "linear": ExpertSpace,
    "task_arithmetic": ExpertSpace,
    "ties": TiesSpace,
    "dare_linear": DareSpace,
    "dare_ties": DareTiesSpace,
    "slerp": SlerpSpace,
}
#: Name to mergekit's method, its parameters, and our x.
CASES: dict[str, tuple[str, dict[str, Any], list[float]]] = {
    "average": ("linear", {"weight": [1, 1, 1]}, [1 / 3] * 3),
    "linear": ("linear", {"weight": [0.5, 0.2, 0.3]}, [0.5, 0.2, 0.3]),
    "task arithmetic": ("task_arithmetic", {"weight": WEIGHTS}, [*WEIGHTS]),
    **{
        f"ties {density} {scale}": (
            "ties",
            {"weight": WEIGHTS, "density": density, "lambda": scale},
            [*WEIGHTS, density, scale],
        )
        for density, scale in ((0.2, 1.0), (0.5, 1.4), (0.7, 0.6), (1.0, 1.0))
    },
    **{
        f"{method} {density}": (
            method,
            {"weight": WEIGHTS, "density": density},
            [*WEIGHTS, density],
        )
        for method in ("dare_linear", "dare_ties")
        for density in (0.1, 0.5, 0.9, 1.0)
    },
    "slerp chain": ("slerp", {"t": [1 / 2, 1 / 3]}, recipe_grid("slerp", 3, Axes(scales=[1.0]))[0]),
    "slerp unequal": ("slerp", {"t": [0.2, 0.7]}, [1.0, 0.2, 0.7]),
}


def run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or "no output")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with mergekit."""
    venv = Path(os.environ.get("QDMERGE_MERGEKIT_VENV") or tmp_path_factory.mktemp("mergekit"))
    python = venv / "bin" / "python"
    torch_version = f"torch=={torch.__version__.partition('+')[0]}"
    try:
        if not python.exists():
            run(sys.executable, "-m", "venv", venv)
        run(python, "-m", "pip", "install", "--quiet", torch_version)
        run(python, "-m", "pip", "install", "--quiet", MERGEKIT, torch_version)
    except RuntimeError as error:
        last = str(error).splitlines()[-1]
        pytest.skip(f"{MERGEKIT} cannot be installed: {last}")
    return python


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A tiny Llama and three perturbed ones, far enough apart that SLERP follows an arc."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        model = LlamaForCausalLM(config)
    root, generator = tmp_path_factory.mktemp("zoo"), torch.Generator().manual_seed(0)

    def noise(tensor: torch.Tensor) -> torch.Tensor:
        return 0.02 * torch.randn(tensor.shape, generator=generator)

    base = {n: t + noise(t) if t.dim() == 1 else noise(t) for n, t in model.state_dict().items()}
    paths = {}
    for name in ("base", *EXPERTS):
        change = {n: t if name == "base" else t + noise(t) for n, t in base.items()}
        model.load_state_dict(change)
        paths[name] = root / name
        model.save_pretrained(paths[name])
    return paths.pop("base"), paths


def configuration(
    method: str, parameters: dict[str, Any], base: Path, experts: dict[str, Path], out: Path
) -> list[tuple[dict[str, Any], str]]:
    """mergekit's configurations for one case; a chain of SLERPs takes one after another."""
    settings = {"merge_method": method, "dtype": "float32"}
    if method != "slerp":
        own, shared = (
            {key: parameters[key] for key in (name,) if key in parameters}
            for name in ("density", "lambda")
        )
        models = [
            {"model": str(path), "parameters": {"weight": weight, **own}}
            for path, weight in zip(experts.values(), parameters["weight"], strict=True)
        ]
        if method != "linear":
            settings["base_model"] = str(base)
        return [({**settings, "models": models, "parameters": shared}, str(out))]
    first, *others = experts.values()
    steps = []
    for number, (other, t) in enumerate(zip(others, parameters["t"], strict=True), start=2):
        target = out if number == len(experts) else out.with_name(f"{out.name} {number}")
        steps.append(
            (
                {
                    **settings,
                    "base_model": str(first),
                    "models": [{"model": str(first)}, {"model": str(other)}],
                    "parameters": {"t": t},
                },
                str(target),
            )
        )
        first = target
    return steps


@pytest.fixture(scope="module")
def merged(
    python: Path, zoo: tuple[Path, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with mergekit's merge of every case."""
    root = tmp_path_factory.mktemp("merged")
    base, experts = zoo
    vectors = TaskVectors(base, experts)
    drawn = {
        hashlib.sha256(vectors.delta(expert, name).numpy().tobytes()).hexdigest(): draws(
            SEED, expert, name, vectors.shapes[name]
        )
        for expert in experts
        for name in vectors.names
    }
    save_file(drawn, root / "draws.safetensors")
    merges = [
        step
        for name, (method, parameters, _) in CASES.items()
        for step in configuration(method, parameters, base, experts, root / name)
    ]
    job = root / "job.json"
    job.write_text(json.dumps({"draws": str(root / "draws.safetensors"), "merges": merges}))
    run(python, Path(__file__).with_name("in_mergekit.py"), job)
    return root


@pytest.mark.parametrize("case", CASES)
def test_equal_to_mergekit(
    case: str, merged: Path, zoo: tuple[Path, dict[str, Path]], record_property: Any
) -> None:
    method, _, x = CASES[case]
    options = {"seed": SEED, "rescale": "l1"} if method.startswith("dare") else {}
    space: WeightSpace = SPACES[method](TaskVectors(*zoo), **options)
    theirs = load_file(merged / case / "model.safetensors")
    ours = dict(space.tensors(np.asarray(x)))
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-6)
    largest = max(float((tensor - theirs[name]).abs().max()) for name, tensor in ours.items())
    record_property("largest difference", largest)
    print(f"{case}: largest difference {largest:.2g}")
