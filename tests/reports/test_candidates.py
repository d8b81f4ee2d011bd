"""Tables and chart of the candidates, against results.json."""

# ruff: noqa: RUF001

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from rich.console import Console

from qdmerge.reports import candidates_chart, results_markdown, results_table

ORDER = ["base", "expert:a", "expert:b", "average", "task_arithmetic ×0.5"]
ORDER += ["aggregate", "aggregate_scaled ×1.25", "best:a", "mean:1", "mean:2"]


def markdown_rows(text, table=0):
    """Cells of one of the page's tables, without its head."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in blocks[table].splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def rendered(table, width=200):
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def names(panel):
    return [text.get_text() for text in panel.get_yticklabels()]


def test_markdown_lists_references_first_and_marks_the_chosen_row(results):
    rows = markdown_rows(results_markdown(results))
    plain = [row[0].replace("**", "").replace("★ ", "") for row in rows]
    assert plain == ORDER
    assert [row[0] for row in rows if "★" in row[0]] == ["**★ aggregate_scaled ×1.25**"]


def test_markdown_numbers_equal_the_results(run_of):
    results = run_of("three tasks").read_results()
    rows = {row[0].strip("*★ "): row for row in markdown_rows(results_markdown(results))}
    assert len(rows) == len(results["candidates"])
    for candidate in results["candidates"]:
        (row,) = (row for name, row in rows.items() if name.split(" ×")[0] == candidate["name"])
        low, high = candidate["test_mean_ci95"]
        expected = [*candidate["test"].values(), candidate["test_mean"], low, high]
        expected += [candidate["test_gmean"], candidate["test_min"]]
        numbers = [float(n) for n in re.findall(r"\d+\.\d+", " ".join(row[2:]))]
        np.testing.assert_allclose(numbers, expected, atol=5e-4)


def test_further_scores_stand_beside_their_task(results):
    task = results["tasks"][0]
    name = f"{task} (base)"
    rows = [{**row, "test_also": {name: 0.125}} for row in results["candidates"]]
    results = {**results, "candidates": rows}
    head = results_markdown(results).split("\n")[4]
    assert f"| {task} | {name} |" in head
    assert all("0.125" in row for row in map(" ".join, markdown_rows(results_markdown(results))))
    assert rendered(results_table(results)).count("0.125") == len(rows)


def test_both_tables_tell_cost_archives_and_how_the_model_was_chosen(results):
    text = rendered(results_table(results))
    page = results_markdown(results)
    for told in (text, page):
        told = " ".join(told.split())
        assert "aggregate_scaled" in told
        assert "highest geometric mean over the tasks on the selection split" in told
        assert "150 in the search (2 failed), then 31" in told
        assert "321.4 s" in told
        assert "Seed 7" in told
    assert "Archive a: 12 elites, coverage 25.0%, QD score 4.500, best 0.900." in text
    assert markdown_rows(page, table=1) == [
        ["a", "12", "25.0%", "4.500", "0.900"],
        ["b", "9", "–", "–", "0.800"],
    ]


@pytest.mark.parametrize(
    ("final", "told"),
    [
        ({"choose_by": "minimum", "weights": {}}, "highest minimum over the tasks"),
        ({"choose_by": "mean", "weights": {}}, "highest mean over the tasks"),
        ({"choose_by": "weights", "weights": {"a": 2.0, "b": 1.0}}, "weighted mean .*a 2, b 1"),
    ],
)
def test_tables_name_the_criterion(results, final, told):
    results["config"]["final"] = final
    assert re.search(told, results_markdown(results))


def test_terminal_table_shows_every_candidate_in_order(results):
    lines = rendered(results_table(results)).splitlines()
    found = [line.split("  ")[0].strip(" ★") for line in (raw.strip() for raw in lines)]
    assert [name for name in found if name in ORDER] == ORDER
    assert [found.index(name) + 1 for name in ("references", "aggregates", "elites")] == [
        found.index(name) for name in ("base", "aggregate", "best:a")
    ]
    (chosen,) = (line for line in lines if "★" in line)
    for number in ("0.750", "0.700", "0.725", "0.695–0.765"):
        assert number in chosen


def test_terminal_table_keeps_its_numbers_in_80_columns(run_of):
    results = run_of("three tasks").read_results()
    text = rendered(results_table(results), width=80)
    for row in results["candidates"]:
        assert f"{row['test_gmean']:.3f}" in text
        assert "–".join(f"{end:.3f}" for end in row["test_mean_ci95"]) in text
    assert "…" not in text


def test_names_cannot_break_the_tables(results):
    results["candidates"][0]["name"] = "best:[red]x|y"
    assert len(markdown_rows(results_markdown(results))[7]) == 7
    assert "best:[red]x|y" in rendered(results_table(results))


def test_undefined_values_are_dashes(results):
    row = results["candidates"][-1]
    row["test_gmean"] = row["test_mean_ci95"] = None
    assert markdown_rows(results_markdown(results))[0][4:] == ["0.175", "–", "0.100"]
    candidates_chart(results)


def test_chart_draws_means_intervals_and_task_scores(results):
    (panel,) = candidates_chart(results).axes
    shown = [name for name in ORDER if name != "best:a"]
    assert [name.removeprefix("★ ") for name in names(panel)] == shown
    by_name = {row["name"]: row for row in results["candidates"]}
    rows = [by_name[name.split(" ")[0]] for name in shown]
    assert [bar.get_width() for bar in panel.patches] == [row["test_mean"] for row in rows]
    intervals = [
        container[2][0].get_segments()[0][:, 0]
        for container in panel.containers
        if isinstance(container, ErrorbarContainer)
    ]
    np.testing.assert_allclose(intervals, [row["test_mean_ci95"] for row in rows])
    points = [line.get_xdata()[0] for line in panel.get_lines() if line.get_marker() in ("o", "s")]
    np.testing.assert_allclose(points, [s for row in rows for s in row["test"].values()])
    numbers = [text.get_text() for text in panel.texts if text.get_text().startswith("0.")]
    expected = [row[key] for row in rows for key in ("test_mean", "test_gmean", "test_min")]
    np.testing.assert_allclose([float(n) for n in numbers], expected, atol=5e-4)


def test_chart_tells_references_found_models_and_the_chosen_one_apart(results):
    (panel,) = candidates_chart(results).axes
    colors = [bar.get_facecolor() for bar in panel.patches]
    assert len({*colors[:5]}) == 1
    assert len({*colors[5:6], *colors[7:]}) == 1
    assert len({*colors}) == 3
    (star,) = (name for name in names(panel) if "★" in name)
    assert names(panel).index(star) == 6
    assert colors.count(colors[6]) == 1
    weights = [text.get_fontweight() for text in panel.get_yticklabels()]
    assert [weight == "bold" for weight in weights] == [i == 6 for i in range(len(weights))]


def test_chart_says_which_elites_are_experts_themselves(results):
    (note,) = (text.get_text() for text in candidates_chart(results).texts)
    assert note == "Not shown: best:a (is expert:a)."


def test_a_full_chart_leaves_out_the_elites_that_selection_likes_least(results):
    figure = candidates_chart(results, max_rows=8)
    assert "mean:2" not in names(figure.axes[0])
    assert "mean:1" in names(figure.axes[0])
    assert "the elites with the lowest selection means (1)" in figure.texts[0].get_text()
    results["chosen"] = "mean:2"
    assert "★ mean:2" in names(candidates_chart(results, max_rows=3).axes[0])
    assert len(names(candidates_chart(results, max_rows=3).axes[0])) == 8


def test_one_task_needs_one_number_per_row(run_of):
    (panel,) = candidates_chart(run_of("own measures").read_results()).axes
    assert panel.get_xlabel().startswith("test score on task0")
    assert len(panel.texts) == 1 + len(panel.patches) + 3
    assert panel.get_legend() is None


@pytest.mark.parametrize("shift", [0.0, -5.0, -1e6])
def test_a_longer_bar_is_a_better_model(results, shift):
    """Of negative scores, too; and bars end at their scores."""
    for row in results["candidates"]:
        row["test"] = {task: score + shift for task, score in row["test"].items()}
        row["test_mean"] += shift
        row["test_mean_ci95"] = [end + shift for end in row["test_mean_ci95"]]
    (panel,) = candidates_chart(results).axes
    by_name = {row["name"]: row for row in results["candidates"]}
    shown = [by_name[name.removeprefix("★ ").split(" ")[0]] for name in names(panel)]
    means = [row["test_mean"] for row in shown]
    widths = [bar.get_width() for bar in panel.patches]
    assert min(widths) >= 0
    assert np.argsort(widths).tolist() == np.argsort(means).tolist()
    ends = [bar.get_x() + bar.get_width() for bar in panel.patches]
    np.testing.assert_allclose(ends, means)
