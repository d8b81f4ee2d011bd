"""The summary: every number from the rows, every failure shown, no star that few seeds allow."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from qdmerge.backend import Task
from qdmerge.compare._fronts import Box, hypervolume
from qdmerge.compare._rows import RunRow
from qdmerge.compare._statistics import paired_runs
from qdmerge.compare._summary import summarize
from qdmerge.compare._tables import summary_table, tidy_rows
from qdmerge.criteria import over_tasks
from qdmerge.errors import ConfigError
from tests.compare.synthetic import make_run, make_study, task_names

NAMES = task_names(3)
TASKS = [Task(name) for name in NAMES]
BOX = Box.of(TASKS)
FEW = {"recommended": 0.7, "paper": 0.5, "average": 0.3}


def summary_of(rows, reference="recommended", criteria=("geometric_mean",), **options):
    return summarize(rows, TASKS, reference, criteria, box=BOX, resamples=200, **options)


@pytest.fixture(scope="module")
def rows() -> list[RunRow]:
    return make_study(NAMES, seeds=4, skill=FEW)


@pytest.fixture(scope="module")
def summary(rows):
    return summary_of(rows, criteria=("geometric_mean", "minimum"))


def paired(summary, method: str, measure: str = "mean") -> dict:
    (found,) = (
        row
        for row in summary["paired"]
        if row["method"] == method and row["measure"] == measure and row["criterion"] != "minimum"
    )
    return found


def test_values_are_means_over_the_runs(rows, summary):
    own = [row for row in rows if row.method == "paper"]
    for criterion in ("geometric_mean", "minimum"):
        scores = np.array([list(row.picks[criterion].test.values()) for row in own])
        for measure in ("mean", "geometric_mean", "minimum"):
            told = summary["methods"]["paper"]["picks"][criterion][measure]
            assert told["value"] == pytest.approx(over_tasks(measure, scores).mean())
            assert told["ci95"][0] < told["value"] < told["ci95"][1]
            assert told["covers"] == "seeds and items"
    worth = summary["methods"]["paper"]["set"]["hypervolume"]
    assert worth["value"] == pytest.approx(np.mean([hypervolume(row.points, BOX) for row in own]))
    assert worth["covers"] == "seeds"
    assert summary["methods"]["paper"]["evaluations"] == 150


def test_a_method_without_seeds_meets_every_seed_and_its_interval_is_over_items(rows, summary):
    assert summary["methods"]["average"]["picks"]["minimum"]["mean"]["covers"] == "items"
    assert "Intervals over test items only" in summary_table(summary)
    told = paired(summary, "average")
    assert told["pairs"] == 4
    assert told["difference"] == pytest.approx(
        summary["methods"]["average"]["picks"]["geometric_mean"]["mean"]["value"]
        - summary["methods"]["recommended"]["picks"]["geometric_mean"]["mean"]["value"]
    )


def test_pairs_share_block_and_seed():
    rows = make_study(NAMES, seeds=2, skill=FEW, test_beds=("one", "two"))
    by = {name: [row for row in rows if row.method == name] for name in FEW}
    pairs = paired_runs(by["paper"], by["recommended"])
    assert [(a.test_bed, a.seed) for a, _ in pairs] == [(b.test_bed, b.seed) for _, b in pairs]
    assert len(pairs) == 4
    pairs = paired_runs(by["average"], by["recommended"])
    assert [(a.test_bed, b.test_bed, b.seed) for a, b in pairs] == [
        (test_bed, test_bed, seed) for test_bed in ("one", "two") for seed in (0, 1)
    ]


def test_a_method_against_itself_differs_in_nothing(rows):
    twins = [replace(row, method="twin") for row in rows if row.method == "recommended"]
    found = summary_of([*rows, *twins])
    for measure in ("mean", "geometric_mean", "minimum", "hypervolume"):
        told = paired(found, "twin", measure)
        assert told["difference"] == 0
        assert told["ci95"] == [0, 0]
        assert told["p"] == told["p_holm"] == 1
        assert told["rank_biserial"] == 0


def test_common_items_make_differences_sharper_than_the_methods_themselves():
    rows = make_study(NAMES, seeds=6, skill={"recommended": 0.7, "paper": 0.69})
    noisy = {row: row for row in rows}
    for row in rows:  # the same right and wrong items, but for one
        if row.method == "paper":
            twin = next(one for one in rows if one.method != "paper" and one.seed == row.seed)
            pick = twin.picks["mean"]
            items = {task: np.r_[1 - one[:1], one[1:]] for task, one in pick.items.items()}
            test = {task: one.mean() for task, one in items.items()}
            noisy[row] = replace(row, picks={"mean": replace(pick, items=items, test=test)})
    found = summary_of(list(noisy.values()), criteria=("mean",), choose_by="mean")
    low, high = paired(found, "paper")["ci95"]
    own_low, own_high = found["methods"]["paper"]["picks"]["mean"]["mean"]["ci95"]
    assert high - low < 0.5 * (own_high - own_low)


def test_few_seeds_get_a_sentence_instead_of_a_star(summary):
    table = summary_table(summary)
    assert "With 4 pairs and 2 methods compared, nothing can be significant" in table
    assert "smallest corrected p is 0.25" in table
    assert "at least 7 pairs" in table
    assert "too few pairs" in table
    assert " * |" not in table


def test_what_only_the_uncorrected_p_value_allows_is_not_significant():
    told = paired(summary_of(make_study(NAMES, seeds=6, skill=FEW)), "paper")
    assert told["p"] == pytest.approx(2 / 64)
    assert told["p_holm"] == pytest.approx(4 / 64)
    assert not told["significant"]
    assert not told["can_be_significant"]


def test_enough_seeds_get_their_stars():
    found = summary_of(make_study(NAMES, seeds=8, skill=FEW))
    told = paired(found, "paper")
    assert told["p"] == pytest.approx(2 / 256)
    assert told["p_holm"] == pytest.approx(4 / 256)
    assert told["significant"]
    assert told["rank_biserial"] == -1
    assert "0.016 * | -1.00" in summary_table(found)


def test_failed_runs_are_counted_and_named_with_their_cause(rows):
    failed = [
        RunRow("paper", 9, "zoo", status="failed", cause="worker died:\nout of memory"),
        RunRow("slerp", 0, "zoo", status="failed", cause="needs two experts"),
    ]
    found = summary_of([*rows, *failed])
    assert found["methods"]["paper"]["failed"] == 1
    assert any("do not compare" in note and "paper, slerp" in note for note in found["notes"])
    assert not any("do not compare" in note for note in summary_of(rows)["notes"])
    assert found["methods"]["slerp"]["runs"] == 0
    assert [row["cause"] for row in found["failed"]] == [row.cause for row in failed]
    table = summary_table(found)
    assert "- paper, seed 9, zoo: worker died: out of memory" in table
    assert "| 4 of 5 |" in table
    assert "| slerp | \u2013 | \u2013 | \u2013 | 0 of 1 |" in table
    assert "Without a pair to compare: slerp." in table
    tidy = tidy_rows([*rows, *failed], NAMES)
    assert [line["cause"] for line in tidy if line["status"] == "failed"] == [
        row.cause for row in failed
    ]


def test_a_reference_that_failed_leaves_nothing_to_compare(rows):
    broken = [
        replace(row, status="failed", cause="x") if row.method == "recommended" else row
        for row in rows
    ]
    found = summary_of(broken)
    assert {row["pairs"] for row in found["paired"]} == {0}
    assert "Without a pair to compare: paper, average." in summary_table(found)


def test_evaluations_to_reach_anothers_level(rows, summary):
    (told,) = (
        row
        for row in summary["reach"]
        if (row["method"], row["target"]) == ("recommended", "paper")
    )
    finals = [
        over_tasks("geometric_mean", row.incumbents[-1][1]) for row in rows if row.method == "paper"
    ]
    assert told["level"] == {"zoo": pytest.approx(np.median(finals))}
    expected = []
    for row in (row for row in rows if row.method == "recommended"):
        hits = [
            at
            for at, scores in row.incumbents
            if over_tasks("geometric_mean", scores) >= told["level"]["zoo"]
        ]
        expected.append(hits[0] if hits else None)
    assert told["evaluations"] == expected
    assert told["reached"] == 4
    assert "| paper | " in summary_table(summary)
    assert "never (0 of 4 runs)" in summary_table(summary)


def test_without_items_intervals_are_over_seeds_and_say_so():
    rows = [make_run("a", seed, 0.5, NAMES, items=None) for seed in range(3)]
    rows += [make_run("b", None, 0.4, NAMES, items=None)]
    found = summary_of(rows, reference="a")
    assert found["methods"]["a"]["picks"]["geometric_mean"]["mean"]["covers"] == "seeds"
    assert found["methods"]["b"]["picks"]["geometric_mean"]["mean"]["ci95"] is None
    assert any("over seeds only" in note and note.endswith(": a.") for note in found["notes"])
    assert any(note.startswith("Intervals are missing") for note in found["notes"])


def test_weights_are_a_measure_of_their_own(rows):
    weights = {"logic": 3.0, "sorting": 1.0}
    found = summary_of(rows, criteria=("weights",), weights=weights, choose_by="weights")
    own = [row.picks["weights"].test for row in rows if row.method == "paper"]
    expected = np.mean([(3 * test["logic"] + test["sorting"]) / 4 for test in own])
    assert found["methods"]["paper"]["picks"]["weights"]["weights"]["value"] == pytest.approx(
        expected
    )
    (line,) = (
        line
        for line in tidy_rows(rows, NAMES, weights)
        if (line["method"], line["criterion"]) == ("average", "weights")
    )
    test = next(row for row in rows if row.method == "average").picks["weights"].test
    assert line["test_weights"] == pytest.approx((3 * test["logic"] + test["sorting"]) / 4)


def test_scores_that_may_be_negative_have_no_geometric_mean(rows):
    tasks = [Task(name, range=(-1.0, 1.0)) for name in NAMES]
    found = summarize(rows, tasks, "paper", ["mean"], choose_by="mean", resamples=100)
    assert found["measures"] == ["mean", "minimum"]
    assert found["methods"]["paper"]["set"]["hypervolume"] is None
    assert "geometric" not in summary_table(found)


def test_intervals_end_where_scores_end():
    rows = [make_run("a", seed, 0.02, NAMES, spread=0.0, items=20) for seed in range(2)]
    low, high = summary_of(rows, "a")["methods"]["a"]["picks"]["geometric_mean"]["minimum"]["ci95"]
    assert 0 <= low <= high <= 1


def test_the_summary_is_json_and_the_same_each_time(rows, summary):
    assert json.loads(json.dumps(summary)) == summary
    assert summary_of(rows, criteria=("geometric_mean", "minimum")) == summary


def test_tidy_rows_are_one_line_per_run_and_criterion_with_the_same_keys(rows):
    tidy = tidy_rows(rows, NAMES, box=BOX)
    assert len(tidy) == sum(len(row.picks) for row in rows)
    assert len({tuple(line) for line in tidy}) == 1
    first = rows[0]
    assert tidy[0]["test:logic"] == first.picks["mean"].test["logic"]
    assert tidy[0]["test_mean"] == pytest.approx(np.mean(list(first.picks["mean"].test.values())))
    assert tidy[0]["hypervolume"] == hypervolume(first.points, BOX)


def test_costs_of_all_methods_stand_in_the_same_columns(rows):
    steps = {"steps": 300, "seconds": 41.4}
    costs = {"passes": 300, "evaluating": 2.5, "guiding": 41.4, "preparing": 7.0}
    trained = replace(rows[0], method="fine_tuning", training=steps, **costs)
    table = summary_table(summary_of([*rows, trained]))
    heads = "| runs | evaluations | gradient passes | s evaluating | s guiding | s preparing |"
    assert heads in table
    (row, *_) = (line for line in table.splitlines() if line.startswith("| fine_tuning"))
    assert row.endswith("| 1 | 150 | 300 | 2.5 | 41 | 7 |")
    (line, *_) = (
        one for one in tidy_rows([*rows, trained], NAMES) if one["method"] == "fine_tuning"
    )
    assert line["training_steps"] == 300
    assert costs.items() <= line.items()


def test_an_unknown_reference_is_refused(rows):
    with pytest.raises(ConfigError, match="unknown reference 'recomended'; did you mean"):
        summary_of(rows, reference="recomended")


def test_who_spent_more_than_the_budget_is_named(rows):
    told = " ".join(summary_of(rows, budget=149)["notes"])
    assert "The budget is 149 evaluations; more were spent by: recommended (150)" in told
    assert "more were spent" not in " ".join(summary_of(rows, budget=150)["notes"])
    # One run of several is enough.
    at = next(at for at, row in enumerate(rows) if row.method == "paper")
    rows = [*rows[:at], replace(rows[at], evaluations=163), *rows[at + 1 :]]
    assert "more were spent by: paper (163)" in " ".join(summary_of(rows, budget=150)["notes"])


def test_who_spent_more_than_the_seconds_is_named(rows):
    slow = [replace(row, evaluating=20.0, guiding=3.0) for row in rows if row.method == "paper"]
    others = [replace(row, evaluating=10.5) for row in rows if row.method != "paper"]
    told = " ".join(summary_of([*others, *slow], seconds=10)["notes"])
    assert "The budget is 10 seconds; over a tenth more were spent by: paper (23)." in told
    assert "seconds; over" not in " ".join(summary_of(rows)["notes"])


def test_candidates_that_could_not_be_evaluated_are_told(rows):
    assert summary_of(rows)["dropped"] == []
    rows = [replace(rows[0], dropped={"gmean:1": "on test: killed"}), *rows[1:]]
    told = summary_of(rows)["notes"]
    run = f"{rows[0].method}, seed {rows[0].seed} on {rows[0].test_bed}"
    (note,) = [note for note in told if note.startswith(run)]
    assert note.endswith("could not be evaluated: gmean:1 (on test: killed).")


def test_the_front_of_every_run_is_told(rows):
    own = [
        replace(row, points=np.vstack([row.points, 0.9 * row.points[:3]]))
        for row in rows
        if row.method == "paper"
    ]
    told = summary_of(own, reference="paper")["methods"]["paper"]["set"]["fronts"]
    assert [(one["block"], one["seed"]) for one in told] == [(r.test_bed, r.seed) for r in own]
    for one, row in zip(told, own, strict=True):
        front = {tuple(point) for point in one["points"]}
        for point in row.points:
            beaten = any((row.points >= point).all(1) & (row.points > point).any(1))
            assert (tuple(point.tolist()) in front) != beaten


def test_intervals_without_width_and_missing_hypervolume_are_explained(rows):
    same = [replace(row, picks=rows[0].picks) for row in rows if row.method == "paper"]
    told = " ".join(summarize(same, TASKS, "paper", ["mean"])["notes"])
    assert "No hypervolume" in told
    bare = [
        replace(row, picks={"mean": replace(row.picks["mean"], items={})}, points=None)
        for row in same
    ]
    assert "not that it is certain" in " ".join(summarize(bare, TASKS, "paper", ["mean"])["notes"])
