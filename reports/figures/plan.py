"""What the network looks like after compression, and which layers the searches protect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sconv_search.reports.analysis.method_comparison import Verdict
from sconv_search.reports.analysis.summary import quality
from sconv_search.reports.drawing.chart import Drawing, Figure, HeatMap, Nothing
from sconv_search.reports.figures.sites import SiteTable
from sconv_search.reports.reading.runs import plan_choices, structure_words
from sconv_search.reports.wording import method_name, multiline, tenths

MOST_ROWS = 120
FEWEST_TRIALS = 8
MOST_LETTERS = 20
"""Of a structure that is written into its cell of the map, as ``c=16, n=2, merged=1``; hover and table hold longer
ones.
"""
_NO_LAYERS = (
    "The confirmed records do not hold the cost of each layer (they were made before it was recorded, or nothing "
    "is confirmed "
    "yet); confirm again to see this figure."
)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer before and after: ``[macs, additions, params]`` each."""

    name: str
    kind: str
    weight: tuple[int, ...]
    choice: str
    before: tuple[int, int, int]
    after: tuple[int, int, int]

    @property
    def kept(self) -> float | None:
        """FLOPs after compression in % of those before."""
        flops = [2 * macs + adds for macs, adds, _ in (self.before, self.after)]
        return 100 * flops[1] / flops[0] if flops[0] else None


def layers_of(plan: pd.Series[Any] | dict[str, Any]) -> list[Layer]:
    """The plan's layers in the network's order; empty where the record does not hold them."""
    try:
        entries = json.loads(plan["layers"])
        choices = plan_choices(plan["plan"])
        return [_layer(str(name), entry, choices) for name, entry in entries.items()]
    except (TypeError, ValueError, KeyError, AttributeError):
        return []


def _layer(name: str, entry: dict[str, Any], choices: dict[str, Any]) -> Layer:
    chosen = choices.get(name)
    words = f"{method_name(chosen[0])}, {structure_words(chosen)}" if chosen else "dense"
    before, after = ((int(entry[when][0]), int(entry[when][1]), int(entry[when][2])) for when in ("before", "after"))
    weight = tuple(int(size) for size in entry["weight"])
    return Layer(name=name, kind=str(entry["kind"]), weight=weight, choice=words, before=before, after=after)


def plan_figure(summary: pd.DataFrame, verdicts: Sequence[Verdict]) -> Figure:
    """Layer against method, the share of FLOPs kept, for the best plan of each method; a drawing a budget."""
    drawings = {verdict.budget: _plan_map(summary, verdict) for verdict in verdicts}
    if not drawings:
        drawings = {"plan": Nothing(title="The plans, layer by layer", reason=_NO_LAYERS)}
    return Figure(
        key="plan",
        title="The plans, layer by layer",
        drawings=drawings,
        caption="FLOPs that each layer keeps, in % of its own before compression, and its structure: the best "
        "plan of each "
        "method. Measured on the networks as built, so a layer whose neighbor was pruned shows it too.",
    )


def _plan_map(summary: pd.DataFrame, verdict: Verdict) -> Drawing:
    title = f"FLOPs kept by layer at {verdict.budget}"
    drawn = [(entry, layers_of(summary[summary["key"] == entry.key].iloc[0])) for entry in verdict.entries]
    drawn = [(entry, layers) for entry, layers in drawn if layers]
    if not drawn:
        return Nothing(title=title, reason=_NO_LAYERS)
    names = list(dict.fromkeys(layer.name for _, layers in drawn for layer in layers))
    shown = names[:MOST_ROWS]
    by_name = [{layer.name: layer for layer in layers} for _, layers in drawn]
    cells = [[column.get(name) for column in by_name] for name in shown]
    cut = [f"the first {MOST_ROWS} of {len(names)} layers are drawn"] if len(names) > MOST_ROWS else []
    return HeatMap(
        title=title,
        rows=shown,
        columns=[method_name(entry.family) for entry, _ in drawn],
        values=[[layer.kept if layer else None for layer in row] for row in cells],
        texts=[[_cell(layer) for layer in row] for row in cells],
        hovers=[[_hover(layer) for layer in row] for row in cells],
        label="FLOPs kept (%)",
        limits=(0.0, 100.0),
        notes=cut,
    )


def _cell(layer: Layer | None) -> str:
    """The share kept, and the structure where it is short."""
    if layer is None or layer.kept is None:
        return ""
    structure = layer.choice.partition(", ")[2]
    return f"{layer.kept:.0f}" + (f" · {structure}" if 0 < len(structure) <= MOST_LETTERS else "")


def _hover(layer: Layer | None) -> str:
    if layer is None:
        return ""
    macs = f"MACs {layer.before[0]:,} → {layer.after[0]:,}"
    return multiline(layer.name, f"{layer.kind} {'×'.join(map(str, layer.weight))}: {layer.choice}", macs)


def protection_figure(tables: Sequence[SiteTable]) -> Figure:
    """Site against run: the share of a layer's possible saving that good plans leave untaken."""
    title = "Which layers the searches protect"
    enough = [table for table in tables if table.trials >= FEWEST_TRIALS]
    if not enough:
        few = (
            f"No run has a search space and {FEWEST_TRIALS} scored trials, so nothing can be said of what it protects."
        )
        return Figure(key="protected", title=title, drawings={"": Nothing(title=title, reason=few)})
    best = [_best_quarter(table) for table in enough]
    sites = list(dict.fromkeys(site for means in best for site in means.index))[:MOST_ROWS]
    values = [[float(100 * means[site]) if site in means.index else None for means in best] for site in sites]
    drawing = HeatMap(
        title=title,
        rows=sites,
        columns=[table.run.name for table in enough],
        values=values,
        texts=[["" if value is None else f"{value:.0f}" for value in row] for row in values],
        hovers=[
            ["" if value is None else f"{site}: {tenths(value)} % of the possible saving left" for value in row]
            for site, row in zip(sites, values, strict=True)
        ],
        label="possible saving left untaken (%)",
        limits=(0.0, 100.0),
        notes=[_protected(table, means) for table, means in zip(enough, best, strict=True)],
    )
    return Figure(
        key="protected",
        title=title,
        drawings={"": drawing},
        caption="Mean over the best quarter of each run's trials by validation score. 100: the layer stays "
        "dense; 0: its "
        "cheapest option is taken.",
    )


def _best_quarter(table: SiteTable) -> pd.Series[float]:
    order = quality(table.rows, "val_score").astype("float64").sort_values(ascending=False, kind="stable").index
    return table.left.loc[order[: max(2, len(order) // 4)]].mean()


def _protected(table: SiteTable, means: pd.Series[float]) -> str:
    top = means.sort_values(ascending=False, kind="stable").head(3)
    words = ", ".join(f"{site} ({100 * value:.0f} %)" for site, value in top.items())
    return f"{table.run.name} protects most: {words}"
