"""Several comparisons side by side: a row per method, a column per folder of `qdmerge compare`.

Prints Markdown, a table per measure over the tasks, then what each comparison was made of::

    python examples/paper/tables.py runs/table1-llm-tiny runs/table1-llm-conflict
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

SET = "hypervolume"
MEASURES = ["mean", "geometric_mean", "minimum", SET]

Summary = Mapping[str, Any]
"""What ``compare.json`` holds."""


def read(folder: Path) -> Summary:
    """The summary of a comparison.

    Raises:
        BadParameter: The folder has none.
    """
    path = folder / "compare.json"
    if not path.is_file():
        raise typer.BadParameter(f"{path} is not there; the comparison has not come to its end")
    return json.loads(path.read_text(encoding="utf-8"))


def cell(summary: Summary, method: str, criterion: str, measure: str) -> str:
    """A method's mean over runs and its 95 % interval; a dash where there is none."""
    known = summary["methods"].get(method, {"picks": {}, "set": None})
    if measure == SET:
        told = known["set"] and known["set"][SET]
    else:
        told = known["picks"].get(criterion, {}).get(measure)
    if not told:
        return "\u2013"
    ends = "" if told["ci95"] is None else " ({:.3f} to {:.3f})".format(*told["ci95"])
    return f"{told['value']:.3f}{ends}"


def table(found: Mapping[str, Summary], criterion: str, measure: str) -> list[str]:
    """The lines of one table."""
    methods = dict.fromkeys(name for summary in found.values() for name in summary["methods"])
    rows = [
        ["method", *found],
        ["---", *["---:"] * len(found)],
        *(
            [name, *(cell(one, name, criterion, measure) for one in found.values())]
            for name in methods
        ),
    ]
    return ["| " + " | ".join(row) + " |" for row in rows]


def origin(name: str, summary: Summary) -> str:
    """Date, seeds and versions of a comparison."""
    blocks = dict.fromkeys(one["block"] for one in summary["curves"])
    seeds = sorted({seed for one in summary["methods"].values() for seed in one["seeds"]})
    versions = ", ".join(f"{package} {version}" for package, version in summary["versions"].items())
    failed = f"; {len(summary['failed'])} runs failed" if summary["failed"] else ""
    return (
        f"- {name}: {summary.get('date', 'undated')}; test beds {', '.join(blocks)}; "
        f"seeds {', '.join(map(str, seeds))}; {versions}{failed}"
    )


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders of comparisons.")],
    criterion: Annotated[str, typer.Option(help="Whose picks.")] = "geometric_mean",
    measure: Annotated[list[str] | None, typer.Option(help="Only these; repeatable.")] = None,
) -> None:
    """Prints the tables."""
    found = {folder.name: read(folder) for folder in folders}
    for one in measure or MEASURES:
        of = "of the set, on selection" if one == SET else f"on test, chosen by {criterion}"
        print(f"\n### {one} {of} (95 % CI)\n".replace("_", " "))
        print("\n".join(table(found, criterion, one)))
    print()
    for folder in folders:
        print(origin(folder.name, found[folder.name]))


if __name__ == "__main__":
    typer.run(main)
