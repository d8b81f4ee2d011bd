"""Every test of a contract notices a part that breaks what it asks for."""

from __future__ import annotations

import inspect
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ConfigDict
from qdmerge_toy import ToyBackend, ToyConfig, ToyGuide
from ribs.archives import GridArchive
from ribs.emitters import GaussianEmitter

from qdmerge import testing
from qdmerge.backend import SIDE, Evaluation
from qdmerge.execution import SerialExecutor
from qdmerge.merges import DareSpace, TiesSpace
from qdmerge.schedulers import CycleScheduler
from qdmerge.spaces import LayerSpace, Merger, VectorSpace
from tests.testing.test_our_parts import vectors

CONTRACTS = {
    name: contract
    for name, contract in vars(testing).items()
    if inspect.isclass(contract) and name.endswith("Contract")
}
BREAKS: dict[tuple[str, str], list[Callable[[], object]]] = {}
"""(contract, test) to what makes an instance whose test must fail."""


def breaks(contract: str, *tests: str) -> Callable[[Callable], Callable]:
    """The decorated function makes a broken part; tests of the contract that notice it."""

    def register(make: Callable[..., object]) -> Callable[..., object]:
        maker = {
            "Space": "make_space",
            "Archive": "make_archive",
            "Emitter": "make_emitter",
            "Scheduler": "make_scheduler",
            "Executor": "make_executor",
            "Backend": "make_backend",
        }[contract]
        if isinstance(make, type) and issubclass(make, tuple(CONTRACTS.values())):
            suite = make
        else:
            suite = type("Broken", (CONTRACTS[f"{contract}Contract"],), {maker: staticmethod(make)})
        for test in tests:
            BREAKS.setdefault((f"{contract}Contract", f"test_{test}"), []).append(suite)
        return make

    return register


def every_test() -> Iterator[tuple[str, str]]:
    for name, contract in CONTRACTS.items():
        yield from ((name, test) for test in vars(contract) if test.startswith("test_"))


# --- spaces -------------------------------------------------------------------------------------


@breaks("Space", "dimension_and_bounds")
def bounds_of_another_length() -> VectorSpace:
    space = VectorSpace({"a": np.zeros(3)})
    space.lower_bounds = np.zeros(2)
    return space


@breaks("Space", "seeds_are_solutions")
def writable_seeds() -> VectorSpace:
    space = VectorSpace({"a": np.zeros(3)})
    space.seeds["a"] = np.zeros(3)
    return space


@breaks("Space", "seeds_are_solutions")
def a_seed_out_of_bounds() -> VectorSpace:
    space = VectorSpace({"a": np.zeros(3)})
    space.upper_bounds -= np.inf
    return space


@breaks("Space", "solutions_are_checked")
def a_space_that_takes_anything() -> VectorSpace:
    class Trusting(VectorSpace):
        def check(self, x: Any) -> np.ndarray:
            return np.asarray(x, dtype=self.dtype)

    return Trusting({"a": np.zeros(3)})


_spaces_made = itertools.count()


@breaks("Space", "the_same_space_again")
def another_space_each_time() -> VectorSpace:
    return VectorSpace({"a": np.full(3, next(_spaces_made))})


class Skewed(LayerSpace):
    """Off the linear map, by what ``skew`` makes of a tensor."""

    def skew(self, x: np.ndarray, tensor: torch.Tensor) -> torch.Tensor:
        return tensor + 0.1 * float(np.square(x).sum())

    def tensors(self, x: Any) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in super().tensors(x):
            yield name, self.skew(x, tensor) if tensor.is_floating_point() else tensor


@breaks("Space", "experts_are_reproduced", "a_live_module_gets_the_same_weights")
@breaks("Space", "the_map_is_linear", "every_linear_merge_is_a_solution")
def weights_beside_the_map() -> LayerSpace:
    return Skewed(vectors())


@breaks("Space", "far_away_solutions_have_finite_weights")
def weights_that_explode() -> LayerSpace:
    class Exploding(Skewed):
        def skew(self, x: np.ndarray, tensor: torch.Tensor) -> torch.Tensor:
            return tensor / max(0.0, 2.0 - float(np.abs(x).max()))

    return Exploding(vectors())


