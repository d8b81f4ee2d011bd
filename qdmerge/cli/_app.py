"""The command line: parses, calls the library, prints."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from qdmerge.cli._shared import (
    Settings,
    Source,
    Unsandboxed,
    end_like_interrupt,
    err,
    escape,
    new_folder,
    out,
    refuse_unsandboxed,
)
from qdmerge.compare._cli import compare
from qdmerge.errors import ConfigError, QDMergeError

if TYPE_CHECKING:
    from qdmerge.runs import Run


class _FriendlyGroup(TyperGroup):
    """Prints errors that are meant for people instead of raising them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except QDMergeError as error:
            err.print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False)
            raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from error


app = typer.Typer(
    name="qdmerge",
    cls=_FriendlyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Merge fine-tuned experts into multi-skill models by quality diversity (CycleQD).",
)

RunPath = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
RecipeName = Annotated[str | None, typer.Option("--recipe", help="See `qdmerge list recipes`.")]


def main() -> None:
    """Run the command line."""
    warnings.showwarning = _print_hint  # type: ignore[assignment]
    app()


def _print_hint(message: Warning | str, *_: Any) -> None:
    """Print a warning as one line, without the place in the code that gave it."""
    err.print(f"[bold yellow]Warning:[/] {escape(str(message))}", highlight=False)


@app.command("list")
def list_parts(
    kind: Annotated[
        str | None, typer.Argument(help="Only this kind: archives, presets, ...")
    ] = None,
) -> None:
    """List what can be chosen: backends, presets, spaces, archives, emitters, ..."""
    from qdmerge.errors import nearest
    from qdmerge.settings import catalog

    kinds = catalog()
    if kind is not None and kind not in kinds:
        raise ConfigError(f"unknown kind '{kind}'{nearest(kind, kinds)} Kinds: {', '.join(kinds)}")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, entries in kinds.items():
        if kind in (None, name):
            table.add_row(f"[bold]{name}[/]")
            for entry, summary in entries:
                table.add_row(f"  {escape(entry)}", f"[dim]{escape(summary)}[/]")
    out.print(table)


@app.command()
def copy(
    preset: Annotated[str, typer.Argument(help="A preset or backend.", show_default=False)],
    to: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
) -> None:
    """Copy a commented preset to a file that you edit."""
    from qdmerge.settings import read_preset

    text = read_preset(preset)
    if to.exists():
        raise ConfigError(f"{to} exists already; choose another file")
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {to}: {error.strerror}") from error
    out.print(f"Wrote {to}. Edit it, then: qdmerge check {to} && qdmerge run {to}")


@app.command()
def check(source: Source, recipe: RecipeName = None, settings: Settings = None) -> None:
    """Report all mistakes of a configuration at once; loads no weights."""
    from qdmerge.settings import load_config

    config = load_config(source, settings or [], recipe=recipe)
    space = f"space {config.space.name}, " if config.space else ""
    out.print(
        f"{source} is fine: backend {config.backend.name}, {space}{config.evaluations} "
        f"evaluations, archive {config.archive.name}, emitters "
        f"{', '.join(emitter.name for emitter in config.emitters)}, scheduler "
        f"{config.scheduler.name}, seed {config.seed}",
        highlight=False,
    )


@app.command()
def experts(source: Source, settings: Settings = None) -> None:
    """Make the base and the experts that a configuration names and that are not there yet.

    Stopped, it goes on where it was when it is called again.
    """
    from qdmerge.cli._progress import show_progress
    from qdmerge.runs import Progress
    from qdmerge.settings import load_config

    backend = load_config(source, settings or [], models=False).backend
    end_like_interrupt()
    try:
        with show_progress(out) as listener:
            made = backend.make_experts(
                lambda stage, done, total: listener(Progress(stage, done, total))
            )
    except NotImplementedError as error:
        raise ConfigError(str(error)) from error
    except KeyboardInterrupt:
        err.print(f"Interrupted. Go on with: qdmerge experts {source}", highlight=False)
        raise typer.Exit(130) from None
    for name, path in made.items():
        out.print(f"Made {name} in {path}", highlight=False)
    if not made:
        out.print("Nothing to make: base and experts are there", highlight=False)


