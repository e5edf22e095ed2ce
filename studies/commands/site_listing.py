"""The table of sites: a letter for each method on a terminal, names and structures in full in a pipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from string import ascii_lowercase

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sconv_search.studies.space.sites import Extent, Layer, SiteTable, in_words

PIPE_WIDTH = 1000
UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def say_sites(table: SiteTable, console: Console) -> None:
    """Prints the layers that are offered, those that are not with the reason, and totals."""
    in_full = in_a_pipe(console)
    if in_full:
        console = Console(file=console.file, width=PIPE_WIDTH)  # a line a layer, for grep
    letters = {} if in_full else dict(zip(table.methods, ascii_lowercase, strict=False))
    sites = [layer for layer in table.layers if layer.offers]
    rest = [layer for layer in table.layers if not layer.offers]
    if sites:
        console.print(_offered(sites, table, letters))
    if rest:
        console.print(_left_out(rest, table))
    for line in (*_totals(sites, table, letters), *table.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def in_a_pipe(console: Console) -> bool:
    """Whether lines are read by a program, which needs no width."""
    return not console.is_terminal and "COLUMNS" not in os.environ


def amount(number: int) -> str:
    """A count to three digits: ``40.6M``."""
    size, letter = next(((size, letter) for size, letter in UNITS if number >= size), (1, ""))
    scaled = number / size
    return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f}{letter}" if letter else str(number)


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
    shape = "×".join(map(str, table.input_shape))
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
