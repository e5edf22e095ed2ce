"""The options of ``sconv-search search``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from sconv_search.budget import QUANTITIES
from sconv_search.studies.granularity import Granularity
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.options.shared import (
    CountFreeOption,
    DataOption,
    ExcludeOption,
    IncludeOption,
    MultipleOption,
    QuantityOption,
    StorageOption,
    TaskOption,
    WeightsOption,
    known_methods,
)
from sconv_search.studies.spec import SamplerName
from sconv_search.studies.tasks import DEFAULT_TASK

DEFAULT_METHOD, DEFAULT_BUDGET = "structured_conv", "50%"
Distill = Literal["auto", "logits", "soft-targets", "labels"]
SHARES: Mapping[str, float] = {"logits": 1.0, "soft-targets": 0.9, "labels": 0.0}
"""Weight of the dense network's outputs in the loss, unless the user says otherwise."""


def known_plans() -> list[str]:
    """Completions of a plan to start with."""
    from sconv_search.structured.paper_plans import PAPER_PLANS

    return list(PAPER_PLANS)


@dataclass(frozen=True, kw_only=True)
class NetworkAndData:
    """Network and data."""

    task: TaskOption = DEFAULT_TASK
    network: Annotated[
        str | None,
        typer.Option(
            help="Network to compress instead of the task's own: torchvision:NAME, timm:NAME, hf-hub:ORG/NAME,"
            " local-dir:PATH, or package.module:function, a function that returns it; arguments as"
            " timm:resnet18?num_classes=10 (default: the task's network). With --data and without --task, the task"
            " is images or masks, by what the folder holds.",
            metavar="NAME",
        ),
    ] = None
    data: DataOption = None
    weights: WeightsOption = None


@dataclass(frozen=True, kw_only=True)
class BudgetAndLayers:
    """Budget, methods and layers."""

    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Maximum cost of a compressed network: a share of the dense network's cost ('50%') or an amount"
            " ('41M', '8.5ms'). To limit several quantities, repeat the option and name them ('params=60%'). A range"
            f" ('30%..90%') searches the whole Pareto front (default: {DEFAULT_BUDGET}).",
            metavar="AMOUNT",
        ),
    ] = None
    quantity: QuantityOption = "flops"
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Cost to minimize beside the accuracy if the budget is a range: {', '.join(QUANTITIES)}; repeatable,"
            " at most two (default: the quantity of the range).",
            autocompletion=lambda: list(QUANTITIES),
            metavar="NAME",
        ),
    ] = None
    latency_batch: Annotated[
        int, typer.Option(help="Batch size at which latency is measured, if the budget limits it.", min=1)
    ] = 16
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Compression method: {', '.join(METHODS)}, or package.module:Class for your own. Repeat the option"
            f" to choose among several methods layer by layer (default: {DEFAULT_METHOD}).",
            autocompletion=known_methods,
            metavar="NAME",
        ),
    ] = None
    include: IncludeOption = None
    exclude: ExcludeOption = None
    multiple: MultipleOption = 1
    count_free: CountFreeOption = None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Trials and sampler."""

    trials: Annotated[int, typer.Option(help="Number of plans to train.")] = 20
    sampler: Annotated[
        SamplerName,
        typer.Option(help="Algorithm that suggests plans; random is the baseline that the others should beat."),
    ] = "surrogate"
    granularity: Annotated[
        Granularity, typer.Option(help="Layers that share one compression level: each layer alone, a block or a stage.")
    ] = "layer"
    screening: Annotated[
        int,
        typer.Option(
            help="Train only the best 1 of N suggested plans, ranked by their accuracy after compression without"
            " training; 1 trains every plan.",
            min=1,
            metavar="N",
        ),
    ] = 1
    start_plan: Annotated[
        list[str] | None,
        typer.Option(
            help="Plan to try first: a JSON file, or the name of a plan from the paper, such as resnet18/A; repeatable"
            " (default: none).",
            autocompletion=known_plans,
            metavar="PLAN",
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Random seed of the sampler and of the training in the trials.")] = 0
    minutes: Annotated[
        float | None, typer.Option(help="Start no new trial after this many minutes (default: no limit).")
    ] = None
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after N consecutive trials without improvement (default: no limit).", metavar="N"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training."""

    epochs: Annotated[
        float | None, typer.Option(help="Epochs of training per trial (default: the task's search schedule).")
    ] = None
    confirm_epochs: Annotated[
        float | None,
        typer.Option(help="Epochs of training per confirmed plan (default: the task's confirmation schedule)."),
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Peak learning rate of a trial; short trials often need a lower one (default: the task's)."),
    ] = None
    confirm_learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate of a confirmation (default: the task's).")
    ] = None
    regularized_share: Annotated[
        str,
        typer.Option(
            help="Share of the epochs (0 to 1) that a regularized trial trains before it is compressed; a range"
            " ('0.2..0.8') is searched.",
            metavar="SHARE",
        ),
    ] = "0.5"
    reconstruct: Annotated[
        int,
        typer.Option(
            help="Before a trial or confirmation trains, train each block of the compressed network on so many images"
            " to give the dense block's outputs, without labels; 0 trains no blocks. With --epochs 0 the search ranks"
            " plans by that alone.",
            min=0,
            metavar="IMAGES",
        ),
    ] = 0
    distill: Annotated[
        Distill,
        typer.Option(
            help="What compressed networks learn: the dense network's logits (labels are not read), its soft-targets"
            " beside the labels, or the labels alone. By default the logits if --weights is given, else the labels."
        ),
    ] = "auto"
    distillation: Annotated[
        float | None,
        typer.Option(
            help="Weight (0 to 1) of the dense network's outputs in the loss; labels take the rest (default: 1 for"
            " logits, 0.9 for soft-targets)."
        ),
    ] = None
    label_smoothing: Annotated[
        float, typer.Option(help="Label smoothing: share (0 to 1) of each label that is spread over all classes.")
    ] = 0.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run."""

    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder for records and plans; an interrupted run in it is continued. Required except with"
            " --dry-run."
        ),
    ] = None
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Delete what the run folder contains if it is another study or cannot be read (default: refused).",
        ),
    ] = False
    workers: Annotated[
        int, typer.Option(help="Number of processes that evaluate trials at once; they share the CPU threads.", min=1)
    ] = 1
    storage: StorageOption = None
    dry: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show layers, costs, reachable budgets, an example plan, schedules and missing data; train nothing and"
            " write nothing.",
        ),
    ] = False
