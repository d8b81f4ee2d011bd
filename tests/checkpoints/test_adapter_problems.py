"""Bad adapters: every mistake is found from headers and configuration, and all are said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from qdmerge.checkpoints import TaskVectors, checkpoint_problems, weights_digest
from qdmerge.errors import CheckpointError
from tests.trios import Trio, draw, draw_lora, write, write_adapter

SHAPES = {"model.embed_tokens.weight": (9, 4), "model.layers.0.q_proj.weight": (6, 4)}
Q = {"model.layers.0.q_proj": (6, 4)}
GOOD = draw_lora(Q, 2, 1)
HEAD = draw_lora({"head": (6, 8)}, 2, 0)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    config = {"model_type": "llama", "tie_word_embeddings": True, "vocab_size": 9}
    return write(tmp_path / "base", draw(SHAPES, 0), config=config)


def problems(base: Path, adapter: Path) -> list[str]:
    found = checkpoint_problems(base, {"db": adapter})
    if found:
        with pytest.raises(CheckpointError) as raised:
            TaskVectors(base, {"db": adapter})
        assert all(problem in str(raised.value) for problem in found)
    return found


def one_problem(base: Path, adapter: Path) -> str:
    (problem,) = problems(base, adapter)
    return problem


def test_a_good_adapter_has_no_problem(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "db", GOOD)
    assert problems(base, adapter) == []
    assert problems(base, adapter / "adapter_model.safetensors") == []


def test_targets_that_the_base_lacks_are_named(base: Path, tmp_path: Path) -> None:
    other = draw_lora({f"model.layers.{i}.k_proj": (6, 4) for i in range(5)}, 2, 0)
    problem = one_problem(base, write_adapter(tmp_path / "db", GOOD | other))
    assert "model.layers.0.k_proj.weight" in problem
    assert "5 in all" in problem


@pytest.mark.parametrize("shape", [(6, 5), (7, 4)])
def test_other_shapes_are_named(base: Path, tmp_path: Path, shape: tuple[int, int]) -> None:
    tensors = draw_lora({"model.layers.0.q_proj": shape}, 2, 0)
    problem = one_problem(base, write_adapter(tmp_path / "db", tensors))
    assert f"model.layers.0.q_proj.weight (6, 4) -> {shape}" in problem


def test_factors_that_do_not_fit_each_other(base: Path, tmp_path: Path) -> None:
    tensors = GOOD | {"model.layers.0.q_proj.lora_B.weight": torch.zeros(6, 3)}
    assert "other shapes" in one_problem(base, write_adapter(tmp_path / "db", tensors))


@pytest.mark.parametrize("kept", ["A", "B"])
def test_half_a_pair(base: Path, tmp_path: Path, kept: str) -> None:
    tensors = {name: tensor for name, tensor in GOOD.items() if f"lora_{kept}" in name}
    problem = one_problem(base, write_adapter(tmp_path / "db", tensors))
    assert "only one of LoRA's two factors for model.layers.0.q_proj" in problem


def test_ranks_that_the_configuration_does_not_say(base: Path, tmp_path: Path) -> None:
    problem = one_problem(base, write_adapter(tmp_path / "db", GOOD, r=4))
    assert "model.layers.0.q_proj 4 -> 2" in problem
    pattern = {"layers.0.q_proj": 2}
    assert problems(base, write_adapter(tmp_path / "ok", GOOD, r=4, rank_pattern=pattern)) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"use_dora": True}, "DoRA"),
        ({"use_qalora": True}, "QA-LoRA"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "rows of the embedding"),
        ({"alora_invocation_tokens": [1]}, "activated LoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "loftq"}, "'loftq'"),
        ({"r": 0}, "'r'"),
        ({"lora_alpha": "much"}, "'lora_alpha'"),
        ({"rank_pattern": {"(": 3}}, "no regular expression"),
        ({"alpha_pattern": [3]}, "'alpha_pattern'"),
    ],
)
def test_what_cannot_be_merged_says_so(
    base: Path, tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    assert named in one_problem(base, write_adapter(tmp_path / "db", GOOD, **options))


def test_all_of_them_at_once(base: Path, tmp_path: Path) -> None:
    tensors = GOOD | draw_lora({"model.x": (1, 1)}, 2, 0)
    tensors |= {"model.layers.0.q_proj.lora_C": torch.ones(1)}
    tensors |= {"model.embed_tokens.lora_embedding_A": torch.ones(2, 9)}
    found = problems(base, write_adapter(tmp_path / "db", tensors))
    assert [any(word in p for p in found) for word in ("lora_C", "one of", "model.x")] == [True] * 3


def test_an_adapter_without_weights(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "db", {})
    assert "no LoRA weights" in one_problem(base, adapter)
    (adapter / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors is missing" in one_problem(base, adapter)
    (adapter / "adapter_model.bin").write_bytes(b"")
    assert "pickled" in one_problem(base, adapter)
    (adapter / "adapter_config.json").unlink()
    assert "adapter_config.json is missing" in one_problem(base, adapter)


def test_damaged_files(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "db", GOOD)
    config, weights = adapter / "adapter_config.json", adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "truncated" in one_problem(base, adapter)
    config.write_text("{")
    assert "not valid JSON" in one_problem(base, adapter)


def test_a_merged_model_beside_its_adapter_is_a_model(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "db", GOOD, use_dora=True)
    shutil.copy(base / "model.safetensors", folder)
    assert problems(base, folder) == []


def test_an_adapter_is_no_base(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "db", GOOD)
    (problem,) = checkpoint_problems(adapter, {"db": base})
    assert "no model by itself" in problem


def test_another_vocabulary(base: Path, tmp_path: Path) -> None:
    tensors = GOOD | {"model.embed_tokens.weight": torch.zeros(11, 4)}
    problem = one_problem(base, write_adapter(tmp_path / "db", tensors))
    assert "another vocabulary" in problem
    assert "model.embed_tokens.weight 9 -> 11 rows" in problem


def cached(base: Path, root: Path, name: str) -> Path:
    """The base where the Hub's cache would have it."""
    return Path(shutil.copytree(base, root / f"models--{name}" / "snapshots" / "0a1b2c"))


