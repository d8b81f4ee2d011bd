from __future__ import annotations

import pytest
import torch

from qdmerge.errors import ConfigError
from qdmerge.execution import pick_device, pick_dtype


def test_a_device_that_is_none_is_told() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="device 'gpu': torch knows no such kind"):
        pick_device("gpu")
    with pytest.raises(ConfigError, match=r"torch sees \d+ GPUs"):
        pick_device("cuda:99")


def test_a_type_is_picked_by_its_name() -> None:
    assert pick_dtype("float16") == torch.float16
    for name in ("int8", "half a float", "nn"):
        with pytest.raises(ConfigError, match="no floating-point type"):
            pick_dtype(name)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"avx512_f": True}, torch.float32)],
)
def test_auto_is_what_the_processor_computes_in(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert pick_dtype("auto", "cpu") == expected
    assert pick_dtype("auto", "meta") == torch.float32