@app.command()
def run(
    source: Source,
    evaluations: Annotated[int | None, typer.Option(help="Children to evaluate.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of the search.")] = None,
    archive: Annotated[str | None, typer.Option(help="See `qdmerge list archives`.")] = None,
    emitter: Annotated[
        list[str] | None, typer.Option(help="See `qdmerge list emitters`; may be repeated.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="See `qdmerge list schedulers`.")] = None,
    space: Annotated[str | None, typer.Option(help="See `qdmerge list spaces`.")] = None,
    recipe: RecipeName = None,
    workers: Annotated[int | None, typer.Option(help="Processes that evaluate.")] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run; a new one under runs/ if not given."),
    ] = None,
    settings: Settings = None,
    allow_unsandboxed: Unsandboxed = False,
) -> None:
    """Run a search and leave results, figures and the chosen model in a folder."""
    from qdmerge.runs import Run
    from qdmerge.settings import load_config

    numbers = {"evaluations": evaluations, "seed": seed, "execution.workers": workers}
    overrides = [f"{key}={value}" for key, value in numbers.items() if value is not None]
    if allow_unsandboxed:
        overrides.append("backend.allow_unsandboxed=true")
    parts = {"archive": archive, "emitters": emitter, "scheduler": scheduler, "space": space}
    config = load_config(source, overrides + (settings or []), parts, recipe=recipe)
    refuse_unsandboxed(config, allow_unsandboxed)
    _execute(Run.create(config, to or new_folder(source)))


app.command()(compare)


@app.command()
def resume(run_path: RunPath) -> None:
    """Go on with a run where its log ends."""
    from qdmerge.runs import Run

    _execute(Run.open(run_path))


@app.command()
def status(run_path: RunPath) -> None:
    """Show where a run stands, from its log."""
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
    out.print(
        f"{folder.path}: {escape(state)}; {history.n_children}/{budget} evaluations, "
        f"{history.n_failed} failed, {seconds:.0f} s",
        highlight=False,
    )
    if history.stats:
        from qdmerge.cli._progress import stats_table

        out.print(stats_table(history.stats[-1][1]))
    if not history.finished:
        out.print(f"Go on with: qdmerge resume {folder.path}", highlight=False)


@app.command()
def report(
    run_path: RunPath,
    examples: Annotated[
        bool, typer.Option("--examples", help="Have the backend draw its own figures, too.")
    ] = False,
) -> None:
    """Draw a run's figures and tables anew; works while it runs, too."""
    from qdmerge.cli._progress import show_progress
    from qdmerge.runs import Run, RunFolder

    if examples:
        with show_progress(out) as listener:
            Run.open(run_path).illustrate(listener)
    _report(RunFolder.open(run_path))


@app.command()
def export(
    run_path: RunPath,
    what: Annotated[
        str,
        typer.Argument(
            help="chosen, a candidate's name, best:TASK, aggregate, or a solution's id."
        ),
    ] = "chosen",
    to: Annotated[Path | None, typer.Option(help="Where to; RUN/export-WHAT if not given.")] = None,
    adapter: Annotated[
        bool,
        typer.Option("--adapter", help="As a LoRA adapter on the base; experts must be adapters."),
    ] = False,
) -> None:
    """Export a model of a run as a checkpoint that loads without qdmerge."""
    from qdmerge.runs import BuildBackend, Run, pick_solution

    opened = Run.open(run_path)
    x = pick_solution(opened.folder, opened.config, what)
    target = to or opened.folder.path / f"export-{what.replace(':', '-')}"
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists already; choose another --to")
    backend = BuildBackend(opened.config)()
    try:
        write = backend.export_adapter if adapter else backend.export
        out.print(f"Wrote {write(x, target)}", highlight=False)
    except NotImplementedError as error:
        raise ConfigError(str(error)) from error
    finally:
        backend.close()


def _execute(run: Run) -> None:
    from qdmerge.cli._progress import show_progress

    end_like_interrupt()
    try:
        with show_progress(out) as listener:
            run.execute(listener)
    except KeyboardInterrupt:
        err.print(
            f"Interrupted; everything so far is in {run.folder.path}. "
            f"Go on with: qdmerge resume {run.folder.path}",
            highlight=False,
        )
        raise typer.Exit(130) from None
    for warning in run.warnings:
        err.print(f"[bold yellow]Warning:[/] {escape(warning)}", highlight=False)
    _report(run.folder)


def _report(folder: Any) -> None:
    from qdmerge.reports import draw_figures, results_markdown, results_table, side_tasks_table

    figures = draw_figures(folder)
    if folder.results.is_file():
        results = folder.read_results()
        folder.table.write_text(results_markdown(results), encoding="utf-8")
        out.print(results_table(results))
        side_tasks = side_tasks_table(results)
        if side_tasks is not None:
            out.print(side_tasks)
    out.print(f"In {folder.path}:", highlight=False)
    own = {path for path in folder.figures.rglob("*") if path.is_file()} - {*figures}
    written = [folder.results, folder.table, *figures, *sorted(own), folder.model]
    for path in written:
        if path.exists():
            out.print(f"  {path.relative_to(folder.path)}", highlight=False)