@breaks("Space", "gradients_are_those_of_the_weights")
def half_a_gradient() -> LayerSpace:
    class Halved(LayerSpace):
        def _merger(self, x: torch.Tensor) -> Merger:
            return super()._merger((x + x.detach()) / 2)

    return Halved(vectors())


@breaks("Space", "gradients_are_those_of_the_weights")
def a_promise_of_gradients() -> TiesSpace:
    class Promising(TiesSpace):
        differentiable = True

    return Promising(vectors())


@breaks("Space", "gradients_are_those_of_the_weights")
def no_gradient_and_not_a_word() -> DareSpace:
    class Silent(DareSpace):
        def check_differentiable(self) -> None:
            pass

    return Silent(vectors())


# --- archives -----------------------------------------------------------------------------------


def broken_archive(**methods: Any) -> Callable[[Any], Any]:
    kind = type("BrokenArchive", (GridArchive,), methods)
    return lambda spec: kind(dims=[9] * len(spec.axes), ranges=spec.ranges, **spec.storage)


@breaks("Archive", "it_is_what_the_spec_says")
def an_archive_of_another_dtype(spec: Any) -> Any:
    return GridArchive(dims=[9, 9], ranges=spec.ranges, solution_dim=spec.solution_dim)


def _add_without_status(self: Any, *args: Any, **fields: Any) -> dict:
    info = GridArchive.add(self, *args, **fields)
    return {**info, "status": info["status"][:1]}


def _add_in_disorder(self: Any, solution: Any, objective: Any, measures: Any) -> dict:
    return GridArchive.add(self, solution, objective[::-1], measures)


def _add_the_newest(self: Any, solution: Any, objective: Any, measures: Any) -> dict:
    self.clear()
    return GridArchive.add(self, solution, objective, measures)


def _refuse_the_outside(self: Any, solution: Any, objective: Any, measures: Any) -> dict:
    if (np.abs(measures) > 1).any():
        raise ValueError("out of range")
    return GridArchive.add(self, solution, objective, measures)


breaks("Archive", "adding_reports_what_entered")(broken_archive(add=_add_without_status))
breaks("Archive", "elites_are_solutions_that_were_added")(broken_archive(add=_add_in_disorder))
breaks("Archive", "the_best_stays")(broken_archive(add=_add_the_newest))
breaks("Archive", "values_beyond_the_axes_are_taken")(broken_archive(add=_refuse_the_outside))
breaks("Archive", "elites_can_be_sampled")(
    broken_archive(sample_elites=lambda self, n: {"solution": np.zeros((n, 4))})
)


@breaks("Archive", "the_spec_decides_everything")
def an_archive_of_a_seed_of_its_own(spec: Any) -> Any:
    storage = {**spec.storage, "seed": None}
    return GridArchive(dims=[9, 9], ranges=spec.ranges, **storage)


# --- emitters -----------------------------------------------------------------------------------


class Scripted(GaussianEmitter):
    """A Gaussian emitter whose solutions pass through ``change``."""

    change: Callable[[Any, np.ndarray], np.ndarray] = staticmethod(lambda self, x: x)

    def ask(self) -> np.ndarray:
        self.asked = getattr(self, "asked", -1) + 1
        return type(self).change(self, super().ask())


def broken_emitter(change: Callable[[Any, np.ndarray], np.ndarray], seed: Any = None) -> Any:
    kind = type("BrokenEmitter", (Scripted,), {"change": staticmethod(change)})

    def make(archive: Any, spec: Any) -> Any:
        own = spec.seed if seed is None else seed()
        return kind(archive, sigma=0.1, x0=spec.space.x0, batch_size=2, seed=own)

    return make


_seeds = itertools.count()


def _same_memory(self: Any, x: np.ndarray) -> np.ndarray:
    self.memory = getattr(self, "memory", x)
    self.memory[:] = x
    return self.memory


def _parents_of_another_shape(self: Any, x: np.ndarray) -> np.ndarray:
    self.parents = np.zeros((len(x), 2, x.shape[1] + 1))
    return x


