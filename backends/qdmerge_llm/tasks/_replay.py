"""Gold replay: what a perfect model would say, played through the runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from qdmerge_llm.tasks._base import Item
from qdmerge_llm.tasks._episodes import Episode, EpisodeTask

Turns = Callable[[Item], Sequence[str]]
"""What a model says to an item, turn by turn."""


def replay(task: EpisodeTask, items: Sequence[Item], turns: Turns | None = None) -> list[Episode]:
    """Plays written turns as if a model had said them.

    ``{output}`` in a turn stands for what the user turn before it reports: all of it, or what the
    kind's ``output_of`` makes of it. A model out of turns says nothing.

    Args:
        task: The kind, ready.
        items: Its items.
        turns: The turns of an item; None for those of a perfect model, :meth:`EpisodeTask.gold`.

    Returns:
        The episodes, in order.
    """
    said = turns or task.gold
    left: dict[int, Iterator[str]] = {}

    def speak(episodes: Sequence[Episode]) -> list[str]:
        answers = []
        for episode in episodes:
            turn = next(left.setdefault(id(episode), iter(said(episode.item))), "")
            told = task.output_of(episode.messages[-1]["content"])
            answers.append(turn.replace("{output}", told))
        return answers

    return task.play_with(items, speak)
