"""The command line, and the only place where all packages meet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reports import write_report
from studies import recipes
from studies.commands.arguments import DeviceOption, start_of
from studies.commands.confirm import confirm
from studies.commands.search import search
from studies.commands.sites import sites
from studies.confirmation import confirm as confirm_runs
from studies.monitor import RichMonitor
from studies.run_folder import RunFolder
from studies.runner import search as run_search

EXPECTED = (ValueError, KeyError, TypeError, OSError, RuntimeError)
app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)
state = {"debug": False}


@app.callback()
def options(debug: Annotated[bool, typer.Option(help="Show tracebacks of errors.")] = False) -> None:
    """How small can a convolutional network get, by which method? Search plans, confirm the best, report them."""
    state["debug"] = debug


app.command()(sites)
app.command()(search)
app.command()(confirm)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option(help="Folder for the page, figures and tables.")] = Path("report"),
) -> None:
    """Draw the Pareto comparison of runs, with its tables.

    Example: sconv-search report runs/structured runs/spatial --out report
    """
    written = write_report(runs, out)
    Console().print(f"report: open {out / 'index.html'} ({len(written)} files)", markup=False, highlight=False, soft_wrap=True)


@app.command()
def demo(
    runs: Annotated[Path, typer.Option(help="Where runs and report are put.")] = Path("runs"),
    seeds: Annotated[int, typer.Option(help="Trainings of each confirmed plan.")] = 3,
    device: DeviceOption = "cpu",
) -> None:
    """The whole job on embedded data: search two methods, confirm the best plans, report. Minutes on two cores.

    Example: sconv-search demo --runs runs --seeds 3
    """
    monitor, folders = RichMonitor(Console()), []
    start = start_of("demo", None, None, device, runs, monitor)
    for spec in recipes.demo():
        folders.append(RunFolder(runs / f"demo-{spec.methods[0]}-{spec.budget.rstrip('%')}"))
        monitor.say(f"\nsearch: {spec.methods[0]} under {spec.budget} of dense FLOPs")
        run_search(start, spec, folders[-1], monitor)
    monitor.say("\nconfirmation on the full schedule")
    confirm_runs(start, folders, seeds=seeds, most=1, monitor=monitor)
    report([folder.path for folder in folders], runs / "demo-report")


def guarded(command: Callable[[], object]) -> int:
    """Runs a command; an expected error becomes one line, and exit status 2."""
    try:
        command()
    except EXPECTED as error:
        if state["debug"]:
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        Console(stderr=True).print(f"error: {text}", markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command continues", markup=False)
        return 130
    return 0


def main() -> None:
    """Entry point of ``sconv-search``."""
    sys.exit(guarded(app))