breaks("Emitter", "solutions_fit_the_space")(broken_emitter(lambda self, x: x + 9))
breaks("Emitter", "the_seed_decides_everything")(
    broken_emitter(lambda self, x: x, seed=lambda: next(_seeds))
)
breaks("Emitter", "the_seed_decides_everything")(broken_emitter(lambda self, x: x, seed=lambda: 1))
breaks("Emitter", "the_seed_decides_everything")(
    broken_emitter(lambda self, x: x + 0 * np.random.normal())  # noqa: NPY002
)
breaks("Emitter", "a_batch_is_the_caller_s")(broken_emitter(_same_memory))
breaks("Emitter", "several_batches_out")(broken_emitter(lambda self, x: np.zeros_like(x)))
breaks("Emitter", "a_replay_resumes_it")(broken_emitter(lambda self, x: x + 1e-9 * next(_seeds)))
breaks("Emitter", "failures_are_survived")(
    broken_emitter(lambda self, x: x * (np.nan if self.asked > 2 else 1))
)
breaks("Emitter", "parents_belong_to_children")(broken_emitter(_parents_of_another_shape))


@breaks("Emitter", "gradients_come_before_children")
def blind_to_gradients(archive: Any, spec: Any) -> Any:
    class Blind(Scripted):
        def ask_dqd(self) -> np.ndarray:
            return self.x0[None]

    return Blind(archive, sigma=0.1, x0=spec.space.x0, batch_size=2, seed=spec.seed)


# --- schedulers ---------------------------------------------------------------------------------


def broken_scheduler(**methods: Any) -> type:
    return type("BrokenScheduler", (CycleScheduler,), methods)


_turns = itertools.count()


def _tell_one_archive(self: Any, batch: Any, scores: Any, *more: Any) -> dict:
    status = CycleScheduler.tell(self, batch, scores, *more)
    return {batch.task: status[batch.task]}


def _offer_in_one_role(self: Any, column: int, *args: Any) -> dict:
    return _offered(self, 0 if column == 1 else column, *args)


_offered = CycleScheduler._offer


def _take_any_scores(self: Any, batch: Any, scores: Any, measures: Any) -> tuple:
    n, k = len(batch), len(self.tasks)
    whole = np.resize(np.asarray(scores, float), (n, k))
    return whole, np.empty((n, 0)), np.ones(n, bool)


def _failures_as_zero(self: Any, batch: Any, scores: Any, measures: Any) -> tuple:
    return _checked(self, batch, np.nan_to_num(scores), measures)


_checked = CycleScheduler._checked


_checked_jacobians = CycleScheduler._checked_jacobians


def _jacobians_in_another_order(self: Any, batch: Any, jacobians: Any, valid: Any) -> tuple:
    return _checked_jacobians(self, batch, jacobians[:, ::-1], valid)


def _one_batch_at_a_time(self: Any) -> Any:
    if self.out:
        raise RuntimeError("tell first")
    return CycleScheduler.ask(self)


breaks("Scheduler", "ask_and_tell")(broken_scheduler(tell=_tell_one_archive))
breaks("Scheduler", "every_archive_sees_its_own_role")(
    broken_scheduler(_checked=lambda self, b, s, m: _checked(self, b, np.roll(s, 1, axis=1), m))
)
breaks("Scheduler", "several_batches_out")(broken_scheduler(ask=_one_batch_at_a_time))
breaks("Scheduler", "what_learns_is_told_before_it_is_asked_again")(
    broken_scheduler(_ready_tasks=lambda self: self.tasks)
)
breaks("Scheduler", "gradients_come_before_children")(
    broken_scheduler(_checked_jacobians=_jacobians_in_another_order)
)
breaks("Scheduler", "gradients_come_before_children")(
    broken_scheduler(_ask_dqd=lambda self, task: self._ask(task))
)
breaks("Scheduler", "a_batch_is_told_once")(
    broken_scheduler(
        tell=lambda self, batch, scores: (
            CycleScheduler.tell(self, batch, scores)
            if batch.id in self._out
            else self.offer(batch.solutions, scores)
        )
    )
)
breaks("Scheduler", "wrong_shapes_are_refused")(broken_scheduler(_checked=_take_any_scores))
breaks("Scheduler", "failures_enter_no_archive")(broken_scheduler(_checked=_failures_as_zero))
breaks("Scheduler", "enqueued_solutions_come_next")(
    broken_scheduler(enqueue=lambda self, solutions: None)
)
breaks("Scheduler", "nothing_is_random", "a_replay_resumes_it")(
    broken_scheduler(choose=lambda self, ready: ready[next(_turns) % 5 % len(ready)])
)


# --- executors ----------------------------------------------------------------------------------


