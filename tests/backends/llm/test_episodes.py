from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdmerge_llm.tasks import Episode, EpisodeTask
from qdmerge_llm.tasks._kind import Prompt
from qdmerge_llm.transcripts import write_transcripts

ITEMS = [{"id": str(number), "prompt": f"guess {number}"} for number in (1, 3, 9)]


class Guess(EpisodeTask):
    """A number is to be guessed: 'higher' or 'lower' is what the model hears."""

    default_system = "Guess."
    default_rounds = 4

    def __init__(self, **options: Any) -> None:
        super().__init__(None, **options)  # type: ignore[arg-type]
        self.open = 0

    @classmethod
    def problem(cls, item: Any) -> None:
        return None

    def start(self, item: Any) -> Episode:
        if item["id"] == "broken":
            raise RuntimeError("cannot start")
        self.open += 1
        return Episode(item, self.opening(item["prompt"]), state=int(item["id"]))

    def act(self, episodes: Sequence[Episode]) -> None:
        for episode in episodes:
            guess = int(episode.answer)
            if guess == episode.state:
                episode.end(1.0, "found")
            else:
                episode.tell("higher" if guess < episode.state else "lower")

    def close(self, episode: Episode) -> None:
        self.open -= 1


class Counting:
    """A model that says 1, 2, 3, ... in each conversation, and what it was asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, prompts: Sequence[Prompt]) -> list[str]:
        self.batches.append(len(prompts))
        return [str(1 + sum(m["role"] == "assistant" for m in prompt)) for prompt in prompts]


def test_episodes_advance_together_and_leave_when_they_end() -> None:
    task, model = Guess(), Counting()
    episodes = task.play(ITEMS, model)
    assert [episode.score for episode in episodes] == [1.0, 1.0, 0.0]
    assert [episode.detail for episode in episodes] == [
        "found",
        "found",
        "no answer within 4 rounds",
    ]
    assert model.batches == [3, 2, 2, 1]
    assert task.open == 0
    roles = [message["role"] for message in episodes[1].messages]
    assert roles == ["system", "user", *["assistant", "user"] * 2, "assistant"]
    assert episodes[1].messages[3]["content"] == "higher"


def test_episodes_start_when_others_end_so_batches_stay_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Guess, "at_once", 3)
    task, model = Guess(), Counting()
    most = 0

    def watched(prompts: Sequence[Prompt]) -> list[str]:
        nonlocal most
        most = max(most, task.open)
        return model(prompts)

    numbers = [1, 2, 9, 3, 1, 1, 2]
    items = [{"id": str(n), "prompt": ""} for n in numbers]
    episodes = task.play(items, watched)
    assert [episode.item["id"] for episode in episodes] == list(map(str, numbers))
    assert [episode.score for episode in episodes] == [1, 1, 0, 1, 1, 1, 1]
    assert [episode.turns for episode in episodes] == [1, 2, 4, 3, 1, 1, 2]
    assert model.batches == [3, 3, 3, 3, 1, 1]
    assert (most, task.open) == (3, 0)


def test_all_are_closed_when_a_model_fails_and_a_close_fails() -> None:
    class Clumsy(Guess):
        def close(self, episode: Episode) -> None:
            super().close(episode)
            if episode.item["id"] == "3":
                raise RuntimeError("cannot close")

    task = Clumsy()

    def speak(prompts: Sequence[Prompt]) -> list[str]:
        raise ValueError("no model")

    with pytest.raises(RuntimeError, match="cannot close"):
        task.play(ITEMS, speak)
    assert task.open == 0


def test_scores_are_those_of_the_episodes() -> None:
    assert np.array_equal(Guess().evaluate(ITEMS, Counting()), [1.0, 1.0, 0.0])
    assert Guess().evaluate([], Counting()).shape == (0,)


def test_rounds_and_system_prompt_can_be_set() -> None:
    episodes = Guess(rounds=1, system="").play(ITEMS, Counting())
    assert [episode.score for episode in episodes] == [1.0, 0.0, 0.0]
    assert episodes[0].messages[0] == {"role": "user", "content": "guess 1"}


def test_what_was_opened_is_closed_when_another_episode_does_not_start() -> None:
    task = Guess()
    with pytest.raises(RuntimeError, match="cannot start"):
        task.play([*ITEMS, {"id": "broken", "prompt": ""}], Counting())
    assert task.open == 0


def test_transcripts_show_what_the_result_solves_and_the_base_does_not(tmp_path: Path) -> None:
    def play(x: np.ndarray, items: Sequence[Any]) -> list[Episode]:
        return Guess(rounds=int(x[0])).play(items, Counting())

    models = {"base": np.array([1]), "expert:guess": np.array([2]), "chosen": np.array([3])}
    page = write_transcripts(tmp_path / "page.md", "guess", ITEMS, models, play, shown=1)
    text = page.read_text()
    assert "- base: solves 1 of the 3 problems considered" in text
    assert "- chosen: solves 2 of the 3 problems considered" in text
    assert text.count("\n## ") == 1
    assert "\n## 3\n" in text
    assert "### base: 0 no answer within 1 rounds" in text
    assert "### chosen: 1 found" in text
    assert text.count("guess 3") == 1  # what all models were asked stands once


def test_fences_in_a_turn_do_not_end_its_block(tmp_path: Path) -> None:
    episode = Episode(ITEMS[0], [{"role": "user", "content": "````\ncode\n````"}], score=1.0)
    models = {"a": np.zeros(1), "b": np.zeros(1)}
    page = write_transcripts(tmp_path / "p.md", "t", ITEMS[:1], models, lambda x, i: [episode])
    assert "`````text\n````\ncode\n````\n`````" in page.read_text()
