"""The command line: every command with its options. What a command does is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sconv_search.studies.commands.failures import DONE, STATUSES, WORK_FAILED, guarded, require_arguments
from sconv_search.studies.commands.streams import lasting_streams
from sconv_search.studies.options.compress import OneShotBudget, OneShotFiles, OneShotNetwork
from sconv_search.studies.options.debug import DebugOption
from sconv_search.studies.options.export import ConfirmedNetwork, File
from sconv_search.studies.options.groups import Command, Group, flattened
from sconv_search.studies.options.search import BudgetAndLayers, NetworkAndData, Run, Sampling, Training
from sconv_search.studies.options.shared import (
    DataOption,
    DeviceOption,
    Execution,
    General,
    JsonOption,
    Layers,
    ManyMachines,
    OverwriteOption,
    OwnMethodOption,
    QuantityOption,
    RunTask,
    WeightsOption,
    known_methods,
    known_tasks,
)
from sconv_search.studies.tasks import TASKS

MOST_REPEATS = 1000
"""Trainings of a plan, and plans of a run, that a confirmation takes on: more is mistyped, and would never end."""
app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=STATUSES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Makes the function a command, with a flag for each option of its groups."""
    app.command(cls=Command, epilog=STATUSES)(flattened(function))
    return function


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"sconv-search {version('sconv-search')}")
        raise typer.Exit


