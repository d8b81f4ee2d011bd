"""The results as tables, for the terminal and for a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qdmerge.criteria import CRITERIA

if TYPE_CHECKING:
    from rich.table import Table


Candidate = Mapping[str, Any]
"""A row of the candidates in ``results.json``."""

FOUND = ("aggregate", "elite")
"""Kinds of candidates that the search found; all others are references."""

_SIDE_TITLE = "Side tasks: scores (95 % CI), and scores relative to the base"

_ORDER = ("base", "expert", "average", "regmean", "task_arithmetic")


def ordered(results: Mapping[str, Any]) -> list[Candidate]:
    """Return the candidates: references (the base first), aggregates, elites."""

    def place(candidate: Candidate) -> int:
        kind = candidate["kind"]
        if kind in FOUND:
            return len(_ORDER) + 1 + FOUND.index(kind)
        return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)

    return sorted(results["candidates"], key=place)


def label(candidate: Candidate) -> str:
    """Return the name of a candidate, with its scale if that matters."""
    scale = candidate.get("details", {}).get("scale")
    if scale is None or (scale == 1 and candidate["kind"] in FOUND):
        return str(candidate["name"])
    return f"{candidate['name']} \u00d7{scale:g}"


def group(candidate: Candidate) -> str:
    """Return the heading of a candidate's group."""
    return f"{candidate['kind']}s" if candidate["kind"] in FOUND else "references"


def leading(results: Mapping[str, Any], max_rows: int) -> tuple[list[Candidate], list[str]]:
    """Return about ``max_rows`` candidates in order, and sentences on those left out: elites that
    are references themselves, then the lowest means on selection; never the chosen model.
    """
    rows, chosen = ordered(results), results["chosen"]
    references = {row["solution"]: row["name"] for row in rows if row["kind"] not in FOUND}
    same = [
        row
        for row in rows
        if row["kind"] in FOUND and row["solution"] in references and row["name"] != chosen
    ]
    rows = [row for row in rows if row not in same]
    notes = []
    if same:
        pairs = (f"{row['name']} (is {references[row['solution']]})" for row in same)
        notes.append(f"Not shown: {', '.join(pairs)}.")
    elites = [row for row in rows if row["kind"] == "elite" and row["name"] != chosen]
    elites.sort(key=lambda row: row["selection_mean"])
    dropped = elites[: max(0, len(rows) - max_rows)]
    if dropped:
        notes.append(f"Not shown: the elites with the lowest selection means ({len(dropped)}).")
    return [row for row in rows if row not in dropped], notes


def essential(results: Mapping[str, Any]) -> list[Candidate]:
    """Return references, the paper's aggregate and the chosen model."""
    wanted = {"aggregate", results["chosen"]}
    return [row for row in ordered(results) if row["kind"] not in FOUND or row["name"] in wanted]


