"""The command ``qdmerge compare``, registered by entry point as any package's would be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdmerge.cli import (
    Settings,
    Source,
    Unsandboxed,
    console,
    end_like_interrupt,
    error_console,
    new_folder,
    refuse_unsandboxed,
    show_progress,
)
from qdmerge.errors import ConfigError, nearest

_DEFAULT = "experts,average,task_arithmetic,ties,regmean,random,cma_es,nsga2,paper,recommended"


def compare(
    source: Source,
    methods: Annotated[
        str,
        typer.Option(help="Names of `qdmerge list methods` or YAML files, separated by commas."),
    ] = _DEFAULT,
    seeds: Annotated[int, typer.Option(help="Number of seeds of each method that uses one.")] = 5,
    evaluations: Annotated[
        int | None,
        typer.Option(help="Models that each search may evaluate; default: as configured."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Seconds of evaluating and guiding after which each method ends."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Method to compare the others with; default: the last one.")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V,V", help="Make a test bed of each value: backend.sources.tiny.seed=0,1."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the comparison; an existing one is resumed."),
    ] = None,
    settings: Settings = None,
    allow_unsandboxed: Unsandboxed = False,
) -> None:
    """Compare methods on one budget: runs, tables with intervals, curves, tests."""
    from qdmerge.compare import Study
    from qdmerge.compare._methods import find_methods
    from qdmerge.compare._plan import make_test_beds
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
    test_beds = make_test_beds(
        lambda more: load_config(source, [*fixed, *more]), Path(source).stem, vary or []
    )
    for config in test_beds.values():
        refuse_unsandboxed(config, allow_unsandboxed)
    config = next(iter(test_beds.values()))
    study = Study(
        test_beds,
        found,
        seeds=seeds,
        evaluations=config.evaluations if evaluations is None else evaluations,
        seconds=config.seconds if seconds is None else seconds,
        folder=to or new_folder(f"compare-{Path(source).stem}"),
        workers=workers,
    )
    end_like_interrupt()
    try:
        with show_progress(console) as listener:
            planned = study.execute(listener)
    except KeyboardInterrupt:
        error_console.print(
            f"Interrupted; everything so far is in {study.folder}. To continue, repeat the command "
            f"with --out {study.folder}"
        )
        raise typer.Exit(130) from None
    page, *others = write_comparison(study, planned, reference)
    console.print(page.read_text(encoding="utf-8"), markup=False)
    console.print(f"In {study.folder}:")
    for path in (page, *others):
        console.print(f"  {path.relative_to(study.folder)}")
    if study.failures:
        raise typer.Exit(1)
