"""Experts' tokens against the base's, and vocabularies put together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Fast

from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import ConfigError, Hint
from qdmerge.spaces import ExpertSpace
from qdmerge_llm.config import LLMConfig
from qdmerge_llm.vocabulary import token_ids, united, vocabulary_problems
from tests.tiny import characters

WORDS = ["<pad>", "</s>", "a", "b", "c", "d"]


def write(
    folder: Path,
    words: Sequence[str] = WORDS,
    added: Sequence[str] = (),
    seed: int = 0,
    rows: int | None = None,
    tied: bool = False,
    template: str | None = None,
) -> Path:
    """Write a tiny Llama whose tokens are words."""
    plain = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = Fast(tokenizer_object=plain, pad_token="<pad>", eos_token="</s>")
    tokenizer.add_tokens(list(added), special_tokens=True)
    tokenizer.chat_template = template
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=rows or len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config(tmp_path: Path, data: Path, **more: object) -> LLMConfig:
    tasks = {"one": {"kind": "python", "data": str(data), "validation": 1}}
    experts = {"one": str(tmp_path / "one")}
    return LLMConfig(base=str(tmp_path / "base"), experts=experts, tasks=tasks, **more)


def test_tokens_numbered_otherwise_are_refused_with_examples(tmp_path: Path) -> None:
    write(tmp_path / "base")
    write(tmp_path / "one", [*WORDS[:2], "b", "a", *WORDS[4:]])
    told = config(tmp_path, tmp_path / "none.jsonl").problems()
    assert "numbers tokens otherwise" in told[0]
    assert "'b' is 3 -> 2, 'a' is 2 -> 3" in told[0]


def test_added_tokens_are_refused_unless_asked_for(tmp_path: Path) -> None:
    """Also where the base's embedding had rows to spare, so that no shape differs."""
    write(tmp_path / "base", rows=9)
    write(tmp_path / "one", added=["<call>"], rows=9)
    told = config(tmp_path, tmp_path / "none.jsonl").problems()
    assert "tokens that the base's lacks: '<call>'; `vocabulary: union`" in told[0]
    more = config(tmp_path, tmp_path / "none.jsonl", vocabulary="union").problems()
    assert not any("base's lacks" in line for line in more)


def test_more_rows_are_no_problem_where_they_are_united(tmp_path: Path) -> None:
    write(tmp_path / "base")
    write(tmp_path / "one", added=["<call>"])
    told = config(tmp_path, tmp_path / "none.jsonl", vocabulary="union").problems()
    assert not any("vocabulary" in line for line in told)
    told = config(tmp_path, tmp_path / "none.jsonl").problems()
    assert sum("expert 'one'" in line for line in told) == 1


def test_another_chat_template_is_told(tmp_path: Path) -> None:
    write(tmp_path / "base", template="{{ messages[0].content }}")
    write(tmp_path / "one", template="[{{ messages[0].content }}]")
    with pytest.warns(Hint, match="'one' was trained with another chat template"):
        config(tmp_path, tmp_path / "none.jsonl").problems()


def test_an_adapter_with_tokens_of_its_own_becomes_a_whole_model_first(tmp_path: Path) -> None:
    base, one = write(tmp_path / "base"), write(tmp_path / "one", added=["<call>"])
    (one / "model.safetensors").unlink()
    (one / "adapter_config.json").write_text("{}")
    assert "merge_and_unload" in vocabulary_problems(base, {"one": one}, union=True)[0]


