"""Configurations that differ: what the forward pass uses is refused, found by computing."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from qdmerge.checkpoints import checkpoint_problems
from qdmerge.checkpoints._configuration import differences
from tests.checkpoints.test_architectures import gemma3
from tests.checkpoints.test_layout import edit_config
from tests.tiny import CAUSAL, NotTiny, tiny

IDS = torch.arange(24)[None]


def entries(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from entries(value, (*path, key))
        else:
            yield (*path, key)


def changed(config: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    """The configuration with another number in one place; None where there is none."""
    config = copy.deepcopy(config)
    place: Any = config
    for key in path[:-1]:
        place = place[key]
    value = place[path[-1]]
    if isinstance(value, bool):
        place[path[-1]] = not value
    elif isinstance(value, int | float):
        place[path[-1]] = value + 1 if isinstance(value, int) else 0.5 * value + 0.3
    else:
        return None
    return config


def logits(model: Any) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.inference_mode():
        return model.eval()(input_ids=IDS, use_cache=False).logits


SWITCHES = {"tie_word_embeddings", "is_encoder_decoder", "use_cache", "output_attentions"}
"""Compared otherwise, or set by the caller."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", CAUSAL)
def test_what_is_ignored_has_no_effect(kind: str) -> None:
    try:
        model = tiny(kind)
        expected = logits(model)
    except Exception as reason:  # among them NotTiny, and inputs that the model does not take
        pytest.skip(str(reason))
    config = model.config.to_dict()
    for path in entries(config):
        other = changed(config, path)
        if other is None or path[-1] in SWITCHES or differences(config, other):
            continue
        try:
            found = type(model.config)(**{k: v for k, v in other.items() if k != "model_type"})
            again = type(model)(found)
            again.load_state_dict(model.state_dict())
            got = logits(again)
        except Exception:  # no such model, or one of other shapes: seen elsewhere
            continue
        scale = expected.abs().max().item()
        gap = (got - expected).abs().max().item()
        assert gap <= 1e-4 * scale, ".".join(path)


@pytest.mark.parametrize(
    ("kind", "entry"),
    [("roberta", "pad_token_id"), ("phimoe", "router_jitter_noise"), ("dory", "initializer_range")],
)
def test_what_only_some_models_use(kind: str, entry: str, tmp_path: Path) -> None:
    try:
        models = [tiny(kind), tiny(kind, 1)]
    except (KeyError, NotTiny):
        pytest.skip("this transformers has no such model")
    base, expert = (tmp_path / "base", tmp_path / "a")
    for model, folder in zip(models, (base, expert), strict=True):
        model.save_pretrained(folder)
    assert checkpoint_problems(base, {"a": expert}) == []
    edit_config(expert, **{entry: getattr(models[1].config, entry) + 1})
    (problem,) = checkpoint_problems(base, {"a": expert})
    assert f"(base -> expert): {entry} " in problem


def test_entries_of_parts_are_named_with_their_path(tmp_path: Path) -> None:
    text = {"rms_norm_eps": 0.1, "final_logit_softcapping": 30.0, "sliding_window": 2}
    base, expert = (tmp_path / "base", tmp_path / "a")
    for seed, folder in enumerate((base, expert)):
        gemma3(seed).save_pretrained(folder)
    config = gemma3(0).config.to_dict()["text_config"]
    edit_config(expert, text_config=config | text)
    (problem,) = checkpoint_problems(base, {"a": expert})
    assert all(f"text_config.{name} " in problem for name in text)
    allowed = [f"text_config.{name}" for name in text]
    assert checkpoint_problems(base, {"a": expert}, allowed) == []
    assert checkpoint_problems(base, {"a": expert}, ["text_config"]) == []
