"""Tokens per second of batched generation, beside ``model.generate``; asserts nothing.

python examples/benchmarks/generation.py
python examples/benchmarks/generation.py --model SmolLM2 --data dbbench-dev.jsonl

Prompts are conversations of AgentBench's database problems, with the system prompt that the task
gives them: those of a data file in AgentBench's format, or generated ones. Every way completes the
same prompts with the same model, in turns. Tokens are those of the completions; what a prompt costs
to read is part of the time. On one thread of a CPU the time is the processor's, which other
programs disturb less than they do the clock on the wall.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from qdmerge.execution import pick_device, pick_dtype
from qdmerge_llm.generation import Generator
from qdmerge_llm.tasks import AgentBenchDBTask

PLAIN = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


def made_up(count: int) -> list[dict[str, Any]]:
    """Problems on tables of made-up shops, of differing lengths."""
    rng = np.random.default_rng(0)
    words = ["name", "price", "city", "year of opening", "owner", "number of employees", "street"]
    rows = []
    for k in range(count):
        heads = list(rng.permutation(words)[: rng.integers(3, len(words))])
        question = f"What is the {heads[0]} where {heads[1]} is {rng.integers(1000)}?"
        about = f"The name of this table is Shops {k}, and the headers are {','.join(heads)}."
        rows.append({"description": question, "add_description": about})
    return rows


def conversations(rows: list[dict[str, Any]]) -> list[list[dict[str, str]]]:
    """First turns of the episodes."""
    system = {"role": "system", "content": AgentBenchDBTask.default_system}
    said = [f"{row['description']}\n{row.get('add_description', '')}" for row in rows]
    return [[system, {"role": "user", "content": text}] for text in said]


class Ways:
    """The same completions, got in three ways.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with a chat template.
        prompts: Conversations.
        batch_size: Prompts decoded together.
        max_new_tokens: Most tokens of a completion.
    """

    def __init__(
        self, model: Any, tokenizer: Any, prompts: list[Any], batch_size: int, max_new_tokens: int
    ) -> None:
        self._model, self._tokenizer, self._prompts = model, tokenizer, prompts
        self._batch_size, self._max_new_tokens = batch_size, max_new_tokens
        rendered = tokenizer.apply_chat_template(
            prompts, add_generation_prompt=True, tokenize=False
        )
        self.ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        self._pad = tokenizer.pad_token_id or tokenizer.eos_token_id or 0
        self._settings = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=self._pad,
        )

    def one_by_one(self) -> list[str]:
        """``model.generate`` for each prompt."""
        return self._generate(1)

    def naive(self) -> list[str]:
        """``model.generate`` on batches in the order of the file, padded on the left."""
        return self._generate(self._batch_size)

    def ours(self) -> list[str]:
        """The generator of qdmerge."""
        generator = Generator(self._model, self._tokenizer, self._batch_size)
        return generator(self._prompts, self._max_new_tokens)

    def _generate(self, size: int) -> list[str]:
        texts = []
        for start in range(0, len(self.ids), size):
            batch = self.ids[start : start + size]
            width = max(map(len, batch))
            ids = torch.tensor([[self._pad] * (width - len(row)) + row for row in batch])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
            with torch.inference_mode():
                found = self._model.generate(
                    input_ids=ids.to(self._model.device),
                    attention_mask=mask.to(self._model.device),
                    generation_config=self._settings,
                )
            texts += self._tokenizer.batch_decode(found[:, width:], skip_special_tokens=True)
        return texts


def compare(
    ways: Ways, tokenizer: Any, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> None:
    """Times all ways in turns and prints medians, ratios and how many texts agree."""
    calls: dict[str, Callable[[], list[str]]] = {
        "generate, one by one": ways.one_by_one,
        "generate, naive batches": ways.naive,
        "qdmerge": ways.ours,
    }
    texts: dict[str, list[str]] = {}
    speeds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = clock()
            texts[name] = call()
            seconds = clock() - start
            ids = tokenizer(texts[name], add_special_tokens=False)["input_ids"]
            # With its end-of-sequence token, so that a model that says nothing still counts.
            speeds[name].append(sum(len(row) + 1 for row in ids) / seconds)
    first = texts["generate, one by one"]
    for name, found in speeds.items():
        ratios = [ours / other for ours, other in zip(speeds["qdmerge"], found, strict=True)]
        same = sum(a == b for a, b in zip(first, texts[name], strict=True))
        print(
            f"  {name:24} {statistics.median(found):7.1f} tokens/s "
            f"[{min(found):.1f}, {max(found):.1f}]; qdmerge is {statistics.median(ratios):.2f} "
            f"times as fast [{min(ratios):.2f}, {max(ratios):.2f}]; "
            f"{same} of {len(first)} texts as one by one"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="model folder (default: the tiny base)")
    parser.add_argument("--adapter", type=Path, help="LoRA adapter to merge into it")
    parser.add_argument("--data", type=Path, help="rows of AgentBench DB, JSON lines")
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, ...")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if args.model is None:
        from qdmerge_zoo.llm import zoo

        args.model = zoo() / "base"
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    tokenizer.chat_template = tokenizer.chat_template or PLAIN
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
    if args.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, args.adapter).merge_and_unload()
    model.to(device).eval()
    if args.data:
        rows = [json.loads(line) for line in args.data.read_text(encoding="utf-8").splitlines()]
    else:
        rows = made_up(args.prompts)
    prompts = conversations(rows[: args.prompts])
    ways = Ways(model, tokenizer, prompts, args.batch_size, args.max_new_tokens)
    lengths = sorted(map(len, ways.ids))
    room = getattr(model.config, "max_position_embeddings", None)
    if room and lengths[-1] + args.max_new_tokens > room:
        model.config.max_position_embeddings = lengths[-1] + args.max_new_tokens
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    print(
        f"{args.model.name}{f' with {args.adapter.name}' if args.adapter else ''}: "
        f"{model.num_parameters() / 1e6:.1f} million parameters, {str(dtype)[6:]} on {device}, "
        f"{torch.get_num_threads()} threads\n"
        f"{len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens (median "
        f"{lengths[len(lengths) // 2]}), at most {args.max_new_tokens} new ones, batches of "
        f"{args.batch_size}; median of {args.repeats} rounds [least, most]; "
        f"{'processor' if alone else 'wall'} time"
    )
    compare(ways, tokenizer, args.repeats, time.process_time if alone else time.perf_counter)


if __name__ == "__main__":
    main()
