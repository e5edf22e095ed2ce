"""The options of ``sconv-search export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

Format = Literal["onnx", "pt2", "safetensors"]
BEST = "best"


@dataclass(frozen=True, kw_only=True)
class File:
    """File."""

    to: Annotated[Format, typer.Option(help="File format; pt2 is an archive of torch.export.")]
    out: Annotated[
        Path | None, typer.Option(help="File to write (default: a file in exported/ in the run's folder).")
    ] = None
    optimize: Annotated[
        bool,
        typer.Option(
            "--optimize",
            help="Fold batch norms, and write for each layer the implementation that runs fastest on this machine.",
        ),
    ] = False
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Quantize an ONNX file to 8 bits, with ranges calibrated on the task's training images."
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ConfirmedNetwork:
    """Confirmed network."""

    plan: Annotated[
        str,
        typer.Option(help="A network's name in the report: a trial's number, uniform; or best.", metavar="NAME|best"),
    ] = BEST
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the training to take, of those of the plan (default: the lowest).", min=0),
    ] = None
