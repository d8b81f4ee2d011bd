from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    DynamicCache,
    FalconConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
)

from qdmerge.errors import ConfigError
from qdmerge_llm.generation import FENCED_BLOCK, Generator
from qdmerge_llm.generation._cache import Slots, layers_of
from tests.backends.llm.conftest import TASKS, Micro, make_tokenizer

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def loaded(micro: Micro) -> tuple[Any, Any]:
    # A noisy copy: its completions differ in length and some never end.
    model = AutoModelForCausalLM.from_pretrained(micro.folder / "coding").eval()
    return model, AutoTokenizer.from_pretrained(micro.folder / "coding")


@pytest.fixture(scope="module")
def prompts(micro: Micro) -> list[str]:
    known = [item["prompt"] for items in micro.items.values() for item in items]
    return [*known, "add", "rows over 1 and 2 and 3 and 4", "x" * 40]


def reference(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int) -> str:
    ids = tokenizer(prompt, return_tensors="pt")
    ids.pop("token_type_ids", None)
    out = model.generate(**ids, max_new_tokens=max_new_tokens, do_sample=False)[0]
    return tokenizer.decode(out[ids["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_same_texts_as_generate_one_by_one(
    loaded: tuple[Any, Any], prompts: list[str], batch_size: int
) -> None:
    texts = Generator(*loaded, batch_size)(prompts, 20)
    assert texts == [reference(*loaded, prompt, 20) for prompt in prompts]
    assert len(set(map(len, texts))) > 3  # rows did finish at different times


@pytest.mark.parametrize(("name", "least"), [("base", 5.0), *((name, 5e-3) for name in TASKS)])
def test_no_token_of_the_micro_models_hangs_on_rounding(
    micro: Micro, prompts: list[str], name: str, least: float
) -> None:
    """Texts and scores are compared here; another CPU moves logits by some 1e-5."""
    model = AutoModelForCausalLM.from_pretrained(micro.folder / name).eval()
    tokenizer = AutoTokenizer.from_pretrained(micro.folder / name)
    texts = prompts[:-3] if name == "base" else [*prompts, *map(rendered, prompts)]
    batch = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    told = model.generate(
        **batch,
        max_new_tokens=24,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    new = told.sequences[:, batch["input_ids"].shape[1] :]
    ends = (new == tokenizer.eos_token_id).int()
    best, second = torch.stack(told.logits, 1).topk(2).values.unbind(-1)
    assert (best - second)[ends.cumsum(1) - ends == 0].min() > least


def test_order_of_prompts_is_kept(loaded: tuple[Any, Any], prompts: list[str]) -> None:
    generator = Generator(*loaded, 4)
    assert generator(prompts[::-1], 12) == generator(prompts, 12)[::-1]


def test_no_prompts(loaded: tuple[Any, Any]) -> None:
    assert Generator(*loaded)([], 5) == []


def test_stop_strings_end_a_text_early(loaded: tuple[Any, Any], prompts: list[str]) -> None:
    generator = Generator(*loaded, 4)
    full = generator(prompts, 20)
    stop = ("return", "FROM t")
    cut = generator(prompts, 20, stop)
    for long, short in zip(full, cut, strict=True):
        ends = [long.index(mark) + len(mark) for mark in stop if mark in long]
        if not ends:
            assert short == long
        else:
            # The stop string is in, and at most the rest of the token that completed it.
            assert long.startswith(short)
            assert min(ends) <= len(short) <= min(ends) + 12
    assert sum(map(len, cut)) < sum(map(len, full))


def test_decoding_ends_with_the_last_row(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, micro: Micro
) -> None:
    model = AutoModelForCausalLM.from_pretrained(micro.folder / "base").eval()
    read = shapes(monkeypatch, model)
    items = [micro.items["coding"][0], *micro.items["os"]]
    Generator(model, loaded[1])([item["prompt"] for item in items], 100)
    longest = max(len(loaded[1]("\n" + item["answer"])["input_ids"]) for item in items)
    steps = [rows for rows, width in read if width == 1]
    assert len(steps) == longest + 1
    assert steps[0] == len(items)
    assert steps[-1] < len(items)  # finished rows left


def test_waiting_prompts_take_the_places_of_finished_ones(
    loaded: tuple[Any, Any], prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    expected = [reference(model, tokenizer, prompt, 20) for prompt in prompts]
    alone = shapes(monkeypatch, model)
    for prompt in prompts:
        Generator(model, tokenizer)([prompt], 20)
    needed = sum(width == 1 for _, width in alone)
    monkeypatch.undo()
    read = shapes(monkeypatch, model)
    assert Generator(model, tokenizer, 4)(prompts, 20) == expected
    steps = [rows for rows, width in read if width == 1]
    assert sum(steps) == needed  # no row was decoded beyond its end
    assert steps == sorted(steps, reverse=True)  # full until none waited
    assert len(steps) < needed / 4 + 20


def shapes(monkeypatch: pytest.MonkeyPatch, model: Any) -> list[tuple[int, ...]]:
    """Shapes of the token ids that the model reads from here on."""
    read: list[tuple[int, ...]] = []
    forward = model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        read.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    return read


def test_weights_may_change_between_calls(micro: Micro, loaded: tuple[Any, Any]) -> None:
    model = AutoModelForCausalLM.from_pretrained(micro.folder / "base").eval()
    generator = Generator(model, loaded[1])
    prompt = micro.items["os"][0]["prompt"]
    before = generator([prompt], 10)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert generator([prompt], 10) != before


def test_positions_count_a_rows_own_tokens(loaded: tuple[Any, Any], prompts: list[str]) -> None:
    """With learned absolute positions, padding must not move a prompt; rotary ones hide that."""
    tokenizer = loaded[1]
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=96,
        initializer_range=1.0,
    )
    config.eos_token_id = config.bos_token_id = config.pad_token_id = None
    model = GPT2LMHeadModel(config).eval()
    texts = Generator(model, tokenizer, 64)(prompts, 12)
    assert texts == [reference(model, tokenizer, prompt, 12) for prompt in prompts]
    assert len(set(texts)) > 10


def chats(prompts: list[str]) -> list[list[dict[str, str]]]:
    system = {"role": "system", "content": "show rows over 1 and add 2, " * 3}
    return [[system, {"role": "user", "content": prompt}] for prompt in prompts]


def rendered(prompt: str) -> str:
    return f"system: {'show rows over 1 and add 2, ' * 3}\nuser: {prompt}\nassistant: "


def test_conversations_go_through_the_chat_template(
    loaded: tuple[Any, Any], prompts: list[str]
) -> None:
    tokenizer = copy.deepcopy(loaded[1])
    tokenizer.chat_template = TEMPLATE
    expected = [reference(*loaded, rendered(prompt), 12) for prompt in prompts]
    assert Generator(loaded[0], tokenizer, 8)(chats(prompts), 12) == expected
    assert len(set(expected)) > 3


def test_texts_and_conversations_may_be_mixed(loaded: tuple[Any, Any], prompts: list[str]) -> None:
    generator = Generator(*loaded, 4, TEMPLATE)
    mixed: list[Any] = [*chats(prompts[:3]), *prompts[3:6], *chats(prompts[6:8])]
    texts = [*map(rendered, prompts[:3]), *prompts[3:6], *map(rendered, prompts[6:8])]
    assert generator(mixed, 8) == generator(texts, 8)


def test_special_tokens_are_added_to_texts_only(loaded: tuple[Any, Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(loaded[1].name_or_path)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    asked = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def __len__(self) -> int:
            return len(tokenizer)

        def __call__(self, texts: Any, **options: Any) -> Any:
            asked.append((texts, options["add_special_tokens"]))
            return tokenizer(texts, **options)

    message = {"role": "user", "content": "hello"}
    Generator(loaded[0], Spy())(["text", [message]], 2)  # type: ignore[arg-type]
    assert sorted(asked) == [(["hello"], False), (["text"], True)]


def test_conversations_without_a_template_are_an_error(loaded: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigError, match="no chat template.*give one as chat_template"):
        Generator(*loaded)(chats(["add 1"]), 5)


def test_a_template_that_refuses(loaded: tuple[Any, Any]) -> None:
    template = "{{ raise_exception('system role not supported') }}"
    with pytest.raises(ConfigError, match="system role not supported"):
        Generator(*loaded, 4, template)(chats(["add 1"]), 5)


def test_a_shared_beginning_is_read_once(
    loaded: tuple[Any, Any], prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    read = shapes(monkeypatch, model)
    texts = [rendered(prompt) for prompt in prompts]
    found = Generator(model, tokenizer, 4)(texts, 1)
    (one, beginning), *batches = [shape for shape in read if shape[1] > 1]
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    assert one == 1
    assert beginning >= 32
    assert sum(rows for rows, _ in batches) == len(texts)
    # The last token is read with the first step.
    assert max(width for _, width in batches) == max(lengths) - beginning - 1
    monkeypatch.undo()
    assert found == [reference(model, tokenizer, text, 1) for text in texts]


def test_long_prompts_are_read_a_few_at_a_time(
    loaded: tuple[Any, Any], prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    expected = Generator(model, tokenizer)(prompts, 8)
    monkeypatch.setattr("qdmerge_llm.generation._generator._READ", 50)
    read = shapes(monkeypatch, model)
    assert Generator(model, tokenizer)(prompts, 8) == expected
    assert max(rows * width for rows, width in read if rows > 1 and width > 1) <= 50


SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "bos_token_id": None,
    "pad_token_id": None,
}


@pytest.mark.parametrize(
    ("config", "fast"),
    [
        (MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=500), True),
        (FalconConfig(**SIZES, alibi=True), True),
        (OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32), True),
        # A window that a row outgrows, in the cache or in the model only; biases by column; states.
        (MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=30), False),
        (
            GPTNeoConfig(**SIZES, attention_types=[[["local"], 2]], num_layers=2, num_heads=2),
            False,
        ),
        (BloomConfig(**SIZES, n_layer=2, n_head=2), False),
        (MambaConfig(**SIZES, state_size=4), False),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_models_of_many_kinds(
    loaded: tuple[Any, Any], prompts: list[str], config: Any, fast: bool
) -> None:
    """Those that do not take rows at their own columns are completed by ``model.generate``."""
    tokenizer = loaded[1]
    torch.manual_seed(5)
    config.vocab_size, config.eos_token_id = len(tokenizer), tokenizer.eos_token_id
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.5)
    assert bool(layers_of(model, 150)) == fast
    texts = [rendered(prompt) for prompt in prompts[::2]]
    expected = [reference(model, tokenizer, text, 6) for text in texts]
    assert len(set(expected)) > 3
    assert Generator(model, tokenizer, 4)(texts, 6) == expected
    mark = expected[0][1:3]
    cut = Generator(model, tokenizer, 4)(texts, 6, (mark,))
    assert mark in cut[0]
    assert len(cut[0]) < len(expected[0])


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_prompt_too_long_for_the_model_is_left_out(
    loaded: tuple[Any, Any], batch_size: int
) -> None:
    generator = Generator(*loaded, batch_size)
    room = loaded[0].config.max_position_embeddings
    long = "".join(chr(ord("a") + k * 7 % 26) for k in range(4 * room))
    ids = loaded[1](long)["input_ids"]
    fits, beyond = (loaded[1].decode(ids[: room - extra]) for extra in (10, 9))
    assert [len(loaded[1](text)["input_ids"]) for text in (fits, beyond)] == [room - 10, room - 9]
    alone = generator(["add 10", fits], 10)
    assert generator.too_long == 0
    assert generator([beyond, "add 10", fits, long], 10) == ["", *alone, ""]
    assert generator.too_long == 2
    assert generator([beyond], 10) == [""]


class Scripted:
    """A generator whose model writes given tokens: what it stops at does not hang on weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Any, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.generator = Generator(model, tokenizer, 4)
        self.steps = 0
        self._size = model.config.vocab_size

        def forward(input_ids: torch.Tensor, **_: Any) -> Any:
            logits = torch.zeros(len(input_ids), 1, self._size)
            logits[:, :, self.ids[self.steps]] = 1.0
            self.steps += 1
            cache = type("Cache", (), {"batch_select_indices": lambda *_: None})()
            return type("Output", (), {"logits": logits, "past_key_values": cache})()

        monkeypatch.setattr(model, "forward", forward)

    def write(self, text: str, stop: tuple[str, ...]) -> str:
        self.ids = self.tokenizer(text)["input_ids"]
        self.steps = 0
        return self.generator(["x"], len(self.ids), stop)[0]


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("a\n```sql\nb\n```\nc d e", "\n```\n", "a\n```sql\nb\n```\n"),
        ("a b STOP c", "b STOP", "a b STOP"),
        ("one two three four", "two ", "one two "),
        (
            "caf\u00e9 cr\u00e8me \u65e5\u672c\u8a9e and",
            "\u65e5\u672c",
            "caf\u00e9 cr\u00e8me \u65e5\u672c",
        ),
        ("0123456789" * 4 + "x", "0123456789" * 3, "0123456789" * 3),
        ("I say\n```sql\nSELECT 1;\n```\nand", FENCED_BLOCK, "I say\n```sql\nSELECT 1;\n```"),
        ("I say\n```\nSELECT 1;\n```\nand", FENCED_BLOCK, "I say\n```\nSELECT 1;\n```"),
        ("```SELECT 1;``` and", FENCED_BLOCK, "```SELECT 1;```"),
        ("`a` and ``b`` and ```c", FENCED_BLOCK, "`a` and ``b`` and ```c"),
    ],
)
def test_stops_are_found_across_tokens(
    loaded: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    stop: str,
    expected: str,
) -> None:
    byte_level = make_tokenizer(["and one two STOP ```sql"])  # any other text is spelt in bytes
    found = Scripted(monkeypatch, loaded[0], byte_level).write(text, (stop,))
    assert found.startswith(expected)
    assert len(found) - len(expected) <= 3  # the rest of the token that completed it


def joined(slots: Slots, *rows: list[float]) -> None:
    """Adds rows whose keys are these numbers; values are their negatives."""
    width = max(map(len, rows))
    keys = torch.tensor([row + [0.0] * (width - len(row)) for row in rows])[:, None, :, None]
    read = DynamicCache()
    read.update(keys, -keys, 0)
    slots.join(read, torch.tensor([len(row) for row in rows]))


def step(slots: Slots, *numbers: float) -> list[list[float]]:
    """One token more for each row: the keys that each may look at."""
    mask = slots.step()["attention_mask"].bool()
    new = torch.tensor(numbers).view(-1, 1, 1, 1)
    keys, values = slots.update(new, -new, 0)
    # What is hidden must be numbers too: a weight of 0 does not take NaN out of a sum.
    assert torch.equal(keys[:, 0, :, 0][~mask], -values[:, 0, :, 0][~mask])
    return [row[own].tolist() for row, own in zip(keys[:, 0, :, 0], mask, strict=True)]


def test_rows_come_and_go() -> None:
    slots = Slots(1, 3, torch.device("cpu"))
    joined(slots, [1.0, 2.0, 3.0], [4.0])
    assert step(slots, 5.0, 6.0) == [[1.0, 2.0, 3.0, 5.0], [4.0, 6.0]]
    joined(slots, [7.0])
    assert step(slots, 8.0, 9.0, 10.0)[1:] == [[4.0, 6.0, 9.0], [7.0, 10.0]]
    assert slots.leave(torch.tensor([True, False, False])).tolist() == [2, 1]
    assert step(slots, 11.0, 12.0) == [[7.0, 10.0, 11.0], [4.0, 6.0, 9.0, 12.0]]
    for number in range(100):  # beyond the memory that was taken at first
        row = step(slots, float(number), 0.0)[0]
    assert row == [7.0, 10.0, 11.0, *range(100)]


def test_what_a_row_leaves_behind_is_not_seen() -> None:
    slots = Slots(1, 2, torch.device("cpu"))
    joined(slots, [1.0, 2.0, 3.0], [4.0])
    step(slots, 5.0, 6.0)
    step(slots, 7.0, float("nan"))
    assert slots.leave(torch.tensor([False, True])).tolist() == [0]
    joined(slots, [8.0])
    assert step(slots, 9.0, 10.0) == [[1.0, 2.0, 3.0, 5.0, 7.0, 9.0], [8.0, 10.0]]
