"""``sconv-search export``."""

from __future__ import annotations

from pathlib import Path

from sconv_search.inference.optimize import choice_table
from sconv_search.studies.commands.arguments import require_new, spec_of
from sconv_search.studies.commands.output import print_json, telling
from sconv_search.studies.commands.run_task import task_of
from sconv_search.studies.export import (
    Exported,
    calibration_of,
    confirmed_network,
    export_confirmed,
    require_int8,
    require_network,
)
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.options.export import ConfirmedNetwork, File
from sconv_search.studies.options.shared import RunTask
from sconv_search.studies.runs.folder import RunFolder


def export(
    run: Path,
    file: File,
    network: ConfirmedNetwork,
    *,
    method: list[str] | None,
    named: RunTask,
    data: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Writes a confirmed network as one file, and runs it from there to check it."""
    require_int8(file.to, file.int8, data)
    for name in method or ():
        METHODS.add(name)
    folder = RunFolder(run)
    spec = spec_of(folder)
    task = task_of(folder, spec, named)
    with telling(as_json) as monitor:
        chosen = confirmed_network(folder, network.plan, network.seed)
        require_network(folder, task)
        name = f"{chosen.folder.name}{'-int8' if file.int8 else ''}.{file.to}"
        path = file.out or run / "exported" / name
        require_new(path, overwrite)
        calibration = calibration_of(task, data) if file.int8 else None
        with monitor.bar(f"exporting {path.name}"):
            written = export_confirmed(
                task,
                chosen,
                path,
                file.to,
                optimized=file.optimize,
                calibration=calibration,
                count_free=spec.count_free,
            )
        for line in _lines(written):
            monitor.say(line)
    if as_json:
        print_json(
            {
                "file": written.path,
                "format": file.to,
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