@pytest.mark.parametrize("union", [False, True])
def test_an_adapter_with_resized_embeddings_is_refused(union: bool, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = write(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<call>"])
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "one")
    tokenizer.save_pretrained(tmp_path / "one")
    vocabulary = "union" if union else "base"
    told = config(tmp_path, tmp_path / "none.jsonl", vocabulary=vocabulary).problems()
    (line,) = (line for line in told if "expert 'one'" in line)
    assert "another vocabulary" in line
    assert "6 -> 7 rows" in line
    assert "merge_and_unload" in line


def test_models_with_an_embedding_for_each_layer_are_not_united(tmp_path: Path) -> None:
    """A union would leave rows of those embeddings to other tokens."""
    base, one = tmp_path / "base", tmp_path / "one"
    for folder, added in ((base, []), (one, ["<call>"])):
        tokenizer = characters()
        tokenizer.add_tokens(added)
        tokenizer.save_pretrained(folder)
        part = {"vocab_size": len(tokenizer), "hidden_size_per_layer_input": 8}
        (folder / "config.json").write_text(json.dumps({"text_config": part}))
    (line,) = vocabulary_problems(base, {"one": one}, union=True)
    assert "expert 'one'" in line
    assert "hidden_size_per_layer_input" in line
    assert vocabulary_problems(base, {"one": base}, union=True) == []


def test_without_new_tokens_nothing_is_written(tmp_path: Path) -> None:
    base, one = write(tmp_path / "base"), write(tmp_path / "one", seed=1)
    assert united(base, {"one": one}) == (base, {"one": one})


@pytest.mark.parametrize("rows", [None, 7], ids=["full", "padded"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_merge_over_the_union_is_that_of_plain_transformers(
    tied: bool, rows: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two experts number the token that only they have otherwise, and each has one alone."""
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path / "cache"))
    base = write(tmp_path / "base", rows=rows, tied=tied)
    experts = {
        "one": write(tmp_path / "one", added=["<x>", "<both>"], seed=1, tied=tied),
        "two": write(tmp_path / "two", added=["<both>", "<y>"], seed=2, tied=tied),
    }
    found, made = united(base, experts)
    out = ExpertSpace(TaskVectors(found, made)).export([0.5, 0.5], tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.tokenize("a <x> <both> <y>") == ["a", "<x>", "<both>", "<y>"]
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.get_input_embeddings().weight.shape[0] == model.config.vocab_size >= 9

    plain = {name: AutoModelForCausalLM.from_pretrained(path) for name, path in experts.items()}
    ids = {name: token_ids(path) for name, path in experts.items()}
    for name, ours in model.state_dict().items():
        theirs = {expert: one.state_dict()[name] for expert, one in plain.items()}
        if "embed" not in name and "lm_head" not in name:
            torch.testing.assert_close(ours, (theirs["one"] + theirs["two"]) / 2)
            continue
        for token, row in tokenizer.get_vocab().items():
            having = [theirs[e][ids[e][token]] for e in experts if token in ids[e]]
            torch.testing.assert_close(ours[row], torch.stack(having).mean(0))


def test_a_token_without_a_row_is_none(tmp_path: Path) -> None:
    """A token for padding, added to the expert's tokenizer alone."""
    base = write(tmp_path / "base")
    one = write(tmp_path / "one", added=["[PAD]"], rows=len(WORDS), seed=1)
    assert vocabulary_problems(base, {"one": one}, union=False) == []
    assert united(base, {"one": one}) == (base, {"one": one})


def test_rows_go_by_token_whatever_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expert that numbers tokens otherwise, and lacks one whose number is that of a new one."""
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path / "cache"))
    base = write(tmp_path / "base")
    one = write(tmp_path / "one", ["<pad>", "</s>", "b", "a", "new", "d"], seed=1)
    assert vocabulary_problems(base, {"one": one}, union=True) == []
    found, made = united(base, {"one": one})
    together = token_ids(found)
    assert together == token_ids(made["one"]) == {**token_ids(base), "new": 6}
    before, after = (
        {name: AutoModelForCausalLM.from_pretrained(folder) for name, folder in group.items()}
        for group in ({"base": base, "one": one}, {"base": found, "one": made["one"]})
    )
    for part in ("model.embed_tokens.weight", "lm_head.weight"):
        for name, model in after.items():
            for token, row in together.items():
                owner = (
                    name
                    if token in token_ids({"base": base, "one": one}[name])
                    else ("one" if token == "new" else "base")
                )
                number = token_ids({"base": base, "one": one}[owner])[token]
                expected = before[owner].state_dict()[part][number]
                assert torch.equal(model.state_dict()[part][row], expected)


def test_models_of_other_sizes_are_not_united(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path / "cache"))
    base = write(tmp_path / "base", tied=True)
    one = write(tmp_path / "one", added=["<x>"])
    with pytest.raises(ConfigError, match="expert 'one' .*both must be alike"):
        united(base, {"one": one})