def number(value: float | None) -> str:
    """Return a score with three decimals, or one if it is large; a dash for None."""
    if value is None:
        return "\u2013"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def markdown_table(rows: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """Return the lines of a table, the head first; the first ``texts`` columns align left."""
    head, *body = rows
    lines = [head, ["---"] * texts + ["---:"] * (len(head) - texts), *body]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _terminal_table(title: str, caption: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(
        title=title,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=Text("\n".join(caption)) if caption else None,
        caption_justify="left",
    )


def results_table(results: Mapping[str, Any]) -> Table:
    """Return the test scores of all candidates for the terminal; the chosen one is marked.

    Args:
        results: ``results.json``.
    """
    from rich.text import Text

    caption = [_chosen(results), _spent(results), *_archive_lines(results)]
    table = _terminal_table("Test scores", caption)
    table.add_column("", overflow="fold")
    for title in (*_columns(results), "mean", "95 % CI", "geo.\nmean", "min"):
        widest = 11 if title == "95 % CI" else 5
        table.add_column(
            Text(title), justify="right", overflow="fold", vertical="bottom", min_width=widest
        )
    heading = None
    for row in ordered(results):
        if group(row) != heading:
            heading = group(row)
            table.add_section()
            table.add_row(Text(heading, style="dim italic"))
        style = "bold" if row["name"] == results["chosen"] else ""
        cells = [_name(row, results), *_task_scores(row, results), number(row["test_mean"])]
        cells += [_interval(row["test_mean_ci95"])]
        cells += [number(row["test_gmean"]), number(row["test_min"])]
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def results_markdown(results: Mapping[str, Any]) -> str:
    """Return all results as a Markdown page: candidates, choice, cost and archives.

    Args:
        results: ``results.json``.
    """
    lines = ["# Results", "", "Scores on the test split; \u2605 is the chosen model.", ""]
    rows = [["model", "kind", *_columns(results), "mean (95 % CI)", "geometric mean", "minimum"]]
    for row in ordered(results):
        cells = [
            _name(row, results),
            row["kind"].replace("_", " "),
            *_task_scores(row, results),
            _with_interval(row["test_mean"], row["test_mean_ci95"]),
            number(row["test_gmean"]),
            number(row["test_min"]),
        ]
        rows.append([f"**{c}**" for c in cells] if row["name"] == results["chosen"] else cells)
    lines += [*markdown_table(rows, texts=2), "", _chosen(results), "", _spent(results), ""]
    if rows := _side_rows(results):
        notes = [text for note in _side_notes(results) for text in (note, "")]
        lines += [f"{_SIDE_TITLE}:", "", *markdown_table(rows), "", *notes]
    rows = [["archive", "elites", "coverage", "QD score", "best"]]
    for task, stats in results["archives"].items():
        rows.append([task, str(stats["elites"]), *_archive_cells(stats)])
    return "\n".join([*lines, *markdown_table(rows), ""])


def side_tasks_table(results: Mapping[str, Any]) -> Table | None:
    """Return the scores on the side tasks for the terminal; None without any.

    Args:
        results: ``results.json``.
    """
    from rich.text import Text

    head, *rows = _side_rows(results) or [[]]
    if not head:
        return None
    table = _terminal_table(_SIDE_TITLE, _side_notes(results))
    for position, title in enumerate(head):
        table.add_column(Text(title), justify="right" if position else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _side_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Return head and rows of the table of side tasks; [] without any."""
    found = results.get("reported")
    if not found:
        return []
    also = sorted({name for row in found["rows"] for name in row.get("also", {})})
    names = _with_also(found["tasks"], also)
    columns = [
        title for name in names for title in ((name,) if name in also else (name, "relative"))
    ]
    rows = [["model", *columns, "mean, relative (95 % CI)"]]
    for row in found["rows"]:
        if "failed" in row:
            cells = [f"failed {row['failed']}", *[""] * len(columns)]
        else:
            cells = []
            for task in names:
                if task in also:
                    cells.append(number(row.get("also", {}).get(task)))
                    continue
                cells.append(_with_interval(row["scores"][task], row.get("ci95", {}).get(task)))
                cells.append(number(row["relative"][task]))
            cells.append(_with_interval(row["mean"], row.get("mean_ci95")))
        mark = "\u2605 " if row["name"] == results["chosen"] else ""
        rows.append([mark + row["name"], *cells])
    return rows


def _side_notes(results: Mapping[str, Any]) -> list[str]:
    """Return which relative scores and intervals are missing, and why."""
    found = results["reported"]
    base = next(row for row in found["rows"] if row["name"] == "base")
    if "failed" in base:
        return ["The base could not be scored, so nothing is relative to it."]
    notes = []
    if names := [task for task in found["tasks"] if not base["scores"][task]]:
        notes.append(f"Not in the mean, since the base scores 0 there: {', '.join(names)}.")
    if any(row is not base and _lacks_interval(row) for row in found["rows"]):
        notes.append(
            "No interval of a mean where the base scores 0 in 2.5 % of the resamples or more."
        )
    return notes


def _lacks_interval(row: Mapping[str, Any]) -> bool:
    """Return whether a relative mean has no interval, though each of its scores has one."""
    tasks = [task for task, value in row.get("relative", {}).items() if value is not None]
    own = row.get("ci95", {})
    return bool(tasks) and not row.get("mean_ci95") and all(own.get(task) for task in tasks)


def _name(row: Candidate, results: Mapping[str, Any]) -> str:
    return ("\u2605 " if row["name"] == results["chosen"] else "") + label(row)


def _task_scores(row: Candidate, results: Mapping[str, Any]) -> list[str]:
    scores = {**row.get("test_also", {}), **row["test"]}
    return [number(scores.get(name)) for name in _columns(results)]


def _columns(results: Mapping[str, Any]) -> list[str]:
    """Return the tasks, and behind each its further scores."""
    also = sorted({name for row in results["candidates"] for name in row.get("test_also", {})})
    return _with_also(results["tasks"], also)


def _with_also(tasks: Sequence[str], also: Sequence[str]) -> list[str]:
    """Return tasks, each followed by its further scores ``TASK (NAME)``; others come last."""
    placed = {task: [name for name in also if name.startswith(f"{task} (")] for task in tasks}
    last = [name for name in also if not any(name in names for names in placed.values())]
    return [name for task, names in placed.items() for name in (task, *names)] + last


def _with_interval(value: float | None, ends: Sequence[float] | None) -> str:
    return number(value) + (f" ({_interval(ends)})" if ends else "")


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else "\u2013".join(number(end) for end in ends)


def _chosen(results: Mapping[str, Any]) -> str:
    final = results["config"]["final"]
    criterion = f"{CRITERIA[final['choose_by']]} over the tasks"
    if final["choose_by"] == "weights":
        weights = ", ".join(f"{task} {weight:g}" for task, weight in final["weights"].items())
        criterion += f" ({weights})"
    return (
        f"Chosen: {results['chosen']}, the model of the search with the highest {criterion} on the "
        "selection split. Test was scored once, after the choice."
    )


def _spent(results: Mapping[str, Any]) -> str:
    seconds = results["seconds"]
    after = results.get("evaluations_after_search")
    also = "" if after is None else f", then {after} of candidates and references on all splits"
    return (
        f"Evaluations: {results['evaluations']} in the search ({results['failed']} failed){also}. "
        f"Time: {seconds['total']:.1f} s, of which evaluating (summed over workers) "
        f"{seconds['evaluating']:.1f} s{_guided(results)}. Seed {results['seed']}."
    )


def _guided(results: Mapping[str, Any]) -> str:
    if not (passes := results.get("gradient_passes")):
        return ""
    return f" and guiding {results['seconds']['guiding']:.1f} s ({passes} gradient passes)"


def _archive_cells(stats: Mapping[str, Any]) -> list[str]:
    coverage = "\u2013" if stats["coverage"] is None else f"{stats['coverage']:.1%}"
    return [coverage, number(stats["qd_score"]), number(stats["best"])]


def _archive_lines(results: Mapping[str, Any]) -> list[str]:
    lines = []
    for task, stats in results["archives"].items():
        coverage, qd_score, best = _archive_cells(stats)
        lines.append(
            f"Archive {task}: {stats['elites']} elites, coverage {coverage}, QD score {qd_score}, "
            f"best {best}."
        )
    return lines
