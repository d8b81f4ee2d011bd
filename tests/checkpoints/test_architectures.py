"""Every architecture that transformers can make small: an average is that of plain torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    SiglipVisionConfig,
)

from qdmerge.checkpoints import TaskVectors, checkpoint_problems, loading_problems
from qdmerge.spaces import ExpertSpace
from tests.tiny import CAUSAL, NotTiny, tiny

IDS = {"input_ids": torch.tensor([[5, 6, 7, 8, 9]])}


def answers(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        torch.manual_seed(0)
        return model.eval()(**inputs).logits.float()


def averaged(auto: Any, paths: dict[str, Path]) -> Any:
    """The experts' mean, from what plain transformers loads."""
    models = [auto.from_pretrained(p, dtype=torch.float32) for k, p in paths.items() if k != "base"]
    mean = auto.from_pretrained(paths["base"], dtype=torch.float32)
    states = [model.state_dict() for model in models]
    for name, tensor in mean.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(sum(state[name] for state in states) / len(states))
    return mean


def assert_averages(
    auto: Any, models: dict[str, Any], inputs: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    paths = {}
    for name, model in models.items():
        paths[name] = tmp_path / name
        model.save_pretrained(paths[name])
    expected = answers(averaged(auto, paths), inputs)
    base = paths.pop("base")
    found = checkpoint_problems(base, paths) or loading_problems(base, auto.__name__)
    assert not found
    space = ExpertSpace(TaskVectors(base, paths))
    x = space.merge([0.5, 0.5])
    live = auto.from_pretrained(base, dtype=torch.float32)
    space.express(x, live)
    scale = expected.abs().max().item()
    written = auto.from_pretrained(space.export(x, tmp_path / "out"), dtype=torch.float32)
    for model in (live, written):
        torch.testing.assert_close(answers(model, inputs), expected, rtol=1e-5, atol=1e-5 * scale)
    assert not torch.allclose(expected, answers(models["base"], inputs), rtol=1e-3)


def gemma3(seed: int) -> Gemma3ForConditionalGeneration:
    text = Gemma3TextConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    vision = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1)
    torch.manual_seed(seed)
    return Gemma3ForConditionalGeneration(config)


def test_a_model_for_images_and_text(tmp_path: Path) -> None:
    models = {name: gemma3(seed) for seed, name in enumerate(("base", "a", "b"))}
    assert_averages(AutoModelForCausalLM, models, IDS, tmp_path)
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert "language_model.model.embed_tokens.weight" in file.keys()  # noqa: SIM118


@pytest.mark.parametrize(("kind", "ties"), [("llama", True), ("gpt2", False), ("phimoe", None)])
def test_a_few_architectures(kind: str, ties: bool | None, tmp_path: Path) -> None:
    options = {} if ties is None else {"tie_word_embeddings": ties}
    models = {k: tiny(kind, seed, **options) for seed, k in enumerate(("base", "a", "b"))}
    assert_averages(AutoModelForCausalLM, models, IDS, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CAUSAL)
def test_every_causal_architecture(kind: str, tmp_path: Path) -> None:
    try:
        models = {name: tiny(kind, seed) for seed, name in enumerate(("base", "a", "b"))}
    except NotTiny as reason:
        pytest.skip(str(reason))
    models["base"].save_pretrained(tmp_path / "base")
    try:
        AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    except ValueError as error:
        assert "Unrecognized configuration class" in str(error)
        (problem,) = loading_problems(tmp_path / "base", "AutoModelForCausalLM")
        assert f"of type '{models['base'].config.model_type}'" in problem
    else:
        assert_averages(AutoModelForCausalLM, models, IDS, tmp_path)
