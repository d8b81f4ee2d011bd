"""The experts at work on items of no split, for spaces that look at what layers receive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from qdmerge_llm.items import Item, content_hash

if TYPE_CHECKING:
    from qdmerge_llm.backend import LLMBackend, LLMTask


class ExpertsAtWork:
    """A :class:`qdmerge.spaces.Calibration`: experts answer items of their own tasks.

    Args:
        backend: The backend whose live model is used.
        items: Name of a task to what gives at most so many items of it.
    """

    def __init__(
        self, backend: LLMBackend, items: Mapping[str, Callable[[int], Sequence[Item]]]
    ) -> None:
        self.module = backend.model
        self._backend = backend
        self._items = items
        self._tasks: dict[str, list[LLMTask]] = {}
        for task in backend.llm_tasks:
            self._tasks.setdefault(task.task.expert or task.task.name, []).append(task)
        self.experts = tuple(self._tasks)

    def key(self, examples: int) -> str:
        """A hash of items, limits of answers, and what decides how the model runs."""
        facts = self._backend.facts()
        return content_hash(
            [
                [
                    [expert, self._items[t.task.name](examples), t.max_new_tokens, list(t.stop)]
                    for expert, tasks in self._tasks.items()
                    for t in tasks
                ],
                [facts[part] for part in ("dtype", "prompts", "chat_template")],
            ]
        )

    def run(self, expert: str, examples: int) -> None:
        """Asks the live model at most so many items of each of the expert's tasks."""
        for task in self._tasks[expert]:
            self._backend.ask(task, self._items[task.task.name](examples))