@pytest.mark.parametrize(
    ("made_for", "wrong"),
    [
        ("someone/llama-b", True),
        ("meta/llama-a", False),
        ("copies/Llama-A", False),  # the same model at another owner's
        ("/data/llama-b", False),  # a path says nothing
        ("llama-b", False),
        (None, False),
    ],
)
def test_made_for_another_base(
    base: Path, tmp_path: Path, made_for: str | None, wrong: bool
) -> None:
    adapter = write_adapter(tmp_path / "db", GOOD, base_model_name_or_path=made_for)
    found = problems(cached(base, tmp_path, "meta--llama-a"), adapter)
    assert bool(found) == wrong
    if wrong:
        assert "someone/llama-b" in found[0]
        assert "meta/llama-a" in found[0]
    assert problems(base, adapter) == []  # whose this is cannot be told


def test_trained_on_other_weights(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "db", GOOD)
    record = adapter / "qdmerge.json"
    record.write_text(json.dumps({"base": {"sha256": weights_digest(base)}}))
    TaskVectors(base, {"db": adapter})
    other = write(tmp_path / "other", draw(SHAPES, 5))
    assert weights_digest(other) != weights_digest(base)
    with pytest.raises(CheckpointError, match=r"'db'.*trained on a base of other weights"):
        TaskVectors(other, {"db": adapter})
    record.write_text("[]")
    with pytest.raises(CheckpointError, match="JSON object"):
        TaskVectors(base, {"db": adapter})


