"""Every archive with every emitter, and every scheduler, on merged language models."""

from __future__ import annotations

from qdmerge_llm.backend import LLMBackend
from tests.swaps import every_combination, short_search


@every_combination
def test_parts_swap(backend: LLMBackend, archive: str, emitter: str, scheduler: str) -> None:
    short_search(backend, archive, emitter, scheduler)
