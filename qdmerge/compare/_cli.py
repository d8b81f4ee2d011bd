"""The command `qdmerge compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdmerge.cli._shared import (
    Settings,
    Source,
    Unsandboxed,
    end_like_interrupt,
    err,
    new_folder,
    out,
    refuse_unsandboxed,
)
from qdmerge.errors import ConfigError, nearest
from qdmerge.settings import RECIPES

_DEFAULT = ",".join(
    [
        "experts",
        "average",
        "task_arithmetic",
        "ties",
        "regmean",
        "random",
        "cma_es",
        "nsga2",
        *RECIPES,
    ]
)


def compare(
    source: Source,
    methods: Annotated[
        str,
        typer.Option(
            help="Names of `qdmerge list methods`, or YAML files of your own, between commas."
        ),
    ] = _DEFAULT,
    seeds: Annotated[int, typer.Option(help="Seeds of every method that has one.")] = 5,
    evaluations: Annotated[
        int | None,
        typer.Option(
            help="Models that each search may evaluate; the configured number if not given."
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Method to compare the others with; the last one.")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V,V", help="Repeat it for several values: backend.tiny_seed=0,1."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that evaluate.")] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the comparison; the same one goes on where it was."),
    ] = None,
    settings: Settings = None,
    allow_unsandboxed: Unsandboxed = False,
) -> None:
    """Compare methods in the same budget: all runs, tables with intervals, curves, tests."""
    from qdmerge.cli._progress import show_progress
    from qdmerge.compare import Study
    from qdmerge.compare._methods import find_methods
    from qdmerge.compare._plan import vary as test_beds
    from qdmerge.compare._tables import write_comparison
    from qdmerge.settings import load_config

    found = find_methods([name.strip() for name in methods.split(",") if name.strip()])
    reference = reference or list(found)[-1]
    if reference not in found:
        raise ConfigError(
            f"--reference '{reference}' is none of the compared methods"
            f"{nearest(reference, found)} Methods: {', '.join(found)}."
        )
    fixed = [*(settings or []), *(["backend.allow_unsandboxed=true"] if allow_unsandboxed else [])]
    blocks = test_beds(
        lambda more: load_config(source, [*fixed, *more]), Path(source).stem, vary or []
    )
    for config in blocks.values():
        refuse_unsandboxed(config, allow_unsandboxed)
    config = next(iter(blocks.values()))
    study = Study(
        blocks,
        found,
        seeds=seeds,
        evaluations=config.evaluations if evaluations is None else evaluations,
        folder=to or new_folder(f"compare-{Path(source).stem}"),
        workers=workers,
    )
    end_like_interrupt()
    try:
        with show_progress(out) as listener:
            planned = study.execute(listener)
    except KeyboardInterrupt:
        err.print(
            f"Interrupted; everything so far is in {study.folder}. Give the same command with "
            f"--out {study.folder} to go on",
            highlight=False,
        )
        raise typer.Exit(130) from None
    page, *others = write_comparison(study, planned, reference)
    out.print(page.read_text(encoding="utf-8"), markup=False, highlight=False)
    out.print(f"In {study.folder}:", highlight=False)
    for path in (page, *others):
        out.print(f"  {path.relative_to(study.folder)}", highlight=False)
    if study.failures:
        raise typer.Exit(1)
