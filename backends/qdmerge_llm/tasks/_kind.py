"""What a task kind is, and episodes: a model and an environment take turns until a score stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from qdmerge.errors import hint_renamed
from qdmerge_llm.items import Item
from qdmerge_llm.sandbox import Sandbox

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Message = Mapping[str, str]
"""One turn of a conversation: ``role`` ("system", "user" or "assistant") and ``content``."""
Prompt = str | Sequence[Message]
"""A text to continue, or a conversation that ends with a user turn."""
Generate = Callable[[Sequence[Prompt]], list[str]]
"""A model: prompts to completions, in order."""
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""An option that is a time."""


def extract(text: str, stop: Sequence[str] = ()) -> str:
    """Return the answer in a completion: what comes before the first stop string, stripped."""
    ends = [text.index(mark) for mark in stop if mark in text]
    return text[: min(ends, default=len(text))].strip()


class TaskKind(ABC):
    """Scores a model on items. A kind is built once per task and worker.

    Attributes:
        metric: What the score is, for tables and axes.
        stop: Strings that end an answer, besides the end-of-sequence token.
        chat: Whether the model is asked in conversations, which need a chat template.
        side_only: Whether the kind brings its own items and asks the model itself, not for
            completions alone (:meth:`own_items`, :meth:`evaluate_model`). For side tasks only.
        leaves_out: Whether rows that cannot be used are left out, and named, not refused: for files
            of benchmarks, which others made.
    """

    metric: ClassVar[str] = "success rate"
    stop: ClassVar[tuple[str, ...]] = ()
    chat: ClassVar[bool] = False
    side_only: ClassVar[bool] = False
    leaves_out: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Read the former name of :attr:`side_only`, with a hint."""
        super().__init_subclass__(**options)
        if "reported_only" in cls.__dict__:
            hint_renamed(f"{cls.__name__}.reported_only", "side_only")
            cls.side_only = cls.__dict__["reported_only"]

    @classmethod
    def options_problem(cls, options: Mapping[str, Any]) -> str | None:
        """Return why options of right types cannot be used, or None; downloads nothing."""
        return None

    def own_items(self) -> Sequence[Item]:
        """Return the items that a kind brings itself, for their number and their hash."""
        return ()

    def evaluate_model(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> np.ndarray:
        """Return the scores of one model on the kind's own items: ``(n,)`` float64."""
        raise NotImplementedError(f"{type(self).__name__} scores items of a data file")

    @classmethod
    def read(cls, row: Mapping[str, Any], number: int) -> Item:
        """Return the item of a row of the data file, for kinds with fields of their own.

        Args:
            row: The row.
            number: Its number, from 1.

        Returns:
            A mapping with at least ``id`` (unique) and ``prompt``, and ``group`` where several
            rows ask for the same thing.

        Raises:
            ConfigError, KeyError, TypeError or ValueError: The row is not of the kind's form.
        """
        return row

    @classmethod
    def bare_question(cls, item: Item) -> str:
        """Return what an item asks for, in the words to search training conversations for.

        The prompt; less where the prompt adds something to the question of a benchmark.
        """
        return str(item["prompt"])

    @classmethod
    @abstractmethod
    def problem(cls, item: Item) -> str | None:
        """Return what is wrong with the form of an item's fields, or None."""

    def unusable(self, items: Sequence[Item]) -> Mapping[str, str]:
        """Try items of right form, and return the id and reason of each that cannot be used.

        Called on the chosen items only.
        """
        return {}

    def remarks(self, items: Sequence[Item]) -> list[str]:
        """Return what a user should know of items that can be used, a line each."""
        return []

    @classmethod
    def unaskable(cls, item: Item) -> str | None:
        """Return what keeps an item that may lack labels from being asked, or None."""
        return cls.problem(item)

    def ask(self, items: Sequence[Item], generate: Generate) -> None:
        """Ask a model as :meth:`evaluate` does, for its answers alone.

        Args:
            items: The items; :meth:`unaskable` says nothing against them.
            generate: The model, as for :meth:`evaluate`.
        """
        self.evaluate(items, generate)

    @abstractmethod
    def evaluate(self, items: Sequence[Item], generate: Generate) -> np.ndarray:
        """Return the scores of one model.

        Args:
            items: The n items.
            generate: The model: prompts to completions, in order; may be called any number of
                times.

        Returns:
            ``(n,)`` float64 scores, one per item.
        """

    def also(self, items: Sequence[Item]) -> tuple[str, ...]:
        """Return the names of further scores that items have; results show them beside the score,
        and nothing is chosen by them.
        """
        return ()

    def evaluate_all(self, items: Sequence[Item], generate: Generate) -> dict[str, np.ndarray]:
        """Return the scores of one model, as :meth:`evaluate` does, by name: "" for the score
        itself, then those of :meth:`also`.
        """
        return {"": self.evaluate(items, generate)}


