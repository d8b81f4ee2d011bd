"""A micro model that knows a few answers, three noisy copies as experts, and their items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from qdmerge_llm.config import LLMConfig
from qdmerge_llm.items import split_of
from qdmerge_llm.sandbox import Sandbox, available

MICRO = Path(__file__).parent / "micro"
SEED, SCALE = 7, 5 * 2**-9  # of the noise: no token of the experts is chosen by a hair
COUNTS = {"validation": 3, "selection": 3, "test": 4}


def python_item(k: int) -> dict[str, Any]:
    tests = [{"args": [x], "expected": x + k} for x in (0, 5)]
    answer = f"def f(x):\n    return x + {k}"
    return {"prompt": f"add {k}", "answer": answer, "entry": "f", "tests": tests}


def sql_item(k: int) -> dict[str, Any]:
    setup = "CREATE TABLE t (a INT); " + "".join(f"INSERT INTO t VALUES ({n});" for n in range(40))
    query = f"SELECT a FROM t WHERE a > {k}"
    item = {"setup": setup, "reference": f"{query} ORDER BY a DESC", "ordered": False}
    return {"prompt": f"rows over {k}", "answer": query, **item}


def shell_item(k: int) -> dict[str, Any]:
    item = {"files": {"n.txt": f"{k}\n"}, "expected": f"{k}\n"}
    return {"prompt": f"show {k}", "answer": f"cat n.txt | grep {k}", **item}


MAKERS = {"python": python_item, "sql": sql_item, "shell": shell_item}
TASKS = {"coding": "python", "db": "sql", "os": "shell"}


def few_items(kind: str) -> list[dict[str, Any]]:
    """As many items as the splits need, none for training."""
    left = dict(COUNTS)
    items = []
    for k in range(10, 99):
        group = f"{kind}-{k}"
        split = split_of(group)
        if left.get(split, 0):
            left[split] -= 1
            items.append({"id": group, "group": group, **MAKERS[kind](k)})
    assert not any(left.values())
    return items


@dataclass(frozen=True)
class Micro:
    """Folder with base/, coding/, db/, os/ and TASK.jsonl, and the items by task."""

    folder: Path
    items: dict[str, list[dict[str, Any]]]

    def config(self, **changes: Any) -> dict[str, Any]:
        """Settings of a backend over all of it."""
        return {
            "base": str(self.folder / "base"),
            "experts": {name: str(self.folder / name) for name in TASKS},
            "tasks": {
                name: {
                    "kind": kind,
                    "data": str(self.folder / f"{name}.jsonl"),
                    "max_new_tokens": 24,
                    **COUNTS,
                }
                for name, kind in TASKS.items()
            },
            "device": "cpu",
            **changes,
        }


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<eos>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def micro_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_file=str(MICRO / "tokenizer.json"),
        pad_token="<pad>",
        eos_token="<eos>",
        padding_side="left",
    )


def micro_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )


def micro_models() -> Iterator[tuple[str, LlamaForCausalLM]]:
    """The base, which is shipped (micro/make.py made it), and noisy copies of it as experts.

    Noise of whole numbers is the same on every CPU, to the bit; that of normal ones is not.
    """
    model = LlamaForCausalLM(micro_config(micro_tokenizer()))
    weights = {k: w.float() for k, w in load_file(MICRO / "model.safetensors").items()}
    model.load_state_dict(weights, strict=False)
    yield "base", model
    generator = torch.Generator().manual_seed(SEED)
    for name in TASKS:
        noisy = LlamaForCausalLM(model.config)
        noisy.load_state_dict(model.state_dict())
        with torch.no_grad():
            for weight in noisy.parameters():
                weight += SCALE * torch.randint(-16, 17, weight.shape, generator=generator)
        yield name, noisy


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Micro:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("micro")
    items = {name: few_items(kind) for name, kind in TASKS.items()}
    tokenizer = micro_tokenizer()
    for name, model in micro_models():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    for name, rows in items.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    return Micro(folder, items)


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    reason = available()
    if reason:
        pytest.skip(f"no sandbox: {reason}")
    return Sandbox()


@pytest.fixture(scope="session")
def backend(micro: Micro, sandbox: Sandbox) -> Any:
    return LLMConfig(**micro.config()).build()