class Passing:
    """An executor that hands everything to another one, with changes."""

    def __init__(self, inner: Any, change: Any = None, close: Any = None) -> None:
        self.inner, self.change, self.ends = inner, change, close

    def submit(self, x: np.ndarray, split: str) -> Future:
        x, split = self.change(x, split) if self.change else (x, split)
        return self.inner.submit(x, split)

    def close(self) -> None:
        (self.ends or self.inner.close)()


@breaks("Executor", "results_belong_to_their_solutions")
def an_executor_that_mixes_solutions_up(build: Any) -> Any:
    return Passing(SerialExecutor(build()), lambda x, split: (x[[0, 2, 1]], split))


@breaks("Executor", "the_split_arrives")
def an_executor_that_always_validates(build: Any) -> Any:
    return Passing(SerialExecutor(build()), lambda x, split: (x, "validation"))


@breaks("Executor", "a_failure_is_an_outcome")
class HidingExecutor(testing.ExecutorContract):
    """A failure becomes a score."""

    def make_executor(self, build: Any) -> Any:
        return Passing(SerialExecutor(build()), lambda x, split: (x * [0, 1, 1], split))


@breaks("Executor", "a_wrong_shape_is_a_failure")
def an_executor_that_checks_nothing(build: Any) -> Any:
    backend = build()

    class Unchecked:
        def submit(self, x: np.ndarray, split: str) -> Future:
            future: Future = Future()
            future.set_result((backend.evaluate(x[None], split), 0.0))
            return future

        def close(self) -> None:
            pass

    return Unchecked()