@dataclass(eq=False)
class Episode:
    """One item on its way to a score.

    Attributes:
        item: The item.
        messages: The conversation so far.
        state: The kind's own: a database, a session of the sandbox.
        score: None while the episode is open.
        detail: The reason for the score, in a line.
        also: Further scores by name; see :meth:`TaskKind.also`.
        turns: Turns the model has had.
    """

    item: Item
    messages: list[Message]
    state: Any = field(default=None, repr=False)
    score: float | None = None
    detail: str = ""
    also: Mapping[str, float] = field(default_factory=dict)
    turns: int = 0

    @property
    def answer(self) -> str:
        """The model's last turn."""
        return next(m["content"] for m in reversed(self.messages) if m["role"] == "assistant")

    def tell(self, text: str) -> None:
        """Append a user turn."""
        self.messages.append({"role": "user", "content": text})

    def end(self, score: float, detail: str = "", also: Mapping[str, float] | None = None) -> None:
        """End the episode; ``also`` are its further scores, those not given are the score."""
        self.score, self.detail, self.also = float(score), detail, also or {}


Speak = Callable[[Sequence[Episode]], list[str]]
"""The model's next turn in each of some episodes."""
Turns = Callable[[Item], Sequence[str]]
"""What a model says to an item, turn by turn."""


class EpisodeTask(TaskKind):
    """A task in which the model acts in an environment, for one turn or several.

    Args:
        sandbox: Where what the model writes is executed.
        system: System prompt; None for the kind's own, "" for none.
        rounds: Turns the model has; None for the kind's own number.

    Attributes:
        at_once: Most episodes that are open at a time.
    """

    chat: ClassVar[bool] = True
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
        """Open the environment of an item; the messages end with a user turn."""

    @abstractmethod
    def act(self, episodes: Sequence[Episode]) -> None:
        """Take the model's last turn in each episode: end it, or append a user turn."""

    def begin(self, items: Sequence[Item], opened: list[Episode]) -> None:
        """Start the episodes of items; ``opened`` holds all that were started, also on failure.

        Args:
            items: The items.
            opened: Receives their episodes, in order.
        """
        for item in items:
            opened.append(self.start(item))  # noqa: PERF401  what began must be closed

    def close(self, episode: Episode) -> None:
        """Release the state of an episode; called once for each that was started."""

    @classmethod
    def gold(cls, item: Item) -> list[str]:
        """Return the turns of a perfect model; [] where the row gives none.

        ``{output}`` in a turn stands for what the environment answered to the turn before.
        """
        return []

    @classmethod
    def output_of(cls, turn: str) -> str:
        """Return what ``{output}`` stands for: the output that a user turn reports."""
        return turn

    @classmethod
    def question(cls, item: Item) -> str:
        """Return what the model is asked first."""
        return str(item["prompt"])

    def opening(self, text: str) -> list[Message]:
        """Return a conversation's first messages: the system prompt, if any, and ``text``."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": text}]

    def prompt(self, episode: Episode) -> Prompt:
        """Return what the model reads: the conversation, or its text for kinds without a chat."""
        messages = episode.messages
        return messages if self.chat else "".join(message["content"] for message in messages)

    def play(self, items: Sequence[Item], generate: Generate) -> list[Episode]:
        """Play all episodes to their ends, a turn of up to :attr:`at_once` of them at a time.

        The next ones start when others end, so every call of ``generate`` has a whole batch to
        decode, however many turns an episode takes.

        Returns:
            The episodes, in the order of the items, each with its score and conversation.
        """
        return self.play_with(items, lambda going: generate([self.prompt(e) for e in going]))

    def play_with(self, items: Sequence[Item], speak: Speak) -> list[Episode]:
        """Play as :meth:`play` does, with a model that is given episodes, not prompts."""
        episodes: list[Episode] = []
        going: list[Episode] = []
        try:
            while len(episodes) < len(items) or going:
                before = len(going)
                more = self.at_once - before
                self.begin(items[len(episodes) : len(episodes) + more], going)
                episodes += going[before:]
                self._take_turns([e for e in going if e.score is None], speak)
                over = [e for e in going if e.score is not None]
                going[:] = [e for e in going if e.score is None]
                with ExitStack() as stack:  # each is closed, whatever the others do
                    for episode in over:
                        stack.callback(self.close, episode)
        finally:
            with ExitStack() as stack:
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
        """Return the scores of one model: ``(n,)`` float64, one per episode."""
        return self.evaluate_all(items, generate)[""]

    def evaluate_all(self, items: Sequence[Item], generate: Generate) -> dict[str, np.ndarray]:
        """Return the scores of one model by name; see :meth:`TaskKind.evaluate_all`."""
        episodes = self.play(items, generate)
        scores = {"": [episode.score or 0.0 for episode in episodes]}
        for name in self.also(items):
            scores[name] = [e.also.get(name, e.score or 0.0) for e in episodes]
        return {name: np.array(values, dtype=np.float64) for name, values in scores.items()}


def replay(task: EpisodeTask, items: Sequence[Item], turns: Turns | None = None) -> list[Episode]:
    """Play written turns as if a model had said them.

    ``{output}`` in a turn after the first stands for what the environment answered, as the kind's
    :meth:`EpisodeTask.output_of` reads it. A model out of turns says nothing.

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
            if episode.turns:
                told = task.output_of(episode.messages[-1]["content"])
                turn = turn.replace("{output}", told)
            answers.append(turn)
        return answers

    return task.play_with(items, speak)
