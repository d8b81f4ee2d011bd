"""Every archive with every emitter, and every scheduler, on merged language models."""

from __future__ import annotations

import pytest

from qdmerge_llm.backend import LLMBackend
from qdmerge_llm.config import LLMConfig
from qdmerge_llm.sandbox import Sandbox
from tests.backends.llm.conftest import Micro
from tests.swaps import every_combination, short_search


@pytest.fixture(scope="module")
def backend(micro: Micro, sandbox: Sandbox) -> LLMBackend:
    """Three tasks of one item each: parts are swapped, and scores only have to be there."""
    settings = micro.config()
    for task in settings["tasks"].values():
        task["validation"] = 1
    return LLMConfig(**settings).build()


@every_combination
def test_parts_swap(backend: LLMBackend, archive: str, emitter: str, scheduler: str) -> None:
    short_search(backend, archive, emitter, scheduler)