def test_digests(trio: Trio, tmp_path: Path) -> None:
    file = trio.base_path / "model.safetensors"
    plain = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True)
    assert weights_digest(trio.base_path) == weights_digest(file) == plain.stdout.split()[0]
    shards = write(tmp_path / "shards", trio.base, shards=2)
    first = weights_digest(shards)
    last = shards / "model-00002-of-00002.safetensors"
    last.write_bytes(last.read_bytes()[:-1] + b"!")
    assert weights_digest(shards) != first
    with pytest.raises(CheckpointError, match="no such file"):
        weights_digest(tmp_path / "nowhere")


def test_number_types_are_stated(base: Path, tmp_path: Path) -> None:
    half = {n: t.half() for n, t in draw(SHAPES, 3).items()}
    mixed = {n: t.bfloat16() if "embed" in n else t for n, t in draw(SHAPES, 4).items()}
    experts = {
        "half": write(tmp_path / "half", half),
        "mixed": write(tmp_path / "mixed", mixed),
        "lora": write_adapter(tmp_path / "lora", {n: t.bfloat16() for n, t in GOOD.items()}),
    }
    assert TaskVectors(base, experts).dtypes == {
        "base": "float32",
        "half": "float16",
        "mixed": "bfloat16, float32",
        "lora": "bfloat16",
    }


def test_fingerprints_follow_the_scaling_too(base: Path, tmp_path: Path) -> None:
    paths = [write_adapter(tmp_path / str(a), GOOD, lora_alpha=a) for a in (4, 5)]
    first, second = (TaskVectors(base, {"db": path}) for path in paths)
    assert first.fingerprint != second.fingerprint
    moved = Path(shutil.copytree(paths[0], tmp_path / "moved"))
    assert TaskVectors(base, {"db": moved}).fingerprint == first.fingerprint


def test_only_what_an_adapter_changes_is_read(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(tmp_path / "a", HEAD)
    vectors = TaskVectors(trio.base_path, {"a": adapter}, memory=0)
    read: list[str] = []
    real = type(vectors.checkpoint).read
    monkeypatch.setattr(
        type(vectors.checkpoint), "read", lambda self, name: read.append(name) or real(self, name)
    )
    for name in vectors.names:
        vectors.combine(name, torch.ones(1))
    assert sorted(n for n in read if "lora" in n) == [
        "base_model.model.head.lora_A.weight",
        "base_model.model.head.lora_B.weight",
    ]
    assert not vectors.delta("a", "scale").any()


def test_checking_needs_neither_torch_nor_peft(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "db", GOOD)
    code = (
        "import sys; from qdmerge.checkpoints import checkpoint_problems, weights_digest; "
        f"assert checkpoint_problems({str(base)!r}, {{'a': {str(adapter)!r}}}) == []; "
        f"weights_digest({str(base)!r}); "
        "print([m for m in ('torch', 'peft', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_adapter_small_enough_is_read_once(trio: Trio, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", HEAD)
    vectors = TaskVectors(trio.base_path, {"a": adapter}, memory=4 * 2 * (6 + 8))
    assert not vectors.resident
    first = vectors.combine("head.weight", torch.ones(1))
    (adapter / "adapter_model.safetensors").unlink()
    assert torch.equal(vectors.combine("head.weight", torch.ones(1)), first)
    small = TaskVectors(trio.base_path, {"a": write_adapter(tmp_path / "b", HEAD)}, memory=8)
    small.combine("head.weight", torch.ones(1))
    (tmp_path / "b" / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read any more"):
        small.combine("head.weight", torch.ones(1))


def test_integer_weights_are_not_adapted(trio: Trio, tmp_path: Path) -> None:
    tensors = {"layers.1.steps": torch.ones(3)}
    adapter = write_adapter(tmp_path / "a", tensors)
    (problem,) = checkpoint_problems(trio.base_path, {"a": adapter})
    assert "layers.1.steps I64" in problem


def test_names_without_peft_s_prefix(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "db", GOOD)
    save_file({n: t.contiguous() for n, t in GOOD.items()}, adapter / "adapter_model.safetensors")
    assert "not named as peft names LoRA" in one_problem(base, adapter)
