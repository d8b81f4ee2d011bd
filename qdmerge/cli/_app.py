"""The commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qdmerge import __version__
from qdmerge.cli._common import (
    Settings,
    Source,
    Unsandboxed,
    console,
    end_like_interrupt,
    error_console,
    escape,
    new_folder,
    print_warning,
    refuse_unsandboxed,
)
from qdmerge.cli._execute import execute, report_results
from qdmerge.cli._group import CommandGroup
from qdmerge.errors import ConfigError, RunError, hint_renamed, nearest
from qdmerge.storage import moved_into_place, write_whole

if TYPE_CHECKING:
    import numpy as np

    from qdmerge.backend import GenomeBackend
    from qdmerge.runs import Run

app = typer.Typer(
    name="qdmerge",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Merge fine-tuned experts into multi-skill models by quality diversity (CycleQD).",
)

RunPath = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
OutFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder of the run; default: a new one under runs/.")
]
SearchPreset = Annotated[
    str | None, typer.Option("--search", "--recipe", help="See `qdmerge list searches`.")
]


def _print_version(asked: bool) -> None:
    if asked:
        console.print(f"qdmerge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version),
    ] = False,
) -> None:
    """Merge fine-tuned experts into multi-skill models by quality diversity (CycleQD)."""


def main() -> None:
    """Run the command line."""
    app()


@app.command("list")
def list_parts(
    kind: Annotated[
        str | None, typer.Argument(help="Only this kind, such as archives or presets.")
    ] = None,
) -> None:
    """List what can be named: backends, presets, spaces, archives, emitters, ..."""
    from rich.table import Table

    from qdmerge.settings import catalog, catalog_kinds

    if kind == "recipes":
        hint_renamed("recipes", "searches")
        kind = "searches"
    kinds = catalog_kinds()
    if kind is not None and kind not in kinds:
        raise ConfigError(f"unknown kind '{kind}'{nearest(kind, kinds)} Kinds: {', '.join(kinds)}")
    listed = catalog(None if kind is None else [kind])
    if not console.is_terminal:
        for name, entries in listed.items():
            console.print(name)
            for entry, summary in entries:
                console.print(escape(f"  {entry}  {summary}".rstrip()))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, entries in listed.items():
        table.add_row(f"[bold]{name}[/]")
        for entry, summary in entries:
            table.add_row(f"  {escape(entry)}", f"[dim]{escape(summary)}[/]")
    console.print(table)


@app.command()
def copy(
    preset: Annotated[str, typer.Argument(help="A preset or backend.", show_default=False)],
    to: Annotated[Path, typer.Argument(help="File to write.", show_default=False)],
) -> None:
    """Copy a commented preset to a file that you edit."""
    from qdmerge.settings import read_preset

    text = read_preset(preset)
    if to.exists():
        raise ConfigError(f"{to} exists already; choose another file")
    try:
        write_whole(to, text)
    except OSError as error:
        raise ConfigError(f"cannot write {to}: {error.strerror}") from error
    console.print(f"Wrote {to}. Edit it, then: qdmerge check {to} && qdmerge run {to}")


@app.command()
def check(
    source: Source,
    search: SearchPreset = None,
    to: OutFolder = None,
    settings: Settings = None,
) -> None:
    """Report all mistakes in a configuration at once, without loading weights."""
    from qdmerge.runs import RunFolder, refuse_unfit
    from qdmerge.settings import load_config

    config = load_config(source, settings or [], search_preset=search)
    refuse_unfit(config)
    RunFolder(to or new_folder(source)).check_free()
    space = f"space {config.space.name}, " if config.space else ""
    console.print(
        f"{source} is fine: backend {config.backend.name}, {space}{config.evaluations} "
        f"evaluations, archive {config.archive.name}, emitters "
        f"{', '.join(emitter.name for emitter in config.emitters) or 'none'}, scheduler "
        f"{config.scheduler.name}, seed {config.seed}"
    )


@app.command()
def experts(source: Source, settings: Settings = None) -> None:
    """Make the base and the experts of a configuration that do not exist yet.

    Resumable: run the command again to continue.
    """
    from qdmerge.cli._progress import show_progress
    from qdmerge.runs._search import stage_progress
    from qdmerge.settings import load_config

    backend = load_config(source, settings or [], models=False).backend
    end_like_interrupt()
    try:
        with show_progress(console) as listener:
            made = backend.make_experts(stage_progress(listener))
    except NotImplementedError as error:
        raise ConfigError(str(error)) from error
    except KeyboardInterrupt:
        error_console.print(f"Interrupted. To continue: qdmerge experts {source}")
        raise typer.Exit(130) from None
    for name, path in made.items():
        console.print(f"Made {name} in {path}")
    if not made:
        console.print("Nothing to make: base and experts exist")


@app.command("forecast")
def tell_forecast(
    source: Source,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps along the guide, where the backend has one.")
    ] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    settings: Settings = None,
    allow_unsandboxed: Unsandboxed = False,
) -> None:
    """Tell before a search whether merging is likely to pay, from a few evaluations.

    Scores base, experts, uniform merges and a few guided steps on validation.
    """
    import json

    from qdmerge.cli._progress import show_progress
    from qdmerge.reports import forecast_tables
    from qdmerge.runs import forecast
    from qdmerge.settings import load_config

    overrides = ["backend.allow_unsandboxed=true"] if allow_unsandboxed else []
    config = load_config(source, overrides + (settings or []))
    refuse_unsandboxed(config, allow_unsandboxed)
    end_like_interrupt()
    try:
        with show_progress(error_console) as listener:
            found = forecast(config, steps, listener=listener)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for table in forecast_tables(found):
        console.print(table)
    console.print(f"[bold]{escape(found['sentence'])}[/]")
    if steps and not found["steps"]:
        console.print(f"Backend {config.backend.name} has no guide, so no guided steps were taken.")
    cost, limits = found["cost"], found["thresholds"]
    console.print(
        f"Thresholds: differences count from {limits['margin']:.0%} of what the own experts have; "
        f"a merge pays where it is ahead of base and each expert, and nowhere behind the base; "
        f"{limits['kept']:.0%} of every own expert needs no search."
    )
    console.print(
        f"Cost: {cost['evaluations']} evaluations ({cost['evaluating']:.0f} s), {cost['passes']} "
        f"gradient passes ({cost['guiding']:.0f} s); {cost['all']:.0f} s in all."
    )


@app.command()
def run(
    source: Source,
    evaluations: Annotated[int | None, typer.Option(help="Models to evaluate.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Seconds of evaluating and guiding after which the search ends."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search.")] = None,
    archive: Annotated[str | None, typer.Option(help="See `qdmerge list archives`.")] = None,
    emitter: Annotated[
        list[str] | None, typer.Option(help="See `qdmerge list emitters`; may be repeated.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="See `qdmerge list schedulers`.")] = None,
    space: Annotated[str | None, typer.Option(help="See `qdmerge list spaces`.")] = None,
    search: SearchPreset = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
    to: OutFolder = None,
    settings: Settings = None,
    allow_unsandboxed: Unsandboxed = False,
) -> None:
    """Run a search; write results, figures and the chosen model to a folder."""
    from qdmerge.runs import Run
    from qdmerge.settings import load_config

    numbers = {
        "evaluations": evaluations,
        "seconds": seconds,
        "seed": seed,
        "execution.workers": workers,
    }
    overrides = [f"{key}={value}" for key, value in numbers.items() if value is not None]
    if allow_unsandboxed:
        overrides.append("backend.allow_unsandboxed=true")
    parts = {"archive": archive, "emitters": emitter, "scheduler": scheduler, "space": space}
    config = load_config(source, overrides + (settings or []), parts, search_preset=search)
    refuse_unsandboxed(config, allow_unsandboxed)
    execute(Run.create(config, to or new_folder(source)))


@app.command()
def resume(run_path: RunPath) -> None:
    """Resume a run from its event log."""
    from qdmerge.runs import Run

    execute(Run.open(run_path))


@app.command()
def status(run_path: RunPath) -> None:
    """Show the state of a run, from its event log."""
    from qdmerge.runs import RunFolder, read_history

    folder = RunFolder.open(run_path)
    history = read_history(folder.read_events())
    budget = folder.read_plain_config().get("evaluations", "?")
    if history.finished:
        state = "finished"
    elif history.stopped:
        state = f"stopped ({history.stopped})"
    else:
        state = "running, or killed"
    seconds = sum(history.session_seconds)
    console.print(
        f"{folder.path}: {escape(state)}; {history.n_children}/{budget} evaluations, "
        f"{history.n_failed} failed, {seconds:.0f} s"
    )
    if history.stats:
        from qdmerge.cli._progress import stats_table

        console.print(stats_table(history.stats[-1][1]))
    if not history.finished:
        console.print(f"To continue: qdmerge resume {folder.path}")


@app.command()
def report(
    run_path: RunPath,
    examples: Annotated[
        bool, typer.Option("--examples", help="Also draw the backend's own figures.")
    ] = False,
) -> None:
    """Redraw the figures and tables of a run, finished or not."""
    from qdmerge.cli._progress import show_progress
    from qdmerge.runs import Run, RunFolder

    if examples:
        with show_progress(console) as listener:
            Run.open(run_path).illustrate(listener)
    report_results(RunFolder.open(run_path))


@app.command()
def export(
    run_path: RunPath,
    what: Annotated[
        str,
        typer.Argument(
            help="chosen, a candidate's name, best:TASK, aggregate, or a solution's id."
        ),
    ] = "chosen",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="TASK=NUMBER,...", help="Instead: the best model for these task weights."
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder to write; RUN/export-WHAT.")] = None,
    adapter: Annotated[
        bool,
        typer.Option("--adapter", help="As a LoRA adapter on the base; experts must be adapters."),
    ] = False,
) -> None:
    """Export a model of a run as a checkpoint that loads without qdmerge.

    For task weights, it is the model of the run's plane at the weights, or a model that the run
    scored where that is better by the weighted mean on the selection split.
    """
    from qdmerge.runs import BuildBackend, Run, lookup_solution, parse_weights, read_history

    opened = Run.open(run_path)
    shares: dict[str, float] = {}
    if weights is None:
        x = lookup_solution(opened.folder, opened.config, what)
    else:
        if what != "chosen":
            raise ConfigError(f"choose '{what}' or --weights, not both")
        tasks = [task.name for task in read_history(opened.folder.read_events()).tasks]
        if not tasks:
            raise RunError(f"{run_path} has not begun; resume it first")
        shares = parse_weights(weights, tasks)
        what = ",".join(f"{task}={share:.3g}" for task, share in shares.items() if share)
    target = to or opened.folder.path / f"export-{what.replace(':', '-')}"
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists already; choose another --to")
    backend = BuildBackend(opened.config)()
    try:
        if shares:
            x = _preferred(opened, backend, shares)
        write = backend.export_adapter if adapter else backend.export
        with moved_into_place(target) as path:
            write(x, path)
        console.print(f"Wrote {target}")
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror or error}") from error
    except NotImplementedError as error:
        raise ConfigError(str(error)) from error
    finally:
        backend.close()


def _preferred(run: Run, backend: GenomeBackend, weights: Mapping[str, float]) -> np.ndarray:
    """Return the best model for task weights; print the ranking."""
    from qdmerge.cli._progress import show_progress
    from qdmerge.runs import rank_by_weights

    with show_progress(console) as listener:
        ranked = rank_by_weights(run, backend, weights, listener)
    for warning in run.warnings:
        print_warning(warning)
    shown = ", ".join(f"{task} {weight:.3g}" for task, weight in weights.items())
    console.print(f"Weights, normalized: {escape(shown)}")
    names = {"plane": "the plane at these weights"}
    best, *others = [f"{names.get(one.name, one.name)} {one.value:.4f}" for one in ranked]
    rest = f" (then {', '.join(others)})" if others else ""
    console.print(f"Best on selection by these weights: {escape(best + rest)}")
    return ranked[0].x
