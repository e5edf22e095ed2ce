"""``sconv-search export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sconv_search.inference.optimize import choice_table
from sconv_search.studies.commands.arguments import DataOption, OwnMethodOption, spec_of
from sconv_search.studies.commands.config_file import ConfigOption
from sconv_search.studies.commands.failures import DebugOption
from sconv_search.studies.commands.results import JsonOption, print_json, telling
from sconv_search.studies.export import (
    BEST,
    Exported,
    Format,
    calibration_of,
    confirmed_network,
    export_confirmed,
    require_int8,
)
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.runs.folder import RunFolder


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a confirmed search.")],
    to: Annotated[Format, typer.Option(help="The file's format; pt2 is an archive of torch.export.")],
    plan: Annotated[
        str,
        typer.Option(
            help="A confirmed network's name in the report: a trial's number, uniform, …; or best.", metavar="NAME|best"
        ),
    ] = BEST,
    seed: Annotated[
        int | None, typer.Option(help="Which of its trainings; else the one with the least seed.", min=0)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file; else one in the run's folder, under exported/.")] = None,
    optimize: Annotated[
        bool,
        typer.Option(
            "--optimize", help="Fold batch norms, measure how each layer runs fastest on this machine, and write that."
        ),
    ] = False,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Quantize an ONNX file to 8 bits, by the ranges of the task's training images."),
    ] = False,
    method: OwnMethodOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a confirmed network as one file, and check it by running it from there.

    ONNX files are run by onnxruntime, and by OpenVINO where it is installed. The file takes batches of any size, and
    holds the plan and its costs.

    Example: sconv-search export runs/structured --to onnx --int8
    """
    require_int8(to, int8, data)
    for name in method or ():
        METHODS.add(name)
    folder = RunFolder(run)
    spec = spec_of(folder)
    with telling(as_json) as monitor:
        chosen = confirmed_network(folder, plan, seed)
        path = out or run / "exported" / f"{chosen.folder.name}{'-int8' if int8 else ''}.{to}"
        calibration = calibration_of(spec, data) if int8 else None
        with monitor.bar(f"exporting {path.name}"):
            written = export_confirmed(spec, chosen, path, to, optimized=optimize, calibration=calibration)
        for line in _lines(written):
            monitor.say(line)
    if as_json:
        print_json(
            {
                "file": written.path,
                "format": to,
                "trial": chosen.record.number,
                "name": chosen.record.plan_name,
                "seed": chosen.record.seed,
                "parity": dict(written.parity),
                "metadata": dict(written.metadata),
                "same_class": written.same_class,
                "implementations": {row.site: row.chosen for row in written.choices},
            }
        )


def _lines(written: Exported) -> list[str]:
    """What was written, and how near it is to the network."""
    said = [choice_table(written.choices)] if written.choices else []
    size = written.path.stat().st_size
    said.append(
        f"{written.path}: trial {written.metadata['trial']}, seed {written.metadata['seed']}, {size / 1e6:.2f} MB"
    )
    said += [
        f"parity, {runtime}: the largest difference is {difference:.1e} of the largest output"
        for runtime, difference in written.parity.items()
    ]
    if written.same_class is not None:
        said.append(f"int8: {100 * written.same_class:.1f} % of the calibration images get the same class as in float")
    return said
