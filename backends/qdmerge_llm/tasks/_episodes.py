"""Episodes: a model and an environment take turns until a score stands."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks._base import Generate, Item, Message, TaskKind


@dataclass(eq=False)
class Episode:
    """One problem on its way to a score.

    Attributes:
        item: The problem.
        messages: The conversation so far.
        state: The kind's own: a database, a session of the sandbox.
        score: None while the episode goes on.
        detail: Why it scored so, in a line.
        turns: Turns the model has had.
    """

    item: Item
    messages: list[Message]
    state: Any = field(default=None, repr=False)
    score: float | None = None
    detail: str = ""
    turns: int = 0

    @property
    def answer(self) -> str:
        """What the model said last."""
        return next(m["content"] for m in reversed(self.messages) if m["role"] == "assistant")

    def tell(self, text: str) -> None:
        """Appends a user turn."""
        self.messages.append({"role": "user", "content": text})

    def end(self, score: float, detail: str = "") -> None:
        """Ends the episode."""
        self.score, self.detail = float(score), detail


Speak = Callable[[Sequence[Episode]], list[str]]
"""The model's next turn in each of some episodes."""


class EpisodeTask(TaskKind):
    """A task in which the model acts in an environment, for one turn or several.

    Args:
        sandbox: Where what the model writes is executed.
        system: System prompt; None for the kind's own, "" for none.
        rounds: Turns the model has; None for the kind's own number.

    Attributes:
        at_once: Episodes that are open at a time.
    """

    default_system: ClassVar[str] = ""
    default_rounds: ClassVar[int] = 1
    at_once: ClassVar[int] = 256

    def __init__(
        self, sandbox: Sandbox, system: str | None = None, rounds: PositiveInt | None = None
    ) -> None:
        self._sandbox = sandbox
        self.system = self.default_system if system is None else system
        self.rounds = self.default_rounds if rounds is None else rounds

    @abstractmethod
    def start(self, item: Item) -> Episode:
        """Opens the environment of an item; the messages end with a user turn."""

    @abstractmethod
    def act(self, episodes: Sequence[Episode]) -> None:
        """Takes the model's last turn in each episode: ends it, or appends a user turn."""

    def begin(self, items: Sequence[Item], opened: list[Episode]) -> None:
        """Starts the episodes of items; all that were started are in ``opened``, also if one fails.

        Args:
            items: The items.
            opened: What their episodes are appended to, in order.
        """
        for item in items:
            opened.append(self.start(item))  # noqa: PERF401  what began must be closed

    def close(self, episode: Episode) -> None:
        """Releases the state of an episode; called once for each that was started."""

    @classmethod
    def gold(cls, item: Item) -> list[str]:
        """The turns of a perfect model; [] where the row gives none.

        ``{output}`` in a turn stands for what the environment answered to the turn before.
        """
        return []

    @classmethod
    def output_of(cls, turn: str) -> str:
        """What ``{output}`` stands for: the output that a user turn reports."""
        return turn

    @classmethod
    def question(cls, item: Item) -> str:
        """What the model is asked first."""
        return str(item["prompt"])

    def opening(self, text: str) -> list[Message]:
        """A conversation's first messages: the system prompt, if there is one, and ``text``."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": text}]

    def play(self, items: Sequence[Item], generate: Generate) -> list[Episode]:
        """Plays all episodes to their ends, a turn of up to :attr:`at_once` of them at a time.

        The next ones start when others end, so every call of ``generate`` has a whole batch to
        decode, however many turns an episode takes.

        Returns:
            The episodes, in the order of the items, each with its score and conversation.
        """
        return self.play_with(items, lambda going: generate([e.messages for e in going]))

    def play_with(self, items: Sequence[Item], speak: Speak) -> list[Episode]:
        """:meth:`play`, of what is given the episodes rather than their conversations."""
        episodes: list[Episode] = []
        going: list[Episode] = []
        try:
            while len(episodes) < len(items) or going:
                before = len(going)
                more = self.at_once - before
                self.begin(items[len(episodes) : len(episodes) + more], going)
                episodes += going[before:]
                self._take_turns([e for e in going if e.score is None], speak)
                for episode in [e for e in going if e.score is not None]:
                    going.remove(episode)
                    self.close(episode)
        finally:
            with ExitStack() as stack:  # each is closed, whatever the others do
                for episode in going:
                    stack.callback(self.close, episode)
        return episodes

    def _take_turns(self, episodes: Sequence[Episode], speak: Speak) -> None:
        if not episodes:
            return
        for episode, answer in zip(episodes, speak(episodes), strict=True):
            episode.messages.append({"role": "assistant", "content": answer})
            episode.turns += 1
        self.act(episodes)
        for episode in episodes:
            if episode.score is None and episode.turns >= self.rounds:
                episode.end(0.0, f"no answer within {self.rounds} rounds")

    def evaluate(self, items: Sequence[Item], generate: Generate) -> np.ndarray:
        """Scores of one model: ``(n,)``, one per episode."""
        scores = [episode.score or 0.0 for episode in self.play(items, generate)]
        return np.array(scores, dtype=np.float64)
