"""LoRA fine-tuning, on a Llama of two layers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from qdmerge.checkpoints import weights_digest
from qdmerge.errors import CheckpointError, ConfigError, RunError
from qdmerge_llm.training import LoRAConfig, _train, train_lora
from qdmerge_llm.training._data import NOT_LEARNED, collate, encode, read_conversations
from qdmerge_llm.training._trainer import LoRATrainer
from tests.backends.llm.training.conftest import SETTINGS, same, silent, talk, weights


def test_the_loss_falls_and_the_record_says_what_was_done(
    adapter: Path, base: Path, data: Path
) -> None:
    record = json.loads((adapter / "qdmerge.json").read_text())
    assert record["loss"]["final"] < record["loss"]["first"] - 0.2
    assert record["base"] == {"sha256": weights_digest(base)}
    assert record["data"]["examples"] == 20
    assert record["data"]["too_long"] == 0
    assert LoRAConfig(**record["settings"]) == SETTINGS
    assert record["steps"] == 15
    tokenizer = AutoTokenizer.from_pretrained(base)
    lengths = [len(encode(talk(n), tokenizer).ids) for n in range(20)]
    assert record["tokens"] == 3 * sum(lengths)
    assert {"seconds", "versions"} < record.keys()
    assert not adapter.with_name("adapter.training").exists()


def test_peft_loads_the_adapter_of_every_linear_layer(adapter: Path, base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    before = model(torch.arange(9)[None]).logits
    adapted = PeftModel.from_pretrained(model, adapter)
    assert not torch.allclose(adapted(torch.arange(9)[None]).logits, before)
    assert len(weights(adapter)) == 2 * 2 * 7
    assert {w.dtype for w in weights(adapter).values()} == {torch.float32}


def test_one_seed_gives_one_result_whatever_the_global_state(
    adapter: Path, base: Path, data: Path, tmp_path: Path
) -> None:
    torch.manual_seed(99)
    random.seed(99)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = train_lora(base, data, tmp_path / "again", SETTINGS, silent)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002
    assert same(adapter, again)
    other = SETTINGS.model_copy(update={"seed": 1})
    assert not same(adapter, train_lora(base, data, tmp_path / "other", other, silent))


def test_long_conversations_are_left_out_and_counted(
    base: Path, data: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    lengths = [len(encode(talk(n), tokenizer).ids) for n in range(20)]
    limit = sorted(lengths)[10]
    few = SETTINGS.model_copy(update={"max_length": limit, "epochs": 1})
    out = train_lora(base, data, tmp_path / "few", few, silent)
    record = json.loads((out / "qdmerge.json").read_text())
    assert record["data"]["too_long"] == sum(length > limit for length in lengths) > 0
    none = SETTINGS.model_copy(update={"max_length": 3})
    with pytest.raises(ConfigError, match="all 20 conversations"):
        train_lora(base, data, tmp_path / "none", none, silent)


def test_unusable_files_are_named(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*gone\.jsonl"):
        read_conversations(tmp_path / "gone.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match=r"empty\.jsonl: no conversations"):
        read_conversations(tmp_path / "empty.jsonl")
    with pytest.raises(CheckpointError):
        train_lora(tmp_path / "nothing", data, tmp_path / "out", SETTINGS, silent)
    monkeypatch.setattr(_train, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'qdmerge\[train\]'"):
        train_lora(base, data, tmp_path / "out", SETTINGS, silent)


def test_a_training_that_diverges_is_told(base: Path, data: Path, tmp_path: Path) -> None:
    wild = SETTINGS.model_copy(update={"learning_rate": 1e9})
    with pytest.raises(RunError, match="diverged.*lower lora.learning_rate"):
        train_lora(base, data, tmp_path / "out", wild, silent)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (["q_poj"], "no layer 'q_poj'.*did you mean 'q_proj'.*down_proj, gate_proj, k_proj"),
        (["q_proj", "nope"], "no layer 'nope'"),
        (["mlp"], "no layer 'mlp' that LoRA can adapt"),
        ("((", r"no layer '\(\('"),
        ([], "targets is empty"),
        (["embed_tokens"], r"ties model.embed_tokens and lm_head.*could not be merged"),
    ],
)
def test_layers_that_cannot_be_adapted_are_refused_in_one_line(
    base: Path, data: Path, tmp_path: Path, targets: Any, told: str
) -> None:
    settings = LoRAConfig(targets=targets)
    with pytest.raises(ConfigError, match=told) as raised:
        train_lora(base, data, tmp_path / "out", settings, silent)
    assert "\n" not in str(raised.value)


def test_one_layer_may_be_named_without_a_list(base: Path, data: Path, tmp_path: Path) -> None:
    settings = LoRAConfig(targets="q_proj", steps=1)
    assert len(weights(train_lora(base, data, tmp_path / "out", settings, silent))) == 2 * 2


def test_a_common_prefix_is_computed_once_with_the_same_gradients(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64).train()
    examples = [encode(talk(n), tokenizer) for n in (1, 4, 17)]
    batch = collate(examples, pad=0)
    assert batch["prefix"].shape[1] > 10
    LoRATrainer.compute_loss(None, model, batch).backward()  # type: ignore[arg-type]
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    total: Any = 0.0
    for example in examples:  # each by itself, by the model's own loss
        ids = torch.tensor([example.ids])
        labels = torch.where(torch.tensor([example.learned]), ids, NOT_LEARNED)
        total = total + model(input_ids=ids, labels=labels).loss * sum(example.learned)
    (total / sum(sum(e.learned) for e in examples)).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0},
        {"alpha": float("inf")},
        {"learning_rate": -1},
        {"learning_rate": float("inf")},
        {"epochs": 0},
        {"batch_size": 0},
        {"dropout": 2},
        {"seed": 2**32},
        {"ranks": 4},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoRAConfig(**wrong)
