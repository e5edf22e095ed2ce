"""``sconv-search compress``: one network within a budget, by one call, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sconv_search.budget import Budgets
from sconv_search.cost.counting import counting_free, measure_cost, require_forward, required_operators
from sconv_search.data.photo_folder import PhotoFolder
from sconv_search.inference.export import require_writer
from sconv_search.studies.commands.arguments import device_named
from sconv_search.studies.commands.one_network.inputs import input_shape, photos_for
from sconv_search.studies.commands.one_network.listing import (
    beginning,
    document,
    exported_line,
    next_command,
    say_costs,
)
from sconv_search.studies.commands.output import print_json, telling
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.oneshot.compress import compress as compressed
from sconv_search.studies.oneshot.export import export
from sconv_search.studies.oneshot.networks import found_network
from sconv_search.studies.oneshot.saving import FILES, save
from sconv_search.studies.options.compress import OneShotBudget, OneShotFiles, OneShotNetwork
from sconv_search.studies.options.search import DEFAULT_BUDGET, DEFAULT_METHOD
from sconv_search.studies.runs.folder import require_not_of_a_run


def compress(
    name: str, source: OneShotNetwork, limits: OneShotBudget, files: OneShotFiles, *, device: str, as_json: bool
) -> None:
    """Compresses a network, writes it, and says what changed; everything is checked before anything is computed."""
    exported = None if files.to is None else files.out / f"{files.out.resolve().name}.{files.to}"
    require_not_of_a_run(files.out)
    _require_new(files.out, [*FILES, *([exported.name] if exported else [])], files.overwrite)
    if files.to is not None:
        require_writer(files.to)
    processor, methods = device_named(device), tuple(map(METHODS.add, limits.method or [DEFAULT_METHOD]))
    count_free = required_operators(limits.count_free or ())
    budget = ",".join(_named(text, limits.quantity) for text in limits.budget or [DEFAULT_BUDGET])
    with telling(as_json) as monitor:
        with monitor.bar(f"loading {name}"):
            named = found_network(name, source.weights)
        shape = input_shape(name, named, source.shape)
        network = named.network.to(processor)
        require_forward(network, shape)
        with counting_free(count_free):
            Budgets.parse(budget, dense=measure_cost(network, shape))
        data: PhotoFolder | None = None
        notes: tuple[str, ...] = ()
        if source.data is not None:
            photos, notes = photos_for(source, named, shape)
            data = PhotoFolder(source.data, photos)
        for note in (*beginning(named, data, source.samples), *notes):
            monitor.say(note)
        small = compressed(
            network,
            shape,
            budget,
            methods=methods,
            data=data,
            samples=source.samples,
            include=limits.include or (),
            exclude=limits.exclude or (),
            multiple=limits.multiple,
            count_free=count_free,
            progress=monitor,
        )
        save(small, files.out, network_name=name, overwrite=files.overwrite)
        if not as_json:
            say_costs(name, small, monitor.console)
        monitor.say(f"{files.out}: {', '.join(FILES)}")
        parity = None
        if exported is not None:
            with monitor.bar(f"exporting {exported.name}"):
                parity = export(small.to("cpu"), exported, overwrite=files.overwrite)
            monitor.say(exported_line(exported, parity))
        monitor.say(f"next: {next_command(name, source, limits, files.out)}")
    if as_json:
        print_json(document(name, small, files.out, exported, parity))


def _require_new(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Refuses to replace files unasked.

    Raises:
        FileExistsError: one is there.
    """
    there = [name for name in names if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"the folder {str(folder)!r} holds {', '.join(there)} already; name another with --out, or replace them"
            " with --overwrite"
        )


def _named(budget: str, quantity: str) -> str:
    return budget if "=" in budget or quantity == "flops" else f"{quantity}={budget}"
