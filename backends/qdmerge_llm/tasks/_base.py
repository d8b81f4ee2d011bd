"""What a task kind is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from qdmerge.errors import hint_renamed
from qdmerge_llm.items import content_hash
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks._batch import Output, run_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Item = Mapping[str, Any]
Message = Mapping[str, str]
"""One turn of a conversation: ``role`` ("system", "user" or "assistant") and ``content``."""
Prompt = str | Sequence[Message]
"""A text to go on from, or a conversation that ends with a user turn."""
Generate = Callable[[Sequence[Prompt]], list[str]]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""An option that is a time."""


def extract(text: str, stop: Sequence[str] = ()) -> str:
    """The answer in a completion: what comes before the first stop string, stripped."""
    ends = [text.index(mark) for mark in stop if mark in text]
    return text[: min(ends, default=len(text))].strip()


class TaskKind(ABC):
    """Scores a model on items. A kind is built once per task and worker.

    Attributes:
        metric: What the score is, for tables and axes.
        stop: Strings that end an answer, besides the end-of-sequence token.
        side_only: The kind brings its own items and asks the model itself, not for completions
            alone: :meth:`own_items` and :meth:`evaluate_model`. For side tasks only.
    """

    metric: ClassVar[str] = "success rate"
    stop: ClassVar[tuple[str, ...]] = ()
    side_only: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Read the former name of :attr:`side_only`, with a hint."""
        super().__init_subclass__(**options)
        if "reported_only" in cls.__dict__:
            hint_renamed(f"{cls.__name__}.reported_only", "side_only")
            cls.side_only = cls.__dict__["reported_only"]

    @classmethod
    def options_problem(cls, options: Mapping[str, Any]) -> str | None:
        """What keeps options of right types from being used, without any download, or None."""
        return None

    def own_items(self) -> Sequence[Item]:
        """The items that a kind brings itself, for their number and their hash."""
        return ()

    def evaluate_model(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> np.ndarray:
        """Scores of one model on the kind's own items: ``(n,)`` float64."""
        raise NotImplementedError(f"{type(self).__name__} scores items of a data file")

    @classmethod
    def read(cls, row: Mapping[str, Any], number: int) -> Item:
        """The item of a row of the data file, for kinds whose rows have fields of their own.

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
        """What an item asks for, in the words that training conversations are searched for.

        The prompt; less where it adds something to the question of a benchmark.
        """
        return str(item["prompt"])

    @classmethod
    @abstractmethod
    def problem(cls, item: Item) -> str | None:
        """What is wrong with the form of an item's fields, or None."""

    def unusable(self, items: Sequence[Item]) -> Mapping[str, str]:
        """What keeps items of right form from being used, found by trying: id to reason.

        Asked for the items that were chosen only.
        """
        return {}

    @abstractmethod
    def evaluate(self, items: Sequence[Item], generate: Generate) -> np.ndarray:
        """Scores of one model.

        Args:
            items: The n items.
            generate: The model: prompts to completions, in order; may be called any number of
                times.

        Returns:
            ``(n,)`` float64 scores, one per item.
        """


class ExecutedTask(TaskKind):
    """One completion per item, executed in the sandbox and compared with what is expected.

    Models of a search often answer alike, so a task remembers what it has executed: a score is of
    the item (JSON) and the answer alone, and one that draws random numbers is drawn once.

    Args:
        sandbox: Where answers run.
        seconds: Wall time of one answer.
        cpu_seconds: CPU time of one process; reached before ``seconds`` also on a busy machine, so
            scores do not depend on its load.
    """

    runner: ClassVar[str]

    def __init__(
        self, sandbox: Sandbox, seconds: Seconds = 10.0, cpu_seconds: PositiveInt = 1
    ) -> None:
        self._sandbox = sandbox
        self._seconds = seconds
        self._cpu_seconds = cpu_seconds
        self._known: dict[str, bool] = {}

    def evaluate(self, items: Sequence[Item], generate: Generate) -> np.ndarray:
        """Scores of one model: ``(n,)`` in {0, 1}."""
        completions = generate([item["prompt"] for item in items])
        return self.score(items, [extract(text, self.stop) for text in completions])

    def score(self, items: Sequence[Item], answers: Sequence[str]) -> np.ndarray:
        """Executes the answers that no earlier call has seen end.

        Args:
            items: The n items.
            answers: One answer per item.

        Returns:
            ``(n,)`` float64: 1 for a right answer, 0 for any other (wrong, failed, too slow).
        """
        asked = {k: content_hash([items[k], a]) for k, a in enumerate(answers) if a.strip()}
        new = [k for k, key in asked.items() if key not in self._known]
        payloads = [self._payload(items[k], answers[k]) for k in new]
        outputs = run_batch(self._sandbox, self.runner, payloads, self._seconds, self._cpu_seconds)
        passed = {k: self._known[key] for k, key in asked.items() if key in self._known}
        for k, output in zip(new, outputs, strict=True):
            passed[k] = output.ended and self._passed(items[k], output)
            if output.status >= 0:  # what was stopped may have been slow for the machine's sake
                self._known[asked[k]] = passed[k]
        return np.array([float(passed.get(k, False)) for k in range(len(items))])

    @abstractmethod
    def _payload(self, item: Item, answer: str) -> dict[str, Any]:
        """What the runner needs; never what is expected."""

    @abstractmethod
    def _passed(self, item: Item, output: Output) -> bool:
        """Whether the output of an answer that came to its end is the expected one."""


def same(value: Any, expected: Any, tolerance: float = 1e-6) -> bool:
    """Equality of JSON values as Python sees it, floats within a tolerance."""
    if isinstance(value, float) or isinstance(expected, float):
        numbers = isinstance(value, (int, float)) and isinstance(expected, (int, float))
        if not numbers:
            return False
        if value == expected:
            return True
        try:
            return bool(abs(value - expected) <= tolerance * max(1.0, abs(expected)))
        except OverflowError:  # an integer beyond all floats
            return False
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(
            same(value[key], expected[key]) for key in value
        )
    return bool(value == expected)
