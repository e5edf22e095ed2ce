"""The command line, and the only place where all packages meet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console

from reports import write_report
from sconv_search.training import Schedule
from studies import recipes
from studies.confirmation import confirm as confirm_runs
from studies.monitor import RichMonitor
from studies.run_folder import RunFolder
from studies.runner import checked_budget
from studies.runner import search as run_search
from studies.spec import StudySpec
from studies.start import Start, start_from
from studies.tasks import TASKS, task_named

EXPECTED = (ValueError, KeyError, TypeError, OSError, RuntimeError)
app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)
state = {"debug": False}

DataOption = Annotated[Path | None, typer.Option(help="Folder of the data set; else SCONV_SEARCH_DATA, else ./data.")]
WeightsOption = Annotated[
    Path | None,
    typer.Option(help="Trained dense network (safetensors) that saw all training images. Without it one is trained."),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
TaskOption = Annotated[str, typer.Option(help=f"One of: {', '.join(TASKS)}.")]


@app.callback()
def options(debug: Annotated[bool, typer.Option(help="Show tracebacks of errors.")] = False) -> None:
    """How small can a convolutional network get, by which method? Search plans, confirm the best, report them."""
    state["debug"] = debug


@app.command()
def search(
    out: Annotated[Path, typer.Option(help="The run's folder; an interrupted run in it continues.")],
    task: TaskOption = "demo",
    method: Annotated[list[str] | None, typer.Option(help="Method to search; repeat it to mix methods site by site.")] = None,
    budget: Annotated[
        str, typer.Option(help="Most that a plan may cost: a share of dense ('50%') or an amount ('41M').")
    ] = "50%",
    quantity: Annotated[Literal["flops", "macs", "params"], typer.Option(help="What the budget limits.")] = "flops",
    trials: Annotated[int, typer.Option(help="Number of trainings.")] = 20,
    epochs: Annotated[float | None, typer.Option(help="Epochs of a trial; else the task's short schedule.")] = None,
    confirm_epochs: Annotated[
        float | None, typer.Option(help="Epochs of a confirmation; else the task's full schedule.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak of a trial's learning rate; short trials want less.")
    ] = None,
    confirm_learning_rate: Annotated[float | None, typer.Option(help="Peak of a confirmation's learning rate.")] = None,
    distillation: Annotated[float, typer.Option(help="Share of the loss, 0 to 1, that imitates the dense network.")] = 0.0,
    label_smoothing: Annotated[float, typer.Option(help="Share of each label, 0 to 1, spread over all classes.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampler and of the trials' training.")] = 0,
    data: DataOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Search the best plan under a budget.

    Example: sconv-search search --task demo --method structured_conv --budget 30% --trials 12 --out runs/structured
    """
    known = task_named(task)
    loss: dict[str, Any] = {"distillation": distillation, "label_smoothing": label_smoothing}
    spec = StudySpec(
        task=task, methods=tuple(method or ["structured_conv"]), budget=budget, quantity=quantity, trials=trials, seed=seed,
        search_schedule=replace(_changed(known.search_schedule, epochs, learning_rate), **loss),
        confirm_schedule=replace(_changed(known.confirm_schedule, confirm_epochs, confirm_learning_rate), **loss),
    )  # fmt: skip
    monitor, folder = RichMonitor(Console()), RunFolder(out)
    checked_budget(spec, known.network(), known.input_shape)  # before a dense network is trained for it
    with folder.locked():
        pass
    run_search(_start(task, data, weights, device, out.parent, monitor), spec, folder, monitor)
    monitor.say(f"records: {out / 'trials.jsonl'}; next: sconv-search confirm {out}")


@app.command()
def confirm(
    runs: Annotated[list[Path], typer.Argument(help="Folders of searches of one task; compared methods belong together.")],
    seeds: Annotated[int, typer.Option(help="Trainings of each plan.")] = 3,
    plans: Annotated[int, typer.Option(help="Most plans of each run's front.")] = 3,
    data: DataOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train the best plans on the full schedule over several seeds, and read the test set once each.

    Example: sconv-search confirm runs/structured runs/spatial --seeds 3
    """
    folders, monitor = [RunFolder(run) for run in runs], RichMonitor(Console())
    start = _start(_spec_of(folders[0]).task, data, weights, device, runs[0].parent, monitor)
    confirm_runs(start, folders, seeds=seeds, most=plans, monitor=monitor)
    monitor.say(f"next: sconv-search report {' '.join(map(str, runs))} --out report")


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
    """The whole job on embedded data: search two methods, confirm the best plans, report. Minutes on two cores."""
    monitor, folders = RichMonitor(Console()), []
    start = _start("demo", None, None, device, runs, monitor)
    for spec in recipes.demo():
        folders.append(RunFolder(runs / f"demo-{spec.methods[0]}-{spec.budget.rstrip('%')}"))
        monitor.say(f"\nsearch: {spec.methods[0]} under {spec.budget} of dense FLOPs")
        run_search(start, spec, folders[-1], monitor)
    monitor.say("\nconfirmation on the full schedule")
    confirm_runs(start, folders, seeds=seeds, most=1, monitor=monitor)
    report([folder.path for folder in folders], runs / "demo-report")


def _changed(schedule: Schedule, epochs: float | None, learning_rate: float | None) -> Schedule:
    """The task's schedule with what the command line says otherwise."""
    changed = schedule if epochs is None else replace(schedule, epochs=epochs)
    return changed if learning_rate is None else replace(changed, learning_rate=learning_rate)


def _start(task: str, data: Path | None, weights: Path | None, device: str, runs: Path, monitor: RichMonitor) -> Start:
    found = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    return start_from(task_named(task), data=data, weights=weights, cache=runs / "dense", device=found, monitor=monitor)


def _spec_of(folder: RunFolder) -> StudySpec:
    spec = folder.read_spec()
    if spec is None:
        raise FileNotFoundError(f"{str(folder.path)!r} holds no study (no spec.json); run `sconv-search search` first")
    return spec


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
