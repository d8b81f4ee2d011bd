"""Tasks of the language model evaluation harness (PyPI ``lm-eval``)."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from qdmerge.errors import ConfigError, QDMergeError, UnsupportedError, nearest
from qdmerge_llm.items import Item
from qdmerge_llm.tasks._kind import Generate, TaskKind

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SEED = 1234  # of the examples shown before a question, as in lm-eval's own default


class LMEvalTask(TaskKind):
    """Any task of lm-eval by name, scored on the live model; for reporting, not for evolution.

    Brings its own documents and asks the model for likelihoods as well as for text. A group's
    tasks count by their documents.

    Args:
        task: Name of a task or group.
        include_path: Folder of further task files (YAML). Data that such a file names by a
            relative path is searched from the working directory, as in lm-eval. A name found here
            is not searched among lm-eval's own tasks, most of which download their data.
        metric: Metric and filter as lm-eval's tables name them ("acc", "acc_norm",
            "exact_match,strict-match"); one with a score for each document, from 0 to 1, higher
            being better.
        limit: Documents scored, the first ones (of each task); None is all.
        num_fewshot: Examples shown before each question; None is the task's own number.
        batch_size: Texts that the model reads together.

    Raises:
        ConfigError: There is no such task, its data cannot be loaded, it has no such metric, or
            it executes what the model writes, which lm-eval does without a sandbox.
        UnsupportedError: lm-eval is not installed.
    """

    metric: ClassVar[str] = "score"
    side_only: ClassVar[bool] = True

    def __init__(
        self,
        task: str,
        include_path: str | None = None,
        metric: str = "acc",
        limit: PositiveInt | None = None,
        num_fewshot: NonNegativeInt | None = None,
        batch_size: PositiveInt = 16,
    ) -> None:
        self._name = task
        self._metric, _, wanted = metric.partition(",")
        self._filter = wanted or "none"
        self._limit = limit
        self._num_fewshot = num_fewshot
        self._batch_size = batch_size
        with _quiet():
            self._loaded = self._load(_manager(task, include_path))
        for name, one in self._loaded["tasks"].items():
            self._check_metric(name, one.higher_is_better())
            if getattr(one, "UNSAFE_CODE", False):
                raise ConfigError(
                    f"lm-eval task '{name}' executes what the model writes, without a sandbox; use "
                    "a kind of qdmerge for it, such as humaneval or mbpp"
                )
            self._set_shots(one)

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """Return None: there are no items of a file."""
        return None

    @classmethod
    def options_problem(cls, options: Mapping[str, Any]) -> str | None:
        """Return whether lm-eval, the folder or the task is missing; loads no data."""
        try:
            with _quiet():
                _manager(options["task"], options.get("include_path"))
        except QDMergeError as error:
            return str(error)
        return None

    def own_items(self) -> Sequence[Item]:
        """Return what the model is asked, examples before the question included, and the answer."""
        items = []
        for name, task in sorted(self._loaded["tasks"].items()):
            with _quiet():
                task.set_fewshot_seed(_SEED)
                task.build_all_requests(limit=self._limit, rank=0, world_size=1)
            for number, (_, asked) in enumerate(groupby(task.instances, lambda one: one.doc_id)):
                requests = list(asked)
                items.append(
                    {
                        "id": f"{name}/{number}",
                        "prompt": str(requests[0].args[0]),
                        "requests": [[str(value) for value in one.args] for one in requests],
                        "target": str(task.doc_to_target(requests[0].doc)),
                    }
                )
        return items

    def evaluate(self, items: Sequence[Item], generate: Generate) -> np.ndarray:
        """Refuse: this kind is scored by :meth:`evaluate_model`.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"lm-eval task '{self._name}' asks the model itself")

    def evaluate_model(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> np.ndarray:
        """Return the scores of one model, on the same documents in the same order each time.

        Args:
            model: Causal model in evaluation mode.
            tokenizer: Its tokenizer.

        Returns:
            ``(n,)`` float64 scores from 0 to 1, one per document.

        Raises:
            ConfigError: The metric has no score from 0 to 1 for each document.
        """
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM

        with _quiet():
            for task in self._loaded["tasks"].values():
                task.set_fewshot_seed(_SEED)  # the same examples before each model's questions
            # Not simple_evaluate, which seeds the global generators and asks git, pip and the
            # system about themselves: twenty seconds on a busy machine.
            found = evaluate(
                HFLM(pretrained=model, tokenizer=tokenizer, batch_size=self._batch_size),
                self._loaded,
                limit=self._limit,
                bootstrap_iters=0,
            )
        samples: Mapping[str, list[dict[str, Any]]] = found["samples"] if found else {}
        scores = [s for name in sorted(samples) for s in self._scores(name, samples[name])]
        return np.array(scores, dtype=float)

    def _scores(self, name: str, samples: Sequence[Mapping[str, Any]]) -> list[float]:
        """Score of one task's documents, in the order of the documents."""
        chosen = sorted(
            (s for s in samples if s["filter"] == self._filter), key=lambda s: int(s["doc_id"])
        )
        if not chosen:
            known = sorted({str(s["filter"]) for s in samples})
            raise ConfigError(
                f"lm-eval task '{name}' has no filter '{self._filter}'"
                f"{nearest(self._filter, known)} Known: {', '.join(known)}."
            )
        values = [s.get(self._metric) for s in chosen]
        if not all(isinstance(v, (bool, int, float, np.number)) and 0 <= v <= 1 for v in values):
            raise ConfigError(
                f"lm-eval task '{name}': metric '{self._metric}' has no score from 0 to 1 for each "
                "document (perplexities, likelihoods and scores of whole corpora have none); "
                "choose another one, such as acc or exact_match"
            )
        return [float(v) for v in values]  # type: ignore[arg-type]

    def _check_metric(self, name: str, higher_is_better: Mapping[str, bool]) -> None:
        if self._metric not in higher_is_better:
            known = ", ".join(sorted(higher_is_better))
            raise ConfigError(
                f"lm-eval task '{name}' has no metric '{self._metric}'"
                f"{nearest(self._metric, higher_is_better)} Known: {known}."
            )
        if not higher_is_better[self._metric]:
            raise ConfigError(
                f"lm-eval task '{name}': less is better of metric '{self._metric}'; choose one of "
                "which more is better"
            )

    def _set_shots(self, task: Any) -> None:
        """Set the number of examples before each question, as lm-eval's own command does."""
        own = task.get_config("num_fewshot")
        if own is None:
            task.set_config(key="num_fewshot", value=self._num_fewshot or 0)
        elif own != 0 and self._num_fewshot is not None:  # 0: the task is made for none
            task.set_config(key="num_fewshot", value=self._num_fewshot)

    def _load(self, manager: Any) -> Any:
        """Return the tasks of the name, with their data, and the groups they are in."""
        try:
            return manager.load([self._name])
        except Exception as error:  # whatever its YAML, its template or its data set raise
            raise ConfigError(f"lm-eval task '{self._name}' cannot be loaded: {error}") from error


def _manager(name: str, include_path: str | None) -> Any:
    """Return the task manager that knows a task or group; ConfigError if there is none."""
    folder = None if include_path is None else Path(include_path).expanduser()
    if folder and not folder.is_dir():
        raise ConfigError(f"include_path: there is no folder '{include_path}'")
    if importlib.util.find_spec("lm_eval") is None:
        raise UnsupportedError(
            "lm_eval tasks need the evaluation harness: pip install 'qdmerge[eval]'"
        )
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=folder, include_defaults=False)
    if name not in manager.all_tasks:
        manager = _all_tasks(folder)
    if name not in manager.all_tasks:
        where = f" nor in {include_path}" if include_path else ""
        raise ConfigError(
            f"there is no task '{name}' in lm-eval{where}{nearest(name, manager.all_tasks)}"
        )
    return manager


@functools.lru_cache
def _all_tasks(folder: Path | None) -> Any:
    """Return the task manager that also knows lm-eval's own files (ten seconds to read). It tells
    only where tasks are: they are read anew by each load.
    """
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence lm-eval's log, its progress bars and those of the data set library."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as null,
            contextlib.redirect_stderr(null),
            contextlib.redirect_stdout(null),
        ):
            yield
    finally:
        log.setLevel(level)