class OneLife:
    """After a failure, every evaluation fails."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.dead = inner, False

    def submit(self, x: np.ndarray, split: str) -> Future:
        self.dead |= x[0] > 0
        future: Future = Future()
        if self.dead:
            future.set_exception(RuntimeError("the pool is broken"))
            return future
        return self.inner.submit(x, split)

    def close(self) -> None:
        self.inner.close()


@breaks("Executor", "a_dead_worker_is_an_outcome", "a_time_limit_is_kept")
class FragileExecutor(testing.ExecutorContract):
    time_limit = 1.0

    def make_executor(self, build: Any) -> Any:
        return OneLife(SerialExecutor(build()))


@breaks("Executor", "close_waits_for_nothing")
class WaitingExecutor(testing.ExecutorContract):
    processes = False

    def make_executor(self, build: Any) -> Any:
        return Passing(SerialExecutor(build()), close=lambda: (_ for _ in ()).throw(OSError))


# --- backends -----------------------------------------------------------------------------------


def broken_backend(options: Any = None, **methods: Any) -> Callable[[], ToyBackend]:
    kind = type("BrokenBackend", (ToyBackend,), methods)
    return lambda: kind(ToyConfig(**(options or {})))


def _changed(change: Callable[[np.ndarray, np.ndarray], Any]) -> Any:
    def evaluate(self: Any, xs: np.ndarray, split: str) -> Evaluation:
        honest = ToyBackend.evaluate(self, xs, split)
        return Evaluation(change(honest.scores, xs), honest.measures, honest.items)

    return evaluate


def _without_items_of_a_task(self: Any, xs: np.ndarray, split: str) -> Evaluation:
    honest = ToyBackend.evaluate(self, xs, split)
    items = [{"task0": scores["task0"]} for scores in honest.items or ()]
    return Evaluation(honest.scores, honest.measures, items)


def _any_split(self: Any, xs: np.ndarray, split: str) -> Evaluation:
    return ToyBackend.evaluate(self, xs, split if split in ("selection", "test") else "validation")


def _side_tasks_as_tasks(self: Any, xs: np.ndarray, split: str) -> Evaluation:
    return ToyBackend.evaluate(self, xs, "validation" if split == SIDE else split)


def _write(xs: np.ndarray) -> float:
    xs += 1
    return 0.0


_evaluations = itertools.count()

breaks("Backend", "tasks_make_archives")(broken_backend({"n_tasks": 1}))
breaks("Backend", "every_split_is_scored")(broken_backend(evaluate=_changed(lambda s, x: s + 1)))
breaks("Backend", "every_split_is_scored")(
    broken_backend(evaluate=_changed(lambda s, x: np.where(s > 0.9, np.nan, s)))
)
breaks("Backend", "an_unknown_split_is_refused")(broken_backend(evaluate=_any_split))
breaks("Backend", "evaluations_can_be_repeated")(
    broken_backend(evaluate=_changed(lambda s, x: s + 1e-9 * next(_evaluations)))
)
breaks("Backend", "rows_belong_to_their_own_solutions")(
    broken_backend(evaluate=_changed(lambda s, x: s - s.mean() / 9))
)
breaks("Backend", "solutions_are_only_read")(
    broken_backend(evaluate=_changed(lambda s, x: s + _write(x)))
)
breaks("Backend", "items_cover_every_task")(broken_backend(evaluate=_without_items_of_a_task))
breaks("Backend", "side_tasks_are_scored_apart")(
    broken_backend({"side_tasks": ("far", "near")}, evaluate=_side_tasks_as_tasks)
)
breaks("Backend", "an_export_is_the_model")(broken_backend(export=lambda self, x, path: Path(path)))
breaks("Backend", "facts_are_plain")(broken_backend(facts=lambda self: {"here": Path()}))
breaks("Backend", "close_can_be_repeated")(
    broken_backend(close=lambda self: self.__dict__.pop("tasks"))
)


def broken_guide(**methods: Any) -> Callable[[], ToyBackend]:
    def build() -> ToyBackend:
        backend = ToyBackend(ToyConfig())
        backend.guide = type("BrokenGuide", (ToyGuide,), methods)(backend.peaks, None)
        return backend

    return build


def _answering(change: Callable[[Any, dict[str, float], np.ndarray], Any]) -> Any:
    def gradient(self: Any, *asked: Any) -> tuple[dict[str, float], np.ndarray]:
        losses, gradient = ToyGuide.gradient(self, *asked)
        return change(self, losses, gradient) or (losses, gradient)

    return gradient


def _move_the_peaks(guide: Any, *_: Any) -> None:
    guide.peaks += 0.01


_questions = itertools.count()
_MATCHES = "the_gradient_of_a_guide_is_the_slope_of_its_loss"
breaks("Backend", "a_guide_has_items_of_every_task")(
    broken_guide(prepare=lambda self: self.sizes.pop("task1", None))
)
breaks("Backend", "a_guide_has_items_of_every_task")(
    broken_guide(key=lambda self: str(next(_questions)))
)
for change in (
    lambda self, losses, gradient: (losses, -gradient),
    lambda self, losses, gradient: (losses, 1.5 * gradient),
    lambda self, losses, gradient: (losses, gradient * np.array([1, 0, 1, 1])),
    lambda self, losses, gradient: (losses, gradient[:, None]),
    lambda self, losses, gradient: (dict.fromkeys(losses, np.nan), gradient),
    lambda self, losses, gradient: (losses, np.full_like(gradient, np.inf)),
):
    breaks("Backend", _MATCHES)(broken_guide(gradient=_answering(change)))
breaks("Backend", "a_guide_can_be_asked_again")(
    broken_guide(gradient=_answering(lambda _, losses, g: (losses, g + 1e-3 * next(_questions))))
)
breaks("Backend", "scores_do_not_depend_on_the_guide")(
    broken_guide(gradient=_answering(_move_the_peaks))
)


class LooseConfig(ToyConfig):
    model_config = ConfigDict(frozen=False)


@breaks("Backend", "settings_travel_to_workers")
class OfLooseSettings(testing.BackendContract):
    def make_config(self) -> ToyConfig:
        return LooseConfig()


# --- the proof ----------------------------------------------------------------------------------


def test_every_test_of_every_contract_has_a_part_that_breaks_it() -> None:
    assert len(CONTRACTS) == 6
    assert set(BREAKS) == set(every_test())


@pytest.mark.parametrize(
    ("test", "suite"),
    [
        pytest.param(test, suite, id=f"{contract}-{test}-{number}")
        for (contract, test), suites in BREAKS.items()
        for number, suite in enumerate(suites)
    ],
)
def test_a_broken_part_is_noticed(test: str, suite: Any) -> None:
    with pytest.raises((AssertionError, Exception, pytest.fail.Exception)) as caught:
        getattr(suite(), test)()
    assert not isinstance(caught.value, pytest.skip.Exception)
    assert not isinstance(caught.value, NotImplementedError)


def test_without_pytest_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "try: import qdmerge.testing\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'qdmerge[testing]'" in done.stdout
