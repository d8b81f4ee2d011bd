"""Makes ``model.safetensors`` and ``tokenizer.json``, the micro model of the tests beside it.

They are shipped, not made by the tests: what training gives differs from one CPU to another. Here
it goes on until every answer is known by a margin that no rounding crosses::

    python -m tests.backends.llm.micro.make
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from tests.backends.llm.conftest import (
    MICRO,
    TASKS,
    few_items,
    make_tokenizer,
    micro_config,
    micro_tokenizer,
)

STEPS = 3_000
NOISE = 0.02  # of the weights, while it learns: what survives this survives rounding
MARGIN = 4.0  # of logits, which the loss asks for


def main(folder: Path = MICRO) -> None:
    torch.manual_seed(0)
    rows = [item for kind in TASKS.values() for item in few_items(kind)]
    pairs = [(item["prompt"], "\n" + item["answer"]) for item in rows]
    tokenizer = make_tokenizer([p + a for p, a in pairs])
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer = micro_tokenizer()
    model = LlamaForCausalLM(micro_config(tokenizer))
    train(model, tokenizer, pairs)
    weights = {
        name: weight.half().contiguous()
        for name, weight in model.state_dict().items()
        if name != "lm_head.weight"  # tied
    }
    save_file(weights, folder / "model.safetensors")


def train(model: LlamaForCausalLM, tokenizer: Any, pairs: list[tuple[str, str]]) -> None:
    texts = [
        (tokenizer(p)["input_ids"], tokenizer(a)["input_ids"] + [tokenizer.eos_token_id])
        for p, a in pairs
    ]
    width = max(len(p) + len(a) for p, a in texts)
    ids = torch.tensor([p + a + [0] * (width - len(p) - len(a)) for p, a in texts])
    learned = torch.tensor(
        [[0] * len(p) + [1] * len(a) + [0] * (width - len(p) - len(a)) for p, a in texts]
    ).bool()[:, 1:]
    truth = ids[:, 1:][learned]
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, STEPS)
    for step in range(STEPS):
        noise = [NOISE * torch.randn_like(weight) for weight in weights]
        with torch.no_grad():
            torch._foreach_add_(weights, noise)
        logits = model(input_ids=ids).logits[:, :-1][learned]
        # The right token counts for MARGIN less than it has.
        handicap = MARGIN * torch.nn.functional.one_hot(truth, logits.shape[1])
        loss = torch.nn.functional.cross_entropy(logits - handicap, truth)
        optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            torch._foreach_sub_(weights, noise)
        optimizer.step()
        schedule.step()
        if step % 250 == 249:
            print(f"step {step + 1}: loss {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
