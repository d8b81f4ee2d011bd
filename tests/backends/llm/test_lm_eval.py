from __future__ import annotations

import functools
import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

from qdmerge.errors import ConfigError, UnsupportedError
from qdmerge_llm.items import content_hash
from qdmerge_llm.task_settings import SideTaskConfig, TaskConfig
from qdmerge_llm.tasks import _lm_eval
from qdmerge_llm.tasks._lm_eval import LMEvalTask
from tests.backends.llm.conftest import make_tokenizer

DOCUMENTS = [
    {"question": f"{a} plus {b} is", "choices": [str(a), str(b), "8"], "answer": a % 3}
    for a, b in [(1, 2), (2, 2), (5, 3), (4, 0), (7, 1), (3, 3), (0, 9), (6, 2)]
]
YAML = """
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {output_type}
doc_to_text: "{{{{question}}}}"
{rest}
"""
CHOICE = """doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
PERPLEXITY = """doc_to_target: "{{choices[0]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: odd, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture(scope="module", autouse=True)
def harness(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """lm-eval, with the caches of its data set library in a folder of the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra 'eval')")
        datasets = pytest.importorskip("datasets")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm_eval")
    data = folder / "sums.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    for name, output_type, rest in (
        ("choice", "multiple_choice", CHOICE),
        ("likelihood", "loglikelihood", PERPLEXITY),
    ):
        (folder / name).mkdir()
        text = YAML.format(data=data, output_type=output_type, rest=rest)
        (folder / name / "sums.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    tokenizer = make_tokenizer([d["question"] + " " + " ".join(d["choices"]) for d in DOCUMENTS])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.5,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval(), tokenizer


@torch.no_grad()
def likelihood(model: Any, tokenizer: Any, question: str, choice: str) -> float:
    """Log-probability of a choice after a question, in a forward pass of its own."""
    before, after = tokenizer(question)["input_ids"], tokenizer(" " + choice)["input_ids"]
    logits = model(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)
    return sum(float(logits[len(before) - 1 + k, token]) for k, token in enumerate(after))


def test_scores_are_those_of_the_likelihoods(folder: Path, loaded: tuple[Any, Any]) -> None:
    expected = []
    for document in DOCUMENTS:
        values = [likelihood(*loaded, document["question"], c) for c in document["choices"]]
        expected.append(float(np.argmax(values) == document["answer"]))
    assert 0 < sum(expected) < len(expected)
    task = LMEvalTask("sums", str(folder / "choice"), batch_size=3)
    assert task.evaluate_model(*loaded).tolist() == expected


def test_the_live_weights_count_and_nothing_else(
    folder: Path, loaded: tuple[Any, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    model = LlamaForCausalLM(loaded[0].config).eval()
    model.load_state_dict(loaded[0].state_dict())
    task = LMEvalTask("sums", str(folder / "choice"), "acc_norm,none", limit=5)
    state = torch.get_rng_state()
    before = task.evaluate_model(model, loaded[1])
    assert before.shape == (5,)
    with torch.no_grad():
        model.lm_head.weight.neg_()
    assert (task.evaluate_model(model, loaded[1]) != before).any()
    with torch.no_grad():
        model.lm_head.weight.neg_()
    assert task.evaluate_model(model, loaded[1]).tolist() == before.tolist()
    assert torch.equal(state, torch.get_rng_state())
    assert capfd.readouterr() == ("", "")


def test_local_tasks_need_no_network(
    folder: Path, loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    task = LMEvalTask("sums", str(folder / "choice"), num_fewshot=0, limit=2)
    assert task.evaluate_model(*loaded).shape == (2,)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"include_path": "nowhere"}, "there is no folder 'nowhere'"),
        ({"metric": "accc"}, "did you mean 'acc'"),
        ({"kind": "likelihood", "metric": "perplexity"}, "less is better of metric 'perplexity'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    folder: Path, options: dict[str, str], said: str
) -> None:
    options = dict(options)
    options.setdefault("include_path", str(folder / options.pop("kind", "choice")))
    with pytest.raises(ConfigError, match=said):
        LMEvalTask("sums", **options)


def test_a_metric_without_a_score_for_each_document(folder: Path, loaded: tuple[Any, Any]) -> None:
    task = LMEvalTask("sums", str(folder / "likelihood"), "odd")
    with pytest.raises(ConfigError, match="no score from 0 to 1"):
        task.evaluate_model(*loaded)


def test_an_unknown_filter(folder: Path, loaded: tuple[Any, Any]) -> None:
    task = LMEvalTask("sums", str(folder / "choice"), "acc,strict")
    with pytest.raises(ConfigError, match=r"no filter 'strict'.* Known: none"):
        task.evaluate_model(*loaded)


def test_data_that_is_missing_is_told(folder: Path, tmp_path: Path) -> None:
    text = (folder / "choice" / "sums.yaml").read_text().replace("sums.jsonl", "gone.jsonl")
    (tmp_path / "sums.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"'sums' cannot be loaded: .*gone.jsonl"):
        LMEvalTask("sums", str(tmp_path))


def test_it_is_no_task_of_the_search(folder: Path) -> None:
    task = LMEvalTask("sums", str(folder / "choice"))
    with pytest.raises(UnsupportedError, match="asks the model itself"):
        task.evaluate([], lambda prompts: [])
    options = {"task": "sums", "include_path": str(folder / "choice")}
    for data in ({}, {"data": "items.jsonl"}):
        with pytest.raises(
            ValidationError, match="under 'side_tasks', not for those of the search"
        ):
            TaskConfig(kind="lm_eval", options=options, **data)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"task": "sum"}, "no task 'sum' in lm-eval nor in .*did you mean 'sums'"),
        ({"include_path": "nowhere"}, "there is no folder 'nowhere'"),
        ({"limit": 0}, "'limit': .*greater than 0"),
        ({"limit": -1}, "'limit': .*greater than 0"),
    ],
)
def test_check_says_in_a_line_what_is_wrong(
    folder: Path, changes: dict[str, Any], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    # Without lm-eval's own thousands of task files, which take many seconds to read.
    monkeypatch.setattr(
        _lm_eval, "_all_tasks", lambda f: TaskManager(include_path=f, include_defaults=False)
    )
    options = {"task": "sums", "include_path": str(folder / "choice"), **changes}
    problems = SideTaskConfig(kind="lm_eval", options=options).problems()
    assert len(problems) == (said is not None)
    if said:
        assert re.search(said, problems[0])


def test_the_task_files_of_lm_eval_are_read_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    read = []

    def manager(include_path: Path | None, include_defaults: bool = True) -> TaskManager:
        read.append(include_defaults)
        path = folder / "choice" if include_defaults else include_path  # as if it were theirs
        return TaskManager(include_path=path, include_defaults=False)

    monkeypatch.setattr(
        _lm_eval, "_all_tasks", functools.lru_cache(_lm_eval._all_tasks.__wrapped__)
    )
    monkeypatch.setattr("lm_eval.tasks.TaskManager", manager)
    assert LMEvalTask.options_problem({"task": "sums"}) is None
    first, other = LMEvalTask("sums", num_fewshot=2), LMEvalTask("sums")
    assert first.own_items() != other.own_items()
    assert sum(read) == 1


def test_check_says_that_lm_eval_is_missing_or_data_is_out_of_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"task": "sums", "include_path": str(folder / "choice")}
    given = SideTaskConfig(kind="lm_eval", options=options, data=str(folder / "sums.jsonl"))
    assert given.problems() == ["'data': 'lm_eval' brings its own items; leave 'data' out"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (missing,) = SideTaskConfig(kind="lm_eval", options=options).problems()
    assert "pip install 'qdmerge[eval]'" in missing


def test_the_items_are_what_the_model_is_asked(folder: Path, tmp_path: Path) -> None:
    items = LMEvalTask("sums", str(folder / "choice"), limit=3).own_items()
    assert [item["prompt"] for item in items] == [d["question"] for d in DOCUMENTS[:3]]
    assert items[1]["requests"] == [["2 plus 2 is", f" {c}"] for c in DOCUMENTS[1]["choices"]]
    assert [item["target"] for item in items] == [str(d["answer"]) for d in DOCUMENTS[:3]]
    assert content_hash(items) == content_hash(
        LMEvalTask("sums", str(folder / "choice"), limit=3).own_items()
    )
    shots = [LMEvalTask("sums", str(folder / "choice"), num_fewshot=2) for _ in range(2)]
    assert shots[0].own_items() == shots[1].own_items() == shots[0].own_items()
    assert "\n\n" in shots[0].own_items()[0]["prompt"]
    changed = [*DOCUMENTS[:-1], {**DOCUMENTS[-1], "answer": 1}]
    assert changed != DOCUMENTS
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(d) + "\n" for d in changed))
    text = (folder / "choice" / "sums.yaml").read_text()
    (tmp_path / "sums.yaml").write_text(text.replace(str(folder), str(tmp_path)))
    whole = LMEvalTask("sums", str(folder / "choice")).own_items()
    assert content_hash(LMEvalTask("sums", str(tmp_path)).own_items()) != content_hash(whole)


def test_tasks_that_execute_answers_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_eval.api.task.ConfigurableTask.UNSAFE_CODE", True, raising=False)
    with pytest.raises(ConfigError, match="executes what the model writes, without a sandbox"):
        LMEvalTask("sums", str(folder / "choice"))
