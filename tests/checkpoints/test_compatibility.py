"""Bad checkpoints: every mistake is found from the headers, and all are said together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qdmerge.checkpoints import TaskVectors, checkpoint_problems
from qdmerge.errors import CheckpointError
from qdmerge.spaces import ExpertSpace
from tests.trios import Trio, write

GOOD = {"a.weight": torch.ones(3, 2), "b.weight": torch.ones(4), "n": torch.tensor([1])}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path / "base", GOOD, config={"model_type": "llama"})


def one_problem(base: Path, expert: Path) -> str:
    (problem,) = checkpoint_problems(base, {"db": expert})
    with pytest.raises(CheckpointError) as raised:
        TaskVectors(base, {"db": expert})
    assert problem in str(raised.value)
    return problem


def test_a_good_pair_has_no_problem(base: Path, tmp_path: Path) -> None:
    half = {n: t.bfloat16() if t.is_floating_point() else t for n, t in GOOD.items()}
    assert checkpoint_problems(base, {"db": write(tmp_path / "db", half)}) == []


def test_missing_path(base: Path, tmp_path: Path) -> None:
    assert "no such file or folder" in one_problem(base, tmp_path / "nowhere")


def test_folder_without_weights(base: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no safetensors weights" in one_problem(base, tmp_path / "empty")


def test_pickled_weights_are_not_read(base: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "pytorch_model.bin").write_bytes(b"")
    assert "pickled" in one_problem(base, tmp_path / "old")


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_truncated_file(base: Path, tmp_path: Path, kept: int) -> None:
    expert = write(tmp_path / "db", GOOD)
    file = expert / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    problem = one_problem(base, expert)
    assert "truncated" in problem
    assert str(file) in problem


def _with_header(file: Path, header: object, data: bytes = b"") -> None:
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"a": 1},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {"a": {"dtype": "F32", "shape": [1]}},
    ],
)
def test_damaged_header(base: Path, tmp_path: Path, header: object) -> None:
    _with_header(tmp_path / "bad.safetensors", header, bytes(4))
    assert "damaged" in one_problem(base, tmp_path / "bad.safetensors")


def test_trailing_bytes(base: Path, tmp_path: Path) -> None:
    expert = write(tmp_path / "db", GOOD)
    with (expert / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert "longer" in one_problem(base, expert)


def test_text_instead_of_weights(base: Path, tmp_path: Path) -> None:
    (tmp_path / "page.safetensors").write_text("<html>" * 100)
    assert "not a safetensors file" in one_problem(base, tmp_path / "page.safetensors")


def test_missing_and_extra_tensors_are_named(base: Path, tmp_path: Path) -> None:
    changed = {n: t for n, t in GOOD.items() if n != "b.weight"}
    changed |= {f"new.{i}": torch.ones(1) for i in range(9)}
    problems = checkpoint_problems(base, {"db": write(tmp_path / "db", changed)})
    assert any("lacks tensors of the base: b.weight" in p for p in problems)
    assert any("new.0, new.1, new.2, ... (9 in all)" in p for p in problems)


def test_other_shapes_are_named(base: Path, tmp_path: Path) -> None:
    expert = write(tmp_path / "db", GOOD | {"a.weight": torch.ones(3, 5)})
    assert "a.weight (3, 2) -> (3, 5)" in one_problem(base, expert)


def test_integers_in_place_of_floats(base: Path, tmp_path: Path) -> None:
    expert = write(tmp_path / "db", GOOD | {"b.weight": torch.ones(4, dtype=torch.int64)})
    assert "b.weight F32 -> I64" in one_problem(base, expert)


def test_another_architecture(base: Path, tmp_path: Path) -> None:
    expert = write(tmp_path / "db", GOOD, config={"model_type": "gpt2"})
    problem = one_problem(base, expert)
    assert "'gpt2'" in problem
    assert "'llama'" in problem


def test_broken_config(base: Path, tmp_path: Path) -> None:
    expert = write(tmp_path / "db", GOOD)
    (expert / "config.json").write_text("{")
    assert "not valid JSON" in one_problem(base, expert)


def test_quantized_base(tmp_path: Path) -> None:
    file = tmp_path / "fp8.safetensors"
    _with_header(file, {"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, b"ab")
    problems = checkpoint_problems(file, {"db": file})
    assert any("quantized" in p for p in problems)


def test_missing_shard(base: Path, tmp_path: Path) -> None:
    expert = write(tmp_path / "db", GOOD, shards=2)
    (expert / "model-00002-of-00002.safetensors").unlink()
    assert "shards are missing: model-00002-of-00002.safetensors" in one_problem(base, expert)


def test_index_that_promises_more(base: Path, tmp_path: Path) -> None:
    expert = write(tmp_path / "db", GOOD, shards=2)
    index = expert / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["ghost"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    assert "lists tensors that no shard holds: ghost" in one_problem(base, expert)


def test_index_that_lists_too_few(base: Path, tmp_path: Path) -> None:
    """transformers reads every tensor of the shards; so do we, and an export lists them all."""
    folder = write(tmp_path / "db", GOOD, shards=2)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    del content["weight_map"]["n"]
    index.write_text(json.dumps(content))
    assert checkpoint_problems(base, {"db": folder}) == []
    space = ExpertSpace(TaskVectors(folder, {"a": base}))
    out = space.export(space.seeds["a"], tmp_path / "out")
    assert set(json.loads((out / index.name).read_text())["weight_map"]) == set(GOOD)


def test_a_tensor_in_two_files(base: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "db", GOOD, shards=2)
    first, second = sorted(folder.glob("*.safetensors"))
    name = next(iter(load_file(second)))
    save_file(load_file(first) | {name: load_file(second)[name]}, first)
    assert f"{name} is in two files, {first.name} and {second.name}" in one_problem(base, folder)
    (problem,) = checkpoint_problems(folder, {"db": base})
    assert problem.startswith("base: ")


def test_several_files_without_index(base: Path, tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    for name in ("x", "y"):
        save_file({name: torch.ones(1)}, tmp_path / "db" / f"{name}.safetensors")
    assert "2 safetensors files" in one_problem(base, tmp_path / "db")


def test_all_mistakes_come_in_one_message(base: Path, tmp_path: Path) -> None:
    shape = write(tmp_path / "shape", GOOD | {"a.weight": torch.ones(9, 9)})
    experts = {"shape": shape, "gone": tmp_path / "gone", "base": base}
    with pytest.raises(CheckpointError) as raised:
        TaskVectors(base, experts)
    message = str(raised.value)
    assert "(9, 9)" in message
    assert "expert 'gone'" in message
    assert "cannot be named 'base'" in message


def test_no_experts(base: Path) -> None:
    assert "at least one" in checkpoint_problems(base, {})[0]


def test_sharded_and_single_files_mix(make_trio: Callable[..., Trio]) -> None:
    trio = make_trio(shards=3)
    assert checkpoint_problems(trio.base_path, trio.expert_paths) == []
    assert set(trio.vectors().names) == set(trio.base)


EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
WORDS = {EMBED: torch.arange(12.0).view(6, 2), "model.norm.weight": torch.ones(2)}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


@pytest.mark.parametrize("base_stores", [False, True])
@pytest.mark.parametrize("expert_stores", [False, True])
@pytest.mark.parametrize("silent", [False, True])
def test_a_tied_output_layer_may_be_stored_or_not(
    tmp_path: Path, base_stores: bool, expert_stores: bool, silent: bool
) -> None:
    expert = {name: tensor + 1 for name, tensor in WORDS.items()}
    models = {}
    for name, tensors, stores in (("base", WORDS, base_stores), ("db", expert, expert_stores)):
        head = {HEAD: tensors[EMBED].clone()} if stores else {}
        config = {} if silent and name == "db" else TIED
        models[name] = write(tmp_path / name, tensors | head, config=config)
    vectors = TaskVectors(models["base"], {"db": models["db"]})
    assert set(vectors.names) == {*WORDS, *([HEAD] if base_stores else [])}
    for name in vectors.names:
        assert torch.equal(vectors.delta("db", name), torch.ones(vectors.shapes[name]))


@pytest.mark.parametrize("base_config", [TIED, UNTIED])
@pytest.mark.parametrize("both_store", [False, True])
def test_a_difference_in_tying_is_named(
    tmp_path: Path, base_config: dict, both_store: bool
) -> None:
    other = UNTIED if base_config is TIED else TIED
    heads = [both_store or config is UNTIED for config in (base_config, other)]
    paths = [
        write(tmp_path / name, WORDS | ({HEAD: torch.ones(6, 2)} if head else {}), config=config)
        for name, head, config in zip(("base", "db"), heads, (base_config, other), strict=True)
    ]
    problem = one_problem(*paths)
    assert "tie_word_embeddings" in problem
    assert ("does not tie" in problem) == (other is UNTIED)
    assert (HEAD in problem) == (not both_store)


def test_a_bare_file_with_an_output_layer_of_its_own(tmp_path: Path) -> None:
    base = write(tmp_path / "base", WORDS)
    expert = write(tmp_path / "db", WORDS | {HEAD: torch.ones(6, 2)})
    assert HEAD in one_problem(base, expert)


def test_another_vocabulary_is_named(tmp_path: Path) -> None:
    base = write(tmp_path / "base", WORDS | {HEAD: torch.ones(6, 2)})
    longer = {EMBED: torch.ones(7, 2), HEAD: torch.ones(7, 2)}
    problem = one_problem(base, write(tmp_path / "db", WORDS | longer))
    assert "another vocabulary" in problem
    assert f"{EMBED} 6 -> 7 rows" in problem
    assert f"{HEAD} 6 -> 7 rows" in problem
