"""The command line, and the only place where all packages meet."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sconv_search.studies import recipes
from sconv_search.studies.commands.arguments import DeviceOption, OverwriteOption, start_of
from sconv_search.studies.commands.best import best
from sconv_search.studies.commands.change_listing import say_changes
from sconv_search.studies.commands.config_file import ConfigOption
from sconv_search.studies.commands.confirm import confirm
from sconv_search.studies.commands.export import export
from sconv_search.studies.commands.failures import DONE, STATUSES, WORK_FAILED, DebugOption, guarded, require_arguments
from sconv_search.studies.commands.results import JsonOption, confirm_result, print_json, search_result, telling
from sconv_search.studies.commands.search import search
from sconv_search.studies.commands.sites import sites
from sconv_search.studies.commands.streams import lasting_streams
from sconv_search.studies.commands.tasks import tasks
from sconv_search.studies.confirmation import confirm as confirm_runs
from sconv_search.studies.monitor import RichMonitor
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.search.runner import search as run_search
from sconv_search.system.malloc import keep_freed_memory

if TYPE_CHECKING:
    from sconv_search.reports import Change

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=STATUSES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"sconv-search {version('sconv-search')}")
        raise typer.Exit


@app.callback()
def options(
    debug: DebugOption = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """How small can a convolutional network get, by which method? Search plans, confirm the best, report them.

    Example: sconv-search demo
    """


for command in (tasks, sites, search, confirm, best, export):
    app.command(epilog=STATUSES)(command)


@app.command(epilog=STATUSES)
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option(help="Folder for the page, figures and tables.")] = Path("report"),
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw the Pareto comparison of runs, with its tables.

    Example: sconv-search report runs/structured runs/spatial --out report
    """
    with telling(as_json) as monitor:
        result = _reported(runs, out, monitor, overwrite=overwrite)
    if as_json:
        print_json(result)


def _reported(runs: list[Path], out: Path, monitor: RichMonitor, *, overwrite: bool = False) -> dict[str, Any]:
    from sconv_search.reports import write_report

    with monitor.bar("drawing") as step:
        written = write_report(runs, out, step, **({"overwrite": True} if overwrite else {}))
    monitor.say(f"report: open {out / 'index.html'} ({len(written)} files)")
    return {"folder": out, "page": out / "index.html", "runs": runs, "files": written}


@app.command(epilog=STATUSES)
def compare(
    before: Annotated[Path, typer.Argument(help="Folder of the older report.")],
    after: Annotated[Path, typer.Argument(help="Folder of the newer report.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what changed between two reports: verdicts, plans, scores, costs and effort.

    Example: sconv-search compare report-monday report
    """
    from sconv_search.reports import report_changes

    changes = report_changes(before, after)
    if as_json:
        print_json({"before": before, "after": after, "changed": bool(changes), "changes": changes})
    elif changes:
        say_changes(map(_cells, changes), Console())
    else:
        print("nothing changed: verdicts, plans, scores, costs and effort are the same")


def _cells(change: Change) -> tuple[str, ...]:
    of = f"{change.subject}: {change.quantity}" if change.quantity else change.subject
    return change.kind, of, *change.words, change.difference


@app.command(epilog=STATUSES)
def demo(
    runs: Annotated[Path, typer.Option(help="Where runs and report are put.")] = Path("runs"),
    seeds: Annotated[int, typer.Option(help="Trainings of each confirmed plan.", min=1)] = 3,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The whole job on embedded data: search two methods, confirm the best plans, report. Minutes on two cores.

    Example: sconv-search demo --runs runs --seeds 3
    """
    with telling(as_json) as monitor:
        folders = []
        start = start_of("demo", None, None, device, runs, monitor)
        for spec in recipes.demo():
            folders.append(RunFolder(runs / f"demo-{spec.methods[0]}-{spec.budget.rstrip('%')}"))
            monitor.say(f"\nsearch: {spec.methods[0]} under {spec.budget} of dense FLOPs")
            run_search(start, spec, folders[-1], monitor)
        monitor.say("\nconfirmation on the full schedule")
        new = confirm_runs(start, folders, seeds=seeds, most=1, monitor=monitor)
        reported = _reported([folder.path for folder in folders], runs / "demo-report", monitor)
    if as_json:
        searches = [search_result(folder) for folder in folders]
        print_json({"search": searches, "confirm": confirm_result(folders, new), "report": reported})


def main() -> None:
    """Entry point of ``sconv-search``."""
    keep_freed_memory()
    with lasting_streams() as out:
        status = guarded(_run)
    if status == DONE and out.broken is not None and not out.was_left:
        status = WORK_FAILED  # what was printed is lost, on a full disk for one
    sys.exit(status)


def _run() -> None:
    require_arguments(sys.argv[1:])
    app()
