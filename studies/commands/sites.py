"""``sconv-search sites``: a letter for each method on a terminal, names and structures in full in a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from sconv_search.cost.counting import required_operators
from sconv_search.studies.commands.one_network.inputs import input_shape
from sconv_search.studies.commands.one_network.typed import shape_of
from sconv_search.studies.commands.output import amount, in_a_pipe, print_json, telling, wide_enough
from sconv_search.studies.commands.tasks import input_text
from sconv_search.studies.methods import METHODS
from sconv_search.studies.monitor import RichMonitor
from sconv_search.studies.oneshot.networks import found_network
from sconv_search.studies.options.shared import Layers
from sconv_search.studies.space.sites import Extent, Layer, SiteTable, in_words, site_table
from sconv_search.studies.spec import Selection


def sites(network: str, *, shape: str | None, method: list[str] | None, layers: Layers, as_json: bool) -> None:
    """Lists what each method offers for each layer of a network, and why the other layers stay dense."""
    selection = Selection(
        include=tuple(layers.include or ()), exclude=tuple(layers.exclude or ()), multiple=layers.multiple
    )
    count_free = required_operators(layers.count_free or ())
    with telling(as_json):  # the user's own function may print, too
        built, input_shape = _network(network, shape)
        monitor = RichMonitor(Console(stderr=True))  # the table alone goes into a pipe
        table = site_table(
            built, input_shape, tuple(map(METHODS.add, method or METHODS)), selection, monitor, count_free
        )
    if as_json:
        print_json(table)
    else:
        say_sites(table, Console())


def _network(text: str, shape: str | None) -> tuple[nn.Module, Any]:
    """The network of that name, and the shape of its input."""
    given = None if shape is None else shape_of(shape)
    named = found_network(text, trained=False)
    return named.network, given or input_shape(text, named, None)


def say_sites(table: SiteTable, console: Console) -> None:
    """Prints the layers that are offered, those that are not with the reason, and totals."""
    in_full = in_a_pipe(console)
    if in_full:
        console = wide_enough(console)  # a line a layer, for grep
    letters = {} if in_full else dict(zip(table.methods, ascii_lowercase, strict=False))
    sites = [layer for layer in table.layers if layer.offers]
    rest = [layer for layer in table.layers if not layer.offers]
    if sites:
        console.print(_offered(sites, table, letters))
    if rest:
        console.print(_left_out(rest, table))
    for line in (*_totals(sites, table, letters), *table.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(*columns: str, folded: Sequence[str], right: Sequence[str] = ("MACs", "share")) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        justify = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column not in folded)  # type: ignore[arg-type]
    return table


def _offered(sites: Sequence[Layer], table: SiteTable, letters: Mapping[str, str]) -> Table:
    ends = ("cheapest", "dearest")
    result = _table("site", "kind", "shape", "MACs", "share", "methods", *ends, folded=("site", "kind"))
    for layer in sites:
        cheapest = min(layer.offers.items(), key=lambda offer: offer[1].cheapest_share)
        dearest = max(layer.offers.items(), key=lambda offer: offer[1].dearest_share)
        options = (_end(*cheapest, letters, first=True), _end(*dearest, letters, first=False))
        result.add_row(*map(Text, (*_facts(layer, table), _methods(layer, table.methods, letters), *options)))
    return result


def _left_out(rest: Sequence[Layer], table: SiteTable) -> Table:
    result = _table(
        "not offered", "kind", "shape", "MACs", "share", "why", folded=("not offered", "kind", "shape", "why")
    )
    for layer in rest:
        result.add_row(*map(Text, (*_facts(layer, table), in_words(layer.reasons))))
    return result


def _facts(layer: Layer, table: SiteTable) -> tuple[str, ...]:
    known = layer.macs is not None
    work = (amount(layer.macs or 0), f"{(layer.macs or 0) / max(1, table.cost.macs):.1%}") if known else ("", "")
    return layer.site, layer.kind, layer.shape, *work


def _methods(layer: Layer, asked: Sequence[str], letters: Mapping[str, str]) -> str:
    if letters:
        return "".join(letters[method] if method in layer.offers else "·" for method in asked)
    return ", ".join(layer.offers)


def _end(method: str, extent: Extent, letters: Mapping[str, str], *, first: bool) -> str:
    ends = ((extent.cheapest_share, extent.cheapest), (extent.dearest_share, extent.dearest))
    share, choice = ends[0 if first else 1]
    return f"{share:.1%} {letters[method]}" if letters else f"{share:.1%} {choice}"


def _totals(sites: Sequence[Layer], table: SiteTable, letters: Mapping[str, str]) -> list[str]:
    cost, reached = table.cost, sum(layer.macs or 0 for layer in sites)
    shape = input_text(table.input_shape)
    counts = [
        f"{letters.get(method, '')} {method}: {sum(method in layer.offers for layer in sites)}".strip()
        for method in table.methods
    ]
    share = reached / max(1, cost.macs)
    return [
        f"{table.network} on {shape}: {cost.macs:,} MACs + {cost.adds:,} additions, {cost.params:,} parameters",
        f"{len(sites)} of {len(table.layers)} layers with weights are sites, with {share:.1%} of the MACs; "
        f"by method: {', '.join(counts)}",
        "cheapest and dearest: FLOPs of an option over all methods, as a share of the layer's own",
    ]