@app.callback()
def options(
    debug: DebugOption = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Find out how small a convolutional network can get, and by which compression method.

    Search for compression plans, confirm the best ones and compare them in a report.

    Example: sconv-search demo
    """


@_command
def tasks(
    general: General,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Tasks to list, also package.module:function (default: all built-in tasks).",
            autocompletion=known_tasks,
        ),
    ] = None,
    data: DataOption = None,
) -> None:
    """List tasks: what their networks cost, how they are trained and scored, and which data they need.

    Example: sconv-search tasks imagenet/resnet18 --data DIR
    """
    from sconv_search.studies.commands.tasks import tasks as run

    run(names, data=data, as_json=general.as_json)


@_command
def sites(
    network: Annotated[
        str,
        typer.Argument(
            help=f"Network: torchvision:NAME, timm:NAME, hf-hub:ORG/NAME, local-dir:PATH, or package.module:function, a"
            " function that returns a network or a Task (modules in the current directory are found, too); or a task"
            f" ({', '.join(TASKS)}), whose network is listed.",
            autocompletion=known_tasks,
        ),
    ],
    layers: Layers,
    general: General,
    shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Shape of one input without the batch dimension, such as 3,224,224 (default: the"
            " network's or the task's own).",
            metavar="SHAPE",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Compression method to list; repeatable (default: all methods).",
            autocompletion=known_methods,
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """List the layers that each method can compress, at what cost, and why the other layers stay as they are.

    Costs are shares of the layer's own FLOPs.

    Example: sconv-search sites torchvision:resnet18
    """
    from sconv_search.studies.commands.sites import sites as run

    run(network, shape=shape, method=method, layers=layers, as_json=general.as_json)


@_command
def compress(
    network: Annotated[
        str,
        typer.Argument(
            help="Network: torchvision:NAME, torchvision:NAME@WEIGHTS, timm:NAME, hf-hub:ORG/NAME, local-dir:PATH,"
            " package.module:function, a function that returns one, or a task, whose network is taken; arguments as"
            " timm:resnet18?num_classes=10.",
            autocompletion=known_tasks,
        ),
    ],
    source: OneShotNetwork,
    limits: OneShotBudget,
    files: OneShotFiles,
    general: General,
    device: DeviceOption = "auto",
) -> None:
    """Compress a trained network to a budget at once, without training, and write it to a folder.

    Without --data the weights alone are used; with it, the layers are fitted to the outputs of the dense network.

    Example: sconv-search compress torchvision:resnet18@DEFAULT --budget 50% --data photos --out small --export onnx
    """
    from sconv_search.studies.commands.one_network.compress import compress as run

    run(network, source, limits, files, device=device, as_json=general.as_json)


@_command
def search(
    run: Run,
    source: NetworkAndData,
    limits: BudgetAndLayers,
    sampling: Sampling,
    training: Training,
    execution: Execution,
    machines: ManyMachines,
    general: General,
) -> None:
    """Search for the most accurate compression plan within a budget, or for a Pareto front over a range of budgets.

    The same command continues an interrupted search.

    Example: sconv-search search --task demo --method structured_conv --budget 30% --trials 12 --out runs/structured
    """
    from sconv_search.studies.commands.search import search as body

    body(run, source, limits, sampling, training, execution, machines, as_json=general.as_json)


@_command
def confirm(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders of searches on one task. Confirm the methods of a comparison together."),
    ],
    execution: Execution,
    machines: ManyMachines,
    general: General,
    named: RunTask,
    seeds: Annotated[
        int, typer.Option(help="Number of trainings of each plan, each with another seed.", min=1, max=MOST_REPEATS)
    ] = 3,
    plans: Annotated[
        int, typer.Option(help="Maximum number of plans per run, taken from its Pareto front.", min=1, max=MOST_REPEATS)
    ] = 3,
    method: OwnMethodOption = None,
    data: DataOption = None,
    weights: WeightsOption = None,
) -> None:
    """Train the best plans on the full schedule with several seeds, and score each network once on the test set.

    Task and network are those of the runs; where they are code of yours, name them again.

    Example: sconv-search confirm runs/structured runs/spatial --seeds 3
    """
    from sconv_search.studies.commands.confirm import confirm as run

    run(
        runs,
        seeds=seeds,
        plans=plans,
        method=method,
        named=named,
        data=data,
        weights=weights,
        execution=execution,
        machines=machines,
        as_json=general.as_json,
    )


@_command
def best(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of searches.")],
    general: General,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Consider only plans within this budget, written as for sconv-search search (default: no limit).",
            metavar="AMOUNT",
        ),
    ] = None,
    quantity: QuantityOption = "flops",
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="JSON file to write the best plan of all runs to (default: none is written)."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Show the most accurate plan of each run, of those within a budget if one is given.

    Example: sconv-search best runs/front --budget 40% --plan plan.json
    """
    from sconv_search.studies.commands.best import best as run

    run(runs, budget=budget, quantity=quantity, plan=plan, overwrite=overwrite, as_json=general.as_json)


@_command
def export(
    run: Annotated[Path, typer.Argument(help="Run folder of a search with confirmed plans.")],
    file: File,
    network: ConfirmedNetwork,
    general: General,
    named: RunTask,
    method: OwnMethodOption = None,
    data: DataOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Export a confirmed network to one file, and check the file by running it.

    ONNX files are run with onnxruntime, and with OpenVINO if it is installed. The file accepts batches of any size and
    contains the plan and its costs.

    Example: sconv-search export runs/structured --to onnx --int8
    """
    from sconv_search.studies.commands.export import export as body

    body(run, file, network, method=method, named=named, data=data, overwrite=overwrite, as_json=general.as_json)


@_command
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders to compare.")],
    general: General,
    out: Annotated[Path, typer.Option(help="Folder to write the page, figures and tables to.")] = Path("report"),
    figures: Annotated[
        list[str] | None,
        typer.Option(
            help="Kind of the figures' files beside the page: svg, png, pdf, or none; repeatable (default: svg and"
            " png). The page itself holds all figures.",
            autocompletion=lambda: ["svg", "png", "pdf", "none"],
            metavar="KIND",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a report that compares runs: a page with the Pareto fronts, figures and tables.

    Example: sconv-search report runs/structured runs/spatial --out report
    """
    from sconv_search.studies.commands.report import report as run

    run(runs, out=out, figures=figures, overwrite=overwrite, as_json=general.as_json)


@_command
def compare(
    before: Annotated[Path, typer.Argument(help="Folder of the older report.")],
    after: Annotated[Path, typer.Argument(help="Folder of the newer report.")],
    general: General,
) -> None:
    """Show what changed between two reports: verdicts, plans, scores, costs and effort.

    Example: sconv-search compare report-monday report
    """
    from sconv_search.studies.commands.report import compare as run

    run(before, after, as_json=general.as_json)


@_command
def demo(
    runs: Annotated[Path, typer.Option(help="Folder to write the runs and the report to.")] = Path("runs"),
    seeds: Annotated[
        int, typer.Option(help="Number of trainings of each confirmed plan.", min=1, max=MOST_REPEATS)
    ] = 3,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run all steps on a small embedded data set: search with two methods, confirm the best plans, write a report.

    It takes a few minutes on two CPU cores.

    Example: sconv-search demo --runs runs --seeds 3
    """
    from sconv_search.studies.commands.demo import demo as run

    run(runs, seeds=seeds, device=device, as_json=as_json)


def main() -> None:
    """Entry point of ``sconv-search``."""
    from sconv_search.system.malloc import keep_freed_memory

    keep_freed_memory()
    with lasting_streams() as out:
        status = guarded(_run)
    if status == DONE and out.broken is not None and not out.was_left:
        status = WORK_FAILED  # what was printed is lost, on a full disk for one
    sys.exit(status)


def _run() -> None:
    require_arguments(sys.argv[1:])
    app()
