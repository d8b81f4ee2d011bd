"""The experts at work on items of no split, for spaces that look at what layers receive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from qdmerge_llm.items import Item, content_hash

if TYPE_CHECKING:
    from qdmerge_llm.backend import LLMBackend, LLMTask


class ExpertsAtWork:
    """A :class:`qdmerge.spaces.Calibration`: experts answer items of their own tasks.

    An expert first writes its answers, as in an evaluation, whose scores are not used. Then it
    reads every prompt with its answer, one at a time and so without padding.

    Args:
        backend: The backend whose live model is used.
        items: Name of a task to what gives at most so many items of it.
        settings: Name of a task to what decides how it is asked, JSON-able.
    """

    def __init__(
        self,
        backend: LLMBackend,
        items: Mapping[str, Callable[[int], Sequence[Item]]],
        settings: Mapping[str, Any],
    ) -> None:
        self.module = backend.model
        self._backend = backend
        self._items = items
        self._settings = settings
        self._tasks: dict[str, list[LLMTask]] = {}
        for task in backend.llm_tasks:
            self._tasks.setdefault(task.task.expert or task.task.name, []).append(task)
        self.experts = tuple(self._tasks)

    def key(self, examples: int) -> str:
        """A hash of items, tasks' settings, number type and chat template."""
        asked = [
            [expert, task.task.name, self._items[task.task.name](examples)]
            for expert, tasks in self._tasks.items()
            for task in tasks
        ]
        facts = self._backend.facts()
        how = [facts[part] for part in ("dtype", "prompts", "chat_template")]
        return content_hash([asked, self._settings, how])

    def passes(self, expert: str, examples: int) -> Iterator[Callable[[], object]]:
        """Reads prompts of the expert's tasks with the answers that the live model gives now."""
        for task in self._tasks[expert]:
            items = self._items[task.task.name](examples)
            for ids in self._backend.answered(task, items):
                yield partial(self.module, input_ids=ids, use_cache=False)
