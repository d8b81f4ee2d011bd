"""The contract of a domain."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from qdmerge_toy import ToyConfig

from qdmerge.backend import BackendConfig, Evaluation, GenomeBackend, Task, side_tasks
from qdmerge.errors import EvaluationError

numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(table=arrays(np.float64, st.tuples(st.integers(0, 5), st.just(3)), elements=numbers))
def test_rows_are_valid_where_everything_is_finite(table: np.ndarray) -> None:
    expected = [all(np.isfinite(value) for value in row) for row in table.tolist()]
    assert Evaluation(table).valid.tolist() == expected
    assert Evaluation(table[:, :1], table[:, 1:]).valid.tolist() == expected


def test_checked_gives_float64_and_an_empty_table_of_no_measures() -> None:
    checked = Evaluation([[1, 0]]).checked(1, 2, 0)
    assert checked.scores.dtype == np.float64
    assert checked.measures is not None
    assert checked.measures.shape == (1, 0)


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (Evaluation(np.zeros((2, 3))), r"\(2, 3\); expected \(models, tasks\) = \(2, 2\)"),
        (Evaluation(np.zeros((2, 2))), r"measures of shape \(2, 0\).*\(2, 1\)"),
        (Evaluation(np.zeros((2, 2)), np.zeros((1, 1))), r"\(1, 1\).*measures\) = \(2, 1\)"),
        (Evaluation(np.zeros((2, 2)), np.zeros((2, 1)), [{}] * 3), "of 3 models; expected 2"),
    ],
)
def test_checked_refuses_other_shapes(evaluation: Evaluation, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluation.checked(2, 2, 1)


def test_a_backend_inherits_what_is_optional() -> None:
    class Bare(GenomeBackend):
        def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
            return Evaluation(np.zeros((len(xs), 1)))

    bare = Bare()
    assert bare.measures == ()
    assert bare.facts() == {}
    assert bare.illustrate({"base": np.zeros(1)}, Path("nowhere")) == ()
    bare.close()
    with pytest.raises(NotImplementedError, match="Bare cannot export"):
        bare.export(np.zeros(1), Path("nowhere"))
    with pytest.raises(NotImplementedError, match="Bare exports no LoRA adapters"):
        bare.export_adapter(np.zeros(1), Path("nowhere"))


def test_settings_are_frozen_refuse_unknown_keys_and_travel_to_workers() -> None:
    config = ToyConfig(dim=3)
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValidationError):
        config.dim = 4
    with pytest.raises(ValidationError):
        ToyConfig(dmi=3)
    assert BackendConfig().problems() == []
    assert ToyConfig(dim=1).problems() == ["dim must be at least 2; got 1"]
    with pytest.raises(NotImplementedError):
        BackendConfig().build(None)


def test_former_names_of_settings_are_read_with_a_hint() -> None:
    class Renamed(ToyConfig):
        renamed: ClassVar[dict[str, str]] = {"width": "dim"}

    with pytest.warns(FutureWarning, match=r"'backend\.width' is now 'backend\.dim'"):
        assert Renamed.model_validate({"width": 7}) == Renamed(dim=7)
    with pytest.raises(ValidationError, match="width"):
        Renamed.model_validate({"width": 7, "dim": 7})


def test_side_tasks_under_their_former_name_are_read_with_a_hint(toy) -> None:
    backend = toy(side_tasks=("talk",))
    assert side_tasks(backend) == [Task("talk")]
    assert side_tasks(toy()) == ()
    backend.side_tasks, backend.reported = (), [Task("sums")]
    with pytest.warns(FutureWarning, match=r"'ToyBackend\.reported' is now 'side_tasks'"):
        assert side_tasks(backend) == [Task("sums")]
