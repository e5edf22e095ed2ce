"""The options of ``sconv-search compress``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.options.search import DEFAULT_BUDGET, DEFAULT_METHOD
from sconv_search.studies.options.shared import (
    CountFreeOption,
    ExcludeOption,
    IncludeOption,
    MultipleOption,
    QuantityOption,
    known_methods,
)

ExportFormat = Literal["onnx", "pt2"]


@dataclass(frozen=True, kw_only=True)
class OneShotNetwork:
    """Network and data."""

    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights of the trained network: a safetensors file, or a state dict of torch.save (.pth, .pt)"
            " (default: those that the network's name says)."
        ),
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photos to fit the compressed layers to, flat or with a folder for each class; labels are"
            " not read (default: the weights alone are used)."
        ),
    ] = None
    samples: Annotated[int, typer.Option(help="Number of photos to fit to.", min=1)] = 256
    shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Shape of one input without the batch dimension, such as 3,224,224 (default: the network's own).",
            metavar="SHAPE",
        ),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(
            help="Mean of each channel of photos scaled to 0 to 1, such as 0.5,0.5,0.5 (default: the network's own,"
            " else ImageNet's).",
            metavar="NUMBERS",
        ),
    ] = None
    std: Annotated[
        str | None, typer.Option(help="Standard deviation, written as --mean (default: likewise).", metavar="NUMBERS")
    ] = None


@dataclass(frozen=True, kw_only=True)
class OneShotBudget:
    """Budget, methods and layers."""

    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Maximum cost of the compressed network: a share of the dense network's cost ('50%') or an amount"
            " ('41M'). To limit several quantities, repeat the option and name them ('params=60%') (default:"
            f" {DEFAULT_BUDGET}).",
            metavar="AMOUNT",
        ),
    ] = None
    quantity: QuantityOption = "flops"
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Compression method: {', '.join(METHODS)}, or package.module:Class for your own. Repeat the option to"
            f" choose among several methods layer by layer (default: {DEFAULT_METHOD}).",
            autocompletion=known_methods,
            metavar="NAME",
        ),
    ] = None
    include: IncludeOption = None
    exclude: ExcludeOption = None
    multiple: MultipleOption = 1
    count_free: CountFreeOption = None


@dataclass(frozen=True, kw_only=True)
class OneShotFiles:
    """Files."""

    out: Annotated[Path, typer.Option(help="Folder to write plan, weights and config.json to.")]
    to: Annotated[
        ExportFormat | None,
        typer.Option(
            "--export",
            help="Write this file, too, ready for inference; pt2 is an archive of torch.export (default: none).",
        ),
    ] = None
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace files that already exist (default: existing files are refused)."),
    ] = False
